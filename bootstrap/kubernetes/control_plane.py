"""Everything of ours on a control-plane host, from the configuration and the keys; pure."""

from collections.abc import Iterator, Mapping

from bootstrap.errors import RenderError
from bootstrap.kubernetes import api_server, controllers, etcd_unit, host_node, nfs_export
from bootstrap.kubernetes.places import BIN, CA, ETCD_PKI, KUBELET_CA, PKI, UNITS
from bootstrap.kubernetes.subnets import Allotment
from bootstrap.kubernetes.tree import HostFile, HostTree, LocalFile, Unit
from bootstrap.kubernetes.units import Service, unit_of
from bootstrap.model import Cluster, Host
from bootstrap.templates import read
from certs.keyring import Keyring

SYSUSERS = "/etc/sysusers.d/firstlight.conf"
"""Makes the users that own files; apply it before any file of theirs."""
_ALWAYS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
_MEMBER = ("etcd", "etcdctl")


def host_of(cluster: Cluster, name: str) -> Host:
    """Return the control-plane host called `name`.

    Raises:
        RenderError: there is none.
    """
    for host in cluster.control_plane.hosts:
        if host.name == name:
            return host
    raise RenderError(f"there is no control-plane host {name!r}")


def wanted_binaries(cluster: Cluster, name: str) -> tuple[str, ...]:
    """Return the names of the programs that the host called `name` runs, sorted."""
    host = host_of(cluster, name)
    member = _MEMBER if name in cluster.etcd.members else ()
    return tuple(sorted((*_ALWAYS, *member, *(host_node.BINARIES if host.node else ()))))


def host_tree(
    cluster: Cluster,
    name: str,
    keyring: Keyring,
    binaries: Mapping[str, LocalFile],
    subnets: Allotment,
) -> HostTree:
    """Return all that stands on the host called `name`, and its units in start order.

    `binaries` are the programs by name, `subnets` the pod subnets of all nodes.

    Raises:
        RenderError: there is no such host, or a program, a certificate or a subnet is missing.
    """
    host = host_of(cluster, name)
    services = _services(cluster, host)
    files = dict(_files(cluster, host, keyring, subnets, binaries))
    files |= {service.file: HostFile(service.text()) for service in services}
    files |= _programs(wanted_binaries(cluster, name), binaries)
    units = [unit_of(f"{service.name}.service", service.name, files) for service in services]
    return HostTree(name, files, (*units, *_more_units(cluster, host, files)), is_node=host.node)


def _services(cluster: Cluster, host: Host) -> tuple[Service, ...]:
    etcd = [etcd_unit.service(cluster, host)] if host.name in cluster.etcd.members else []
    rest = (
        api_server.service(cluster, host),
        controllers.controllers(cluster),
        controllers.scheduler(cluster),
    )
    return (*etcd, *rest)


def _more_units(cluster: Cluster, host: Host, files: Mapping[str, HostFile]) -> Iterator[Unit]:
    if host.name in cluster.etcd.members:
        # A timer starts its service, which reads everything anew each time.
        timer = etcd_unit.SNAPSHOT_TIMER
        yield Unit(timer, (f"{UNITS}/{timer}",), etcd_unit.USER)
    if host.node:
        yield from host_node.units(files)
    yield from nfs_export.units(files)


def _files(
    cluster: Cluster, host: Host, keyring: Keyring, subnets: Allotment, binaries: Mapping[str, LocalFile]
) -> Iterator[tuple[str, HostFile]]:
    """Yield path and file of everything but unit files of services, and programs."""
    try:
        yield SYSUSERS, HostFile(read("kubernetes/sysusers.conf").encode())
        yield CA, HostFile(keyring.certificates["ca"])
        yield KUBELET_CA, HostFile(keyring.certificates["kubelet-ca"])
        yield f"{ETCD_PKI}/ca.crt", HostFile(keyring.certificates["etcd/ca"])
        yield f"{PKI}/sa.key", HostFile(keyring.keys["sa"], 0o640, group=api_server.SIGNERS)
        if host.name in cluster.etcd.members:
            yield from etcd_unit.files(host, keyring)
        yield from api_server.files(cluster, keyring)
        yield from controllers.files(cluster, keyring)
        if host.node:
            yield from host_node.files(cluster, host, subnets, binaries)
        yield from nfs_export.files(cluster, host)
    except KeyError as error:
        raise RenderError(f"{host.name}: there is no {error.args[0]} among the keys and subnets") from error


def _programs(wanted: tuple[str, ...], binaries: Mapping[str, LocalFile]) -> dict[str, HostFile]:
    missing = [name for name in wanted if name not in binaries]
    if missing:
        raise RenderError(f"the programs {', '.join(missing)} are missing")
    return {f"{BIN}/{name}": HostFile(binaries[name], 0o755) for name in wanted}
