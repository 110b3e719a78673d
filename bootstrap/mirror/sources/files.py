"""Files that the configuration names one by one, with their sums: system extensions, drivers, iPXE loaders."""

from bootstrap.mirror.item import Ask, Digest, Item, Wanted
from bootstrap.mirror.places import FILE_SHOWN, file_name, file_path
from bootstrap.mirror.sources import Source
from bootstrap.model import Cluster
from bootstrap.model.appliance import Loader, Loaders


class ByUrl(Loader):
    """A loader that is to be fetched."""

    url: str


def by_url(cluster: Cluster) -> tuple[ByUrl, ...]:
    """Return the loaders that `cluster` names by URL, each once."""
    configured = cluster.appliance.pxe.loader
    named: list[Loader | None] = [getattr(configured, kind) for kind in Loaders.model_fields]
    found = (
        ByUrl(url=one.url, sha256=one.sha256) for one in named if one is not None and one.url is not None
    )
    return tuple({one.sha256: one for one in found}.values())


def wanted(cluster: Cluster) -> tuple[Wanted, ...]:
    """Return them; the begin of its sum is a file's version, so that two of one name are two."""
    given = [(file.url, file.sha256) for file in cluster.mirror.files]
    named = dict.fromkeys((*given, *((loader.url, loader.sha256) for loader in by_url(cluster))))
    return tuple(
        Wanted(source="files", name=file_name(url), version=sum_[:FILE_SHOWN], url=url, sha256=sum_)
        for url, sum_ in named
    )


def items(wanted: Wanted, ask: Ask) -> tuple[Item, ...]:
    """Return the file; nobody is asked."""
    del ask
    assert wanted.sha256 is not None  # noqa: S101  # the configuration demands it
    path = file_path(wanted.url, wanted.sha256)
    return (Item(path=path, url=wanted.url, digest=Digest("sha256", wanted.sha256)),)


PLUGIN = Source(title="files by their sums", wanted=wanted, items=items)
