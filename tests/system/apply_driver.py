"""Applies a tree of the tests in a process of its own, which a failpoint may kill; the question is JSON on stdin."""

import json
import sys
from pathlib import Path

from bootstrap.lab.hosts import with_host_keys
from bootstrap.lab.rack import Rack
from bootstrap.model import Cluster
from tests.system.apply_lab import Hosts, document, tree


def main() -> None:
    asked = json.load(sys.stdin)
    work = Path(asked["work"])
    cluster = Cluster.model_validate(document(asked["name"], tuple(asked["hosts"])))
    made = Hosts(Rack(cluster, work), work, with_host_keys(cluster, work))
    outcome, said = made.apply(*(tree(host["name"], asked["version"]) for host in asked["hosts"]))
    sys.stdout.write("\n".join(said) + "\n")
    sys.exit(outcome.exit_code)


if __name__ == "__main__":
    main()
