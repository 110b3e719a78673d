"""Pods with `cni: bridge`: a bridge on each node, and a route on every node to the pods of each other."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from bootstrap.errors import RenderError
from bootstrap.kubernetes.documents import OWN, own_json_text
from bootstrap.kubernetes.places import CNI, POD_NETWORK, ROUTES, UNITS
from bootstrap.kubernetes.subnets import Allotment, subnet_of
from bootstrap.kubernetes.tree import HostFile
from bootstrap.model import Cluster
from bootstrap.templates import read

SERVICE = "firstlight-pod-network.service"
TIMER = "firstlight-pod-network.timer"
BRIDGE = "cni0"
WANTED = f"{UNITS}/kubelet.service.d/10-firstlight-pod-network.conf"
"""Has kubelet's unit start ours: what is synced to a running node cannot be enabled otherwise."""
RESTARTS: Mapping[str, tuple[str, ...]] = {
    ROUTES: (SERVICE,),
    POD_NETWORK: (SERVICE,),
    f"{UNITS}/{SERVICE}": (SERVICE,),
    f"{UNITS}/{TIMER}": (TIMER,),
}
"""Which of its units to restart when a file changed."""
PROTOCOL = 210
"""Marks our routes in the kernel's table (ip-route(8), `proto`); nobody in /etc/iproute2/rt_protos has it."""


_ROUTE = re.compile(rb"\broute ([0-9.]+/[0-9]+) ([0-9.]+)")


@dataclass(frozen=True)
class PodNetwork:
    """Where the pods of all nodes are: numbers of subnets by node, and the routes, the same text on every node.

    Without `routes` pods are routed by somebody else. Each node leaves out the route to its own.
    """

    numbers: Allotment
    routes: bytes


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
        "ipam": {"type": "host-local", "ranges": [[{"subnet": OWN}]]},
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return own_json_text(
        {"cniVersion": "0.4.0", "name": "firstlight", "plugins": [bridge, portmap]}, str(subnet)
    )


def laid_out(cluster: Cluster, numbers: Allotment) -> PodNetwork:
    """Return the pod network of `cluster` with these numbers of subnets."""
    if cluster.kubernetes.cni.plugin != "bridge":
        return PodNetwork(numbers, b"")
    lines = [f"pods {cluster.kubernetes.pod_subnet}"]
    places = sorted((numbers[name], address) for name, address in _addresses(cluster) if name in numbers)
    lines += [f"route {subnet_of(cluster, number)} {address}" for number, address in places]
    return PodNetwork(numbers, ("\n".join(lines) + "\n").encode())


def routes_in(text: bytes) -> dict[str, str]:
    """Return by address of a node the pod subnet that `text` leads there: routes, or a document that holds them."""
    return {address.decode(): subnet.decode() for subnet, address in _ROUTE.findall(text)}


def files(cluster: Cluster, name: str, network: PodNetwork) -> Iterator[tuple[str, HostFile]]:
    """Yield what the node called `name` has for its pods' network; nothing if that is somebody else's.

    Raises:
        RenderError: the node has no subnet.
    """
    if not network.routes:
        return
    if name not in network.numbers:
        raise RenderError(f"node {name} has no pod subnet")
    yield CNI, HostFile(conflist(subnet_of(cluster, network.numbers[name])))
    yield ROUTES, HostFile(network.routes)
    yield POD_NETWORK, HostFile(read("kubernetes/pod-network").encode(), 0o755)
    for unit in (SERVICE, TIMER):
        yield f"{UNITS}/{unit}", HostFile(read(f"systemd/{unit}").encode())
    yield WANTED, HostFile(f"[Unit]\nWants={SERVICE} {TIMER}\nAfter={SERVICE}\n".encode())


def _addresses(cluster: Cluster) -> Iterator[tuple[str, IPv4Address]]:
    for host in cluster.control_plane.hosts:
        if host.node:
            yield host.name, host.address
    for machine in cluster.machines:
        if machine.address is not None:
            yield machine.name, machine.address
