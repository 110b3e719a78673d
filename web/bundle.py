"""Reads what deploy.py rendered into the work folder."""

from pathlib import Path

from bootstrap.config import parse_dump
from bootstrap.errors import ServeError
from bootstrap.records.documents import KINDS
from web.site import Rendered


def read_rendered(work: Path) -> Rendered:
    """Return the cluster and the machines' documents below `work`/bundle.

    Raises:
        ServeError: something of it is missing or cannot be read.
    """
    folder = work / "bundle"
    try:
        cluster = parse_dump((folder / "appliance" / "cluster.json").read_bytes())
        documents = {
            (machine.mac, kind): (folder / "machines" / machine.name / f"{kind}.ign").read_bytes()
            for machine in cluster.machines
            for kind in KINDS
        }
    except OSError as error:
        raise ServeError(f"{error.filename}: {error.strerror}; run deploy.py render first") from error
    return Rendered(cluster, documents)
