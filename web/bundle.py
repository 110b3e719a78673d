"""Reads what deploy.py rendered into the work folder."""

from pathlib import Path

from bootstrap.config import parse_dump
from bootstrap.errors import ServeError
from bootstrap.records.documents import KINDS
from bootstrap.sums import Sums
from web.site import Rendered


def read_rendered(work: Path) -> Rendered:
    """Return the cluster and the machines' documents below `work`/bundle.

    Raises:
        ServeError: something of it is missing, damaged, or cannot be read.
    """
    try:
        bundle = Sums(work / "bundle")
        cluster = parse_dump(bundle.read("appliance/cluster.json"))
        documents = {
            (machine.mac, kind): bundle.read(f"machines/{machine.name}/{kind}.ign")
            for machine in cluster.machines
            for kind in KINDS
        }
    except OSError as error:
        raise ServeError(f"{error.filename}: {error.strerror}; run deploy.py render first") from error
    return Rendered(cluster, documents)
