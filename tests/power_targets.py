"""Targets of power drivers: the machine of a sample configuration with a `power:` of the test's own."""

import json
from pathlib import Path
from typing import Any

from bootstrap.config import dump, parse_dump
from bootstrap.power import Target
from tests import samples


def target_of(power: dict[str, Any] | None, base: Path, name: str = "w1") -> Target:
    """Return the machine `name` of configs/lab.yaml, switched by `power`; relative paths begin in `base`."""
    tree = json.loads(dump(samples.cluster("lab")))
    for machine in tree["machines"]:
        machine["power"] = power if machine["name"] == name else None
    cluster = parse_dump(json.dumps(tree).encode())
    found = next(machine for machine in cluster.machines if machine.name == name)
    return Target(machine=found, cluster=cluster, base=base, work=base / "work")


def secret(base: Path, name: str, text: str, mode: int = 0o600) -> str:
    """Write a secret into a file in `base`, and return the file's name."""
    file = base / name
    file.write_text(f"{text}\n")
    file.chmod(mode)
    return name
