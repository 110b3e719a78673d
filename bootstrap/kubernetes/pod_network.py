"""Pods with `cni: bridge`: a bridge on each node, and a route on every node to the pods of each other."""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from types import MappingProxyType

from bootstrap.kubernetes.documents import json_text
from bootstrap.kubernetes.places import POD_NETWORK
from bootstrap.kubernetes.subnets import Allotment, subnet_of
from bootstrap.model import Cluster
from bootstrap.templates import read

SERVICE = "firstlight-pod-network.service"
TIMER = "firstlight-pod-network.timer"
BRIDGE = "cni0"
PROTOCOL = 210
"""Marks our routes in the kernel's table (ip-route(8), `proto`); nobody in /etc/iproute2/rt_protos has it."""


def conflist(subnet: IPv4Network) -> bytes:
    """Return the CNI configuration of a node whose pods have `subnet`.

    Nothing is masqueraded here: the plugin would hide the pod from pods on other nodes. `pod-network` does it for
    what leaves the pods' network. containerd makes loopback by itself.
    """
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "isDefaultGateway": True,
        "hairpinMode": True,
        "ipMasq": False,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": str(subnet)}]]},
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json_text({"cniVersion": "0.4.0", "name": "firstlight", "plugins": [bridge, portmap]})


def routes(cluster: Cluster, subnets: Allotment) -> bytes:
    """Return where each node's pods are: the same text for every node, which leaves out what is its own."""
    lines = [f"pods {cluster.kubernetes.pod_subnet}"]
    places = sorted((subnets[name], address) for name, address in _addresses(cluster) if name in subnets)
    lines += [f"route {subnet_of(cluster, number)} {address}" for number, address in places]
    return ("\n".join(lines) + "\n").encode()


def units(cluster: Cluster) -> Mapping[str, str]:
    """Return the units of the pod network, by name; none if the pods are somebody else's."""
    if cluster.kubernetes.cni.plugin != "bridge":
        return MappingProxyType({})
    return {name: read(f"systemd/{name}") for name in (SERVICE, TIMER)}


def programs(cluster: Cluster) -> Mapping[str, bytes]:
    """Return the programs that those units run, by path; each has mode 0755."""
    if cluster.kubernetes.cni.plugin != "bridge":
        return MappingProxyType({})
    return {POD_NETWORK: read("kubernetes/pod-network").encode()}


def _addresses(cluster: Cluster) -> Iterator[tuple[str, IPv4Address]]:
    for host in cluster.control_plane.hosts:
        if host.node:
            yield host.name, host.address
    for machine in cluster.machines:
        if machine.address is not None:
            yield machine.name, machine.address
