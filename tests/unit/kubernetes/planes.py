"""Trees of control-plane hosts for tests: keys made once a session, programs that exist in name only."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from bootstrap.keys import names_from
from bootstrap.kubernetes.control_plane import host_tree, wanted_binaries
from bootstrap.kubernetes.subnets import allotment
from bootstrap.kubernetes.tree import HostTree, LocalFile
from bootstrap.model import Cluster
from certs.keyring import Keyring
from certs.keystore import Keystore
from certs.wanted import break_glass, rows
from tests import samples

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def cluster_of(name: str, *, version: str = "", nodes: bool = False) -> Cluster:
    """Return a sample, of another version, or with hosts that run kubelets."""
    cluster = samples.cluster(name)
    hosts = tuple(host.model_copy(update={"node": nodes}) for host in cluster.control_plane.hosts)
    plane = cluster.control_plane.model_copy(update={"hosts": hosts})
    kubernetes = cluster.kubernetes.model_copy(update={"version": version or cluster.kubernetes.version})
    return cluster.model_copy(update={"control_plane": plane, "kubernetes": kubernetes})


@cache
def keyring_of(name: str) -> Keyring:
    """Return the keys for a sample, the same ones all session."""
    wanted = (*rows(names_from(cluster_of(name))), break_glass())
    with TemporaryDirectory() as folder:
        return Keystore(Path(folder)).ensure(wanted, NOW)


def programs(cluster: Cluster, host: str) -> Mapping[str, LocalFile]:
    """Return what the host runs; each has a sum of its own."""
    names = wanted_binaries(cluster, host)
    return {name: LocalFile(Path("/srv/kubernetes") / name, f"{n:064x}") for n, name in enumerate(names)}


def tree_of(name: str, host: str = "m1", *, version: str = "", nodes: bool = False) -> HostTree:
    """Return the tree of a host of a sample."""
    cluster = cluster_of(name, version=version, nodes=nodes)
    keyring = keyring_of(name)
    return host_tree(cluster, host, keyring, programs(cluster, host), allotment(cluster))


def text_of(tree: HostTree, path: str) -> str:
    """Return a public text of a tree."""
    content = tree.files[path].content
    assert isinstance(content, bytes)
    return content.decode()


def flags_of(tree: HostTree, service: str) -> dict[str, str]:
    """Return the flags of a service by name, in their order."""
    text = text_of(tree, f"/etc/systemd/system/{service}.service").replace("\\\n", " ")
    line = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    words = line.split()[1:]
    return {name: value for name, _, value in (word.removeprefix("--").partition("=") for word in words)}
