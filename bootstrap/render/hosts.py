"""What a bare control-plane host reads before `apply` can reach it: Ignition, or cloud-init; all of it public."""

from collections.abc import Iterator, Mapping
from typing import Any

from bootstrap.config import to_yaml
from bootstrap.model import Cluster, Host
from bootstrap.render import ignition
from bootstrap.templates import render

HOSTS = "hosts"
_SUDOERS = "/etc/sudoers.d/50-firstlight"


def host_documents(cluster: Cluster) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of the documents of each control-plane host.

    `host.ign` is for Flatcar and Fedora CoreOS; `user-data`, `meta-data` and, if the host's card is known,
    `network-config` are a seed of cloud-init's NoCloud for Debian and Ubuntu.
    """
    for host in cluster.control_plane.hosts:
        folder = f"{HOSTS}/{host.name}"
        yield f"{folder}/host.ign", host_ignition(cluster, host)
        yield f"{folder}/meta-data", _yaml({"instance-id": host.name, "local-hostname": host.name})
        if host.mac:
            yield f"{folder}/network-config", _yaml(_network(cluster, host, host.mac))
        yield f"{folder}/user-data", b"#cloud-config\n" + _yaml(_user_data(cluster, host))


def host_ignition(cluster: Cluster, host: Host) -> bytes:
    """Return the Ignition document that makes a bare host ready for `apply`."""
    files = [ignition.file("/etc/hostname", f"{host.name}\n")]
    if host.user != "root":
        files.append(ignition.file(_SUDOERS, f"{_sudo(host)}\n", mode=0o440))
    if host.mac:
        files += _network_files(cluster, host, host.mac)
    return ignition.document(
        files=files,
        # Hosts of the control plane restart when the operator says so, one after the other.
        units=(ignition.masked("locksmithd.service"), ignition.masked("zincati.service")),
        users=(ignition.user(host.user, cluster.ssh.authorized_keys),),
    )


def _network_files(cluster: Cluster, host: Host, mac: str) -> Iterator[ignition.Node]:
    """Yield the fixed address for both network managers; each leaves the other's file alone."""
    prefixlen, gateway = cluster.route_of(host.address)
    values = {
        "mac": mac,
        "address": f"{host.address}/{prefixlen}",
        "gateway": gateway or "",
        "dns": [str(server) for server in cluster.appliance.dns],
    }
    networkd = render("systemd/host.network.j2", **values)
    manager = render("systemd/host.nmconnection.j2", **values)
    yield ignition.file("/etc/systemd/network/10-firstlight.network", networkd)
    path = "/etc/NetworkManager/system-connections/firstlight.nmconnection"
    yield ignition.file(path, manager, mode=0o600)


def _user_data(cluster: Cluster, host: Host) -> Mapping[str, object]:
    user: dict[str, object] = {"name": host.user}
    if cluster.ssh.authorized_keys:  # an empty list is refused
        user["ssh_authorized_keys"] = sorted(cluster.ssh.authorized_keys)
    if host.user != "root":
        user |= {
            "sudo": _sudo(host).removeprefix(f"{host.user} "),
            "shell": "/bin/bash",
            "lock_passwd": True,
        }
    return {
        "hostname": host.name,
        "fqdn": f"{host.name}.{cluster.appliance.domain}",
        "preserve_hostname": False,
        "ssh_pwauth": False,
        "disable_root": host.user != "root",
        "users": [user],
    }


def _network(cluster: Cluster, host: Host, mac: str) -> Mapping[str, object]:
    """Return cloud-init's network configuration, version 2."""
    prefixlen, gateway = cluster.route_of(host.address)
    card: dict[str, Any] = {
        "match": {"macaddress": mac},
        "addresses": [f"{host.address}/{prefixlen}"],
        "dhcp4": False,
    }
    if gateway:
        card["routes"] = [{"to": "0.0.0.0/0", "via": str(gateway)}]
    if cluster.appliance.dns:
        card["nameservers"] = {"addresses": [str(server) for server in cluster.appliance.dns]}
    return {"version": 2, "ethernets": {"firstlight": card}}


def _sudo(host: Host) -> str:
    return f"{host.user} ALL=(ALL) NOPASSWD:ALL"


def _yaml(values: Mapping[str, object]) -> bytes:
    return to_yaml(values).encode()
