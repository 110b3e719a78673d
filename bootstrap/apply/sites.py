"""What applying knows of a cluster, put together from its configuration, its keys and its work folder."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from bootstrap import binaries, ssh
from bootstrap.allotment import pod_subnets
from bootstrap.apply.control_plane import Site
from bootstrap.etcd import Credentials
from bootstrap.keys import FOLDER, first_binder_keys, node_certificate_for
from bootstrap.kubernetes import rbac, runtimes
from bootstrap.kubernetes.access import Access
from bootstrap.kubernetes.control_plane import host_tree
from bootstrap.kubernetes.tree import HostTree, LocalFile
from bootstrap.lab.hosts import with_host_keys
from bootstrap.lab.rack import Rack
from bootstrap.lab.ssh import key_file
from bootstrap.model import Cluster
from bootstrap.progress import Progress, silent
from bootstrap.workplace import Workplace
from certs.keyring import Keyring
from certs.secret import Secret

KNOWN_HOSTS = "known_hosts"
"""Folder of the work folder; a host's key is `<name>.pub` in it."""


def trees_of(
    cluster: Cluster,
    place: Workplace,
    keyring: Keyring,
    *,
    base: Path,
    keep: bool = True,
    progress: Progress = silent,
) -> tuple[HostTree, ...]:
    """Return the tree of each control-plane host; `base` is where relative paths of the configuration begin.

    With `keep`, new pod subnets are written down.

    Raises:
        PreflightError: programs are missing or damaged; names all of them.
        ImageError: what makes them failed.
        StateError: the record of pod subnets is damaged.
    """
    found = binaries.resolve(cluster, base=base, cache=place.cache, progress=progress)
    return trees_with(cluster, place, keyring, found, keep=keep)


def trees_with(
    cluster: Cluster, place: Workplace, keyring: Keyring, found: Mapping[str, LocalFile], *, keep: bool = True
) -> tuple[HostTree, ...]:
    """Return the tree of each control-plane host with the programs `found`; raises StateError as `trees_of`."""
    subnets = pod_subnets(cluster, place.work, keep=keep)
    return tuple(
        host_tree(cluster, host.name, keyring, found, subnets) for host in cluster.control_plane.hosts
    )


def site_of(
    cluster: Cluster,
    work: Path,
    keyring: Keyring,
    trees: tuple[HostTree, ...],
    *,
    passphrase: Secret | None = None,
    ask: Callable[[str], bool] | None = None,
) -> Site:
    """Return everything that `apply_cluster` and `plan_cluster` want; in a lab, the way there leads into it.

    Raises:
        LabError: a key of the lab is damaged.
    """
    return Site(
        cluster=with_host_keys(cluster, work),
        work=work,
        trees=trees,
        way=way_of(cluster, work),
        etcd_client=_etcd_client(keyring) if cluster.etcd.members else None,
        access=access_of(cluster, work),
        objects=(*rbac.objects(), *runtimes.objects(cluster)),
        binder=lambda: first_binder_keys(cluster, work, datetime.now(UTC), passphrase),
        certify=lambda name, request: node_certificate_for(
            cluster, keyring, name, request, datetime.now(UTC)
        ),
        ask=ask,
    )


def _etcd_client(keyring: Keyring) -> Credentials:
    row = "etcd/healthcheck-client"
    return Credentials(keyring.certificates["etcd/ca"], keyring.certificates[row], keyring.keys[row])


def access_of(cluster: Cluster, work: Path) -> Access:
    """Return how an administrator reaches the API servers: each of them, if the endpoint is a name for all."""
    pki = work / FOLDER
    return Access(
        servers=servers_of(cluster),
        authority=pki / "ca.crt",
        certificate=pki / "admin.crt",
        key=pki / "admin.key",
    )


def servers_of(cluster: Cluster) -> tuple[str, ...]:
    """Return the URLs of the API servers: that of the endpoint if it is an address, else each host's.

    A name is one that the nodes' hosts files know, with all addresses; this computer need not know it.
    """
    endpoint = cluster.kubernetes.control_plane_endpoint
    if cluster.kubernetes.endpoint_host.replace(".", "").isdigit():
        return (f"https://{endpoint}",)
    port = cluster.kubernetes.endpoint_port
    return tuple(f"https://{host.address}:{port}" for host in cluster.control_plane.hosts)


def way_of(cluster: Cluster, work: Path) -> ssh.Way:
    """Return how the control-plane hosts are reached: in a lab, through its namespace."""
    known = work / KNOWN_HOSTS
    if cluster.lab is None or not cluster.lab.hosts:
        return ssh.Way(known)
    return ssh.Way(known, wrap=Rack(cluster, work).in_namespace, key=key_file(work.resolve()))
