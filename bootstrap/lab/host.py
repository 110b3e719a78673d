"""What a control-plane host of the rack is, what is written into it, and the command that starts it; pure.

A host is a systemd-nspawn container with its own systemd, SSH server and network; its cable ends in the rack's bridge.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

from bootstrap.errors import LabError
from bootstrap.lab import node
from bootstrap.model import Cluster
from certs.secret import Secret

NSPAWN = "systemd-nspawn"
ROOT_USER = "root"
SSH_PORT = 22
CARD = "host0"
"""What nspawn calls a container's network interface."""


@dataclass(frozen=True, kw_only=True)
class LabHost:
    """A host: its name and address on the rack's network, how it is logged in to, and whether it is to be a node."""

    name: str
    address: IPv4Interface
    port: int
    user: str
    node: bool = False


def hosts_from(cluster: Cluster) -> tuple[LabHost, ...]:
    """Return the hosts of `lab.hosts`, in its order.

    Raises:
        LabError: one stands for no control-plane host; a checked configuration has none such.
    """
    listed = {host.name: host for host in cluster.control_plane.hosts}
    wanted = cluster.lab.hosts if cluster.lab else ()
    unknown = [host.name for host in wanted if host.name not in listed]
    if unknown:
        raise LabError(f"lab.hosts: {unknown[0]} is not under controlPlane.hosts; write it there")
    prefix = cluster.appliance.address.network.prefixlen
    return tuple(
        LabHost(
            name=host.name,
            address=IPv4Interface((listed[host.name].address, prefix)),
            port=listed[host.name].port,
            user=listed[host.name].user,
            node=listed[host.name].node,
        )
        for host in wanted
    )


def container_name(folder: Path) -> str:
    """Return what systemd-nspawn and the cgroups call the host in `folder` (absolute): 12 characters.

    It follows from the path, so that racks of one name in two work folders have one each. The interface at the
    other end of its cable has three more, which is all that the kernel allows.
    """
    return f"fl{hashlib.sha256(bytes(folder)).hexdigest()[:10]}"


def port_of(folder: Path) -> str:
    """Return the bridge's port that the host in `folder` is plugged into (systemd-nspawn(1), --network-bridge=)."""
    return f"vb-{container_name(folder)}"


def argv(host: LabHost, folder: Path, *, namespace: Path, bridge: str) -> tuple[str, ...]:
    """Return the command that boots the host in `folder` and ends when it is off; stdout is its console.

    It only enters the network namespace, as `ip netns exec` would hide the cgroups as well.
    """
    return (
        *("nsenter", f"--net={namespace}"),
        *(NSPAWN, f"--directory={folder / 'root'}", "--boot"),
        *(f"--machine={container_name(folder)}", f"--hostname={host.name}"),
        # No systemd of this computer is told: there may be none.
        *("--register=no", "--keep-unit", "--link-journal=no"),
        *("--resolv-conf=off", "--timezone=off", "--console=read-only"),
        f"--network-bridge={bridge}",
        # runc gives each container a session keyring, and takes its devices by a program for the kernel.
        *(("--system-call-filter=@keyring bpf",) if host.node else ()),
    )


def files_once(host: LabHost) -> Mapping[str, str]:
    """Return what a new root gets, by path in it; the host and who works on it may change these."""
    return {
        "etc/hostname": f"{host.name}\n",
        "etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n",
    }


def files(
    host: LabHost, authorized: Sequence[str], key: Secret, public: str
) -> Mapping[str, tuple[bytes, int]]:
    """Return what the root holds at every start, by path in it: content and permission bits.

    `key` is its SSH host key, `public` the line that belongs to it; `authorized` are lines of public keys.
    """
    network = (
        f"[Match]\nName={CARD}\n[Network]\nAddress={host.address}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    )
    sshd = f"Port {host.port}\nHostKey /etc/ssh/ssh_host_ed25519_key\n"
    found = {
        "etc/systemd/network/10-firstlight-lab.network": (network.encode(), 0o644),
        "etc/ssh/sshd_config.d/20-firstlight-lab.conf": (sshd.encode(), 0o644),
        "etc/ssh/ssh_host_ed25519_key": (key.reveal(), 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": (f"{public}\n".encode(), 0o644),
        "root/.ssh/authorized_keys": ("".join(f"{line}\n" for line in authorized).encode(), 0o600),
    }
    if host.node:
        found |= node.files()
    if host.user != ROOT_USER:
        found["etc/sudoers.d/firstlight-lab"] = (f"{host.user} ALL=(ALL) NOPASSWD: ALL\n".encode(), 0o440)
    return found


def known_hosts_line(host: LabHost, public: str) -> str:
    """Return the line of a known_hosts file (sshd(8)) that holds the host's key."""
    place = str(host.address.ip) if host.port == SSH_PORT else f"[{host.address.ip}]:{host.port}"
    return f"{place} {' '.join(public.split()[:2])}\n"
