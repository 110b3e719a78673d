"""Files that the configuration names one by one, with their sums: system extensions, drivers."""

import re
from urllib.parse import urlsplit

from bootstrap.mirror.item import Ask, Digest, Item, Wanted
from bootstrap.mirror.sources import Source
from bootstrap.model import Cluster

SHOWN = 12
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def wanted(cluster: Cluster) -> tuple[Wanted, ...]:
    """Return them; the begin of its sum is a file's version, so that two of one name are two."""
    return tuple(
        Wanted(
            source="files",
            name=_name(given.url),
            version=given.sha256[:SHOWN],
            url=given.url,
            sha256=given.sha256,
        )
        for given in cluster.mirror.files
    )


def _name(url: str) -> str:
    name = urlsplit(url).path.rpartition("/")[2]
    return name if _NAME.fullmatch(name) else "file"


def items(wanted: Wanted, ask: Ask) -> tuple[Item, ...]:
    """Return the file; nobody is asked."""
    del ask
    assert wanted.sha256 is not None  # noqa: S101  # the configuration demands it
    path = f"files/{wanted.version}/{wanted.name}"
    return (Item(path=path, url=wanted.url, digest=Digest("sha256", wanted.sha256)),)


PLUGIN = Source(title="files by their sums", wanted=wanted, items=items)
