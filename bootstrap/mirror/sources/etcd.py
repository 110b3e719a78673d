"""The releases of etcd: one archive per processor, and a file with the sums of all archives."""

from bootstrap.errors import PreflightError
from bootstrap.mirror.item import Ask, Digest, Item, Wanted
from bootstrap.mirror.places import etcd_path
from bootstrap.mirror.sources import Source
from bootstrap.mirror.sums import sum_for
from bootstrap.model import Cluster
from bootstrap.programs import DATABASE

RELEASES = "https://github.com/etcd-io/etcd/releases/download"
SUMS = "SHA256SUMS"
REMEDY = "add the archive's sum as mirror.etcd.sha256"


def wanted(cluster: Cluster) -> tuple[Wanted, ...]:
    """Return the release that the configuration names."""
    given = cluster.mirror.etcd
    if given is None:
        return ()
    url = f"{(given.url or RELEASES).rstrip('/')}/{given.version}"
    return (Wanted(source="etcd", name="etcd", version=given.version, url=url, sha256=given.sha256),)


def items(wanted: Wanted, ask: Ask) -> tuple[Item, ...]:
    """Return the archive, out of which two programs are taken; raises PreflightError without a sum."""
    folder = f"etcd-{wanted.version}-linux-amd64"
    archive = f"{folder}.tar.gz"
    sum_ = wanted.sha256 or sum_for(
        archive, ask.stated(f"{wanted.url}/{SUMS}", remedy=REMEDY, longest=1 << 16)
    )
    if sum_ is None:
        raise PreflightError(f"{wanted.url}/{SUMS} holds no sum of {archive}; {REMEDY}")
    return (
        Item(
            path=etcd_path(wanted.version, archive),
            url=f"{wanted.url}/{archive}",
            digest=Digest("sha256", sum_),
            members={f"{folder}/{name}": etcd_path(wanted.version, name) for name in DATABASE},
        ),
    )


PLUGIN = Source(title="etcd's releases", wanted=wanted, items=items)
