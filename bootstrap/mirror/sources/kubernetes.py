"""Kubernetes' release server: one file per program, with its sum in a file beside it."""

from bootstrap.errors import PreflightError
from bootstrap.mirror.item import Ask, Digest, Item, Wanted
from bootstrap.mirror.places import program_path
from bootstrap.mirror.sources import Source
from bootstrap.mirror.sums import first_sum
from bootstrap.model import Cluster
from bootstrap.programs import DATABASE, OPTIONAL, needed

RELEASES = "https://dl.k8s.io"
REMEDY = "add its sum to kubernetes.binaries.sha256s"


def wanted(cluster: Cluster) -> tuple[Wanted, ...]:
    """Return the programs of the cluster, unless a folder or a program of the configuration gives them."""
    given = cluster.kubernetes.binaries
    if given.directory is not None or given.build is not None:
        return ()
    base = (cluster.mirror.kubernetes or given.mirror or RELEASES).rstrip("/")
    version = cluster.kubernetes.version
    names = (name for name in (*needed(cluster), *OPTIONAL) if name not in DATABASE)
    return tuple(
        Wanted(
            source="kubernetes",
            name=name,
            version=version,
            url=f"{base}/release/{version}/bin/linux/amd64/{name}",
            sha256=given.sha256s.get(name),
        )
        for name in names
    )


def items(wanted: Wanted, ask: Ask) -> tuple[Item, ...]:
    """Return the program; raises PreflightError when its sum cannot be believed or is none."""
    sum_ = wanted.sha256
    if sum_ is None:
        sum_ = first_sum(ask.stated(f"{wanted.url}.sha256", remedy=REMEDY))
    if sum_ is None:
        raise PreflightError(f"{wanted.url}.sha256 holds no sum; {REMEDY}")
    path = program_path(wanted.version, wanted.name)
    return (Item(path=path, url=wanted.url, digest=Digest("sha256", sum_), mode=0o755),)


PLUGIN = Source(title="Kubernetes' release binaries", wanted=wanted, items=items)
