"""What a configuration wants of the mirror: the same configuration, the same list; nobody is asked."""

import bootstrap.mirror.sources
from bootstrap import rooms
from bootstrap.errors import UsageError
from bootstrap.mirror.item import Wanted
from bootstrap.mirror.sources import Source
from bootstrap.model import Cluster


def source(name: str) -> Source:
    """Return the source that is called `name`."""
    return rooms.load(bootstrap.mirror.sources, name, Source, where="mirror")


def wanted(cluster: Cluster) -> tuple[Wanted, ...]:
    """Return all that `cluster` is made from, by source.

    Raises:
        UsageError: the configuration says too little; a line for each thing to add.
    """
    found = tuple(
        item for name in rooms.names(bootstrap.mirror.sources) for item in source(name).wanted(cluster)
    )
    if lacks := _lacks(cluster, found):
        raise UsageError("\n".join(lacks))
    return found


def _lacks(cluster: Cluster, found: tuple[Wanted, ...]) -> tuple[str, ...]:
    """Return what to add to the configuration, a line for each thing."""
    sources = {item.source for item in found}
    unsigned = [item.source for item in found if item.source in _KEYS and item.keys is None]
    lines = [
        f"{_KEYS[name]} is needed: add a file with the maker's public keys"
        for name in dict.fromkeys(unsigned)
    ]
    if cluster.etcd.members and "kubernetes" in sources and "etcd" not in sources:
        lines.append("mirror.etcd is needed: add the release that the members run, such as {version: v3.6.5}")
    return tuple(lines)


_KEYS = {"flatcar": "mirror.keys.flatcar", "fedora-coreos": "mirror.keys.fedoraCoreos"}
