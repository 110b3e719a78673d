"""Reads what deploy.py rendered into the work folder."""

from collections.abc import Iterator
from pathlib import Path

from bootstrap.config import parse_dump
from bootstrap.errors import ServeError
from bootstrap.records.documents import FILES, NODE
from bootstrap.render.bundle import NODES
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
            (machine.mac, kind): bundle.read(path)
            for machine in cluster.machines
            for kind, path in _paths(work / "bundle", machine.name)
        }
        shared = bundle.read(NODES) if (work / "bundle" / NODES).exists() else b""
        ca = bundle.read("appliance/provisioning-ca.crt")
    except OSError as error:
        raise ServeError(f"{error.filename}: {error.strerror}; run deploy.py render first") from error
    return Rendered(cluster, documents, shared, ca)


def _paths(bundle: Path, machine: str) -> Iterator[tuple[str, str]]:
    """Yield the kinds of documents that a machine has, and where in the bundle they are."""
    for kind, name in FILES.items():
        path = f"machines/{machine}/{name}"
        if kind != NODE or (bundle / path).exists():
            yield kind, path
