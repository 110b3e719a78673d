"""The releases of the CNI plugins: one archive per processor, with its sum in a file beside it."""

from bootstrap.errors import PreflightError
from bootstrap.mirror.item import Ask, Digest, Item, Wanted
from bootstrap.mirror.places import cni_folder
from bootstrap.mirror.sources import Source
from bootstrap.mirror.sums import sum_for
from bootstrap.model import Cluster

RELEASES = "https://github.com/containernetworking/plugins/releases/download"
REMEDY = "add the archive's sum as mirror.cniPlugins.sha256"


def wanted(cluster: Cluster) -> tuple[Wanted, ...]:
    """Return the release that the configuration names."""
    given = cluster.mirror.cni_plugins
    if given is None:
        return ()
    version = given.version
    url = f"{(given.url or RELEASES).rstrip('/')}/{version}/cni-plugins-linux-amd64-{version}.tgz"
    return (Wanted(source="cni-plugins", name="cni-plugins", version=version, url=url, sha256=given.sha256),)


def items(wanted: Wanted, ask: Ask) -> tuple[Item, ...]:
    """Return the archive; raises PreflightError when no sum of it can be believed."""
    name = wanted.url.rpartition("/")[2]
    sum_ = wanted.sha256 or sum_for(name, ask.stated(f"{wanted.url}.sha256", remedy=REMEDY))
    if sum_ is None:
        raise PreflightError(f"{wanted.url}.sha256 holds no sum of {name}; {REMEDY}")
    path = f"{cni_folder(wanted.version)}{name}"
    return (Item(path=path, url=wanted.url, digest=Digest("sha256", sum_)),)


PLUGIN = Source(title="CNI plugins", wanted=wanted, items=items)
