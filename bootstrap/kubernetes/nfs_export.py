"""The folder of volumes that a control-plane host exports: to the addresses of nodes, and to nobody else.

The server itself is the host's own (nfs-kernel-server); it reads our file beside its own ones (exports(5)).
"""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address

from bootstrap.kubernetes.places import UNITS
from bootstrap.kubernetes.tree import ROOT, HostFile, Unit
from bootstrap.model import Cluster, Host
from bootstrap.model.addons import NfsProvisioner
from bootstrap.templates import render

EXPORTS = "/etc/exports.d/firstlight.exports"
SERVICE = "firstlight-nfs-export.service"


def export_of(cluster: Cluster, host: Host) -> NfsProvisioner | None:
    """Return the addon whose folder `host` exports, or None."""
    for addon in cluster.addons:
        options = addon.nfs_provisioner
        if options is not None and options.export is not None and options.export.host == host.name:
            return options
    return None


def clients(cluster: Cluster) -> tuple[IPv4Address, ...]:
    """Return the addresses of all nodes: of machines, and of hosts that are nodes too."""
    hosts = [host.address for host in cluster.control_plane.hosts if host.node]
    machines = [machine.address for machine in cluster.machines if machine.address is not None]
    return tuple(sorted({*hosts, *machines}))


def files(cluster: Cluster, host: Host) -> Iterator[tuple[str, HostFile]]:
    """Yield the list of exports of `host`, and the unit that has it read; nothing if it exports nothing."""
    options = export_of(cluster, host)
    if options is None:
        return
    squash = "root_squash" if options.export and options.export.root_squash else "no_root_squash"
    rights = f"(rw,sync,no_subtree_check,{squash})"
    lines = "".join(f"{options.path} {address}{rights}\n" for address in clients(cluster))
    yield EXPORTS, HostFile(f"# firstlight's: the addresses of nodes.\n{lines}".encode())
    unit = render(f"systemd/{SERVICE}.j2", exports=EXPORTS, path=options.path)
    yield f"{UNITS}/{SERVICE}", HostFile(unit.encode())


def units(files: Mapping[str, HostFile]) -> Iterator[Unit]:
    """Yield the unit that has the server read the list, if there is one."""
    if EXPORTS in files:
        yield Unit(SERVICE, (EXPORTS, f"{UNITS}/{SERVICE}"), ROOT)
