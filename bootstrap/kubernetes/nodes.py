"""The documents of a node that the appliance serves to it: kubelet, container runtime, pod network; all public."""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Address

from bootstrap import families, rooms
from bootstrap.errors import RenderError
from bootstrap.families import OSFamily
from bootstrap.kubernetes import kubelet, pod_network
from bootstrap.kubernetes.documents import json_text
from bootstrap.kubernetes.kubeconfig import PemFiles, referring_kubeconfig
from bootstrap.kubernetes.places import (
    CA,
    CNI,
    CONTAINERD,
    KUBELET_CONFIG,
    KUBELET_ENVIRONMENT,
    KUBELET_KUBECONFIG,
    KUBELET_PEM,
    PROXY_CONFIG,
    ROUTES,
)
from bootstrap.kubernetes.subnets import Allotment, subnet_of
from bootstrap.kubernetes.tree import HostFile
from bootstrap.model import Cluster, Machine
from bootstrap.templates import read, render

HOSTS = "/etc/hosts"
SYSCTL = "/etc/sysctl.d/90-firstlight.conf"
MODULES = "/etc/modules-load.d/firstlight.conf"
_KUBELET, _PROXY, _CONTAINERD = "kubelet.service", "kube-proxy.service", "containerd.service"

RESTARTS: Mapping[str, tuple[str, ...]] = {
    CA: (_KUBELET, _PROXY),
    KUBELET_KUBECONFIG: (_KUBELET, _PROXY),
    KUBELET_CONFIG: (_KUBELET,),
    KUBELET_ENVIRONMENT: (_KUBELET,),
    PROXY_CONFIG: (_PROXY,),
    CONTAINERD: (_CONTAINERD, _KUBELET),
    ROUTES: (pod_network.SERVICE,),
    MODULES: ("systemd-modules-load.service",),
    SYSCTL: ("systemd-sysctl.service",),
}
"""Which units to restart, in order, when a document changed; one that is not here is read by itself."""


def family_of(cluster: Cluster, machine: Machine) -> OSFamily:
    """Return the operating system family of `machine`.

    Raises:
        UnknownChoice: no file in the families' room has that name.
    """
    name = cluster.pool(machine.pool).os.family
    return rooms.load(families, name, OSFamily, where=f"pools.{machine.pool}.os.family")


def node_documents(cluster: Cluster, machine: Machine, ca: bytes, subnets: Allotment) -> dict[str, HostFile]:
    """Return the documents that are `machine`'s own, by absolute path, sorted.

    `ca` is the kubernetes authority's certificate in PEM, `subnets` the numbers of all pod subnets.

    Raises:
        RenderError: pods are routed by us and the machine has no subnet.
    """
    return dict(sorted(_documents(cluster, machine, ca, subnets)))


def shared_documents(cluster: Cluster, subnets: Allotment) -> dict[str, HostFile]:
    """Return the documents that are the same on every node: where each node's pods are."""
    if cluster.kubernetes.cni.plugin != "bridge":
        return {}
    return {ROUTES: HostFile(pod_network.routes(cluster, subnets))}


def _documents(
    cluster: Cluster, machine: Machine, ca: bytes, subnets: Allotment
) -> Iterator[tuple[str, HostFile]]:
    family, plan = family_of(cluster, machine), _plan(cluster, machine)
    yield CA, HostFile(ca)
    yield HOSTS, HostFile(hosts_text(cluster, machine.name))
    yield KUBELET_KUBECONFIG, HostFile(node_kubeconfig(cluster, machine.name))
    yield KUBELET_CONFIG, HostFile(kubelet.configuration(cluster, plan))
    yield KUBELET_ENVIRONMENT, HostFile(kubelet.environment(cluster, plan))
    yield PROXY_CONFIG, HostFile(kubelet.proxy_configuration(cluster, plan))
    yield CONTAINERD, HostFile(containerd_text(cluster, family.cni_plugins))
    yield SYSCTL, HostFile(read("kubernetes/sysctl.conf").encode())
    yield MODULES, HostFile(read("kubernetes/modules.conf").encode())
    for path, text in family.container_files.items():
        yield path, HostFile(text.encode())
    if cluster.kubernetes.cni.plugin == "bridge":
        if machine.name not in subnets:
            raise RenderError(f"machine {machine.name} has no pod subnet")
        yield CNI, HostFile(pod_network.conflist(subnet_of(cluster, subnets[machine.name])))


def _plan(cluster: Cluster, machine: Machine) -> kubelet.Kubelet:
    pool = cluster.pool(machine.pool)
    return kubelet.Kubelet(
        name=machine.name,
        address=machine.address,
        resolv_conf=family_of(cluster, machine).resolv_conf,
        is_own=True,
        labels=pool.labels,
        taints=pool.taints,
    )


def node_kubeconfig(cluster: Cluster, name: str) -> bytes:
    """Return the kubeconfig of the node called `name`: the endpoint, and the files of its own certificate."""
    return referring_kubeconfig(
        name=cluster.metadata.name,
        server=f"https://{cluster.kubernetes.control_plane_endpoint}",
        ca=CA,
        user=f"system:node:{name}",
        files=PemFiles(KUBELET_PEM, KUBELET_PEM),
    )


@lru_cache(16)
def _containerd(sandbox_image: str, cni_plugins: str) -> bytes:
    text = render("kubernetes/containerd.toml.j2", sandbox_image=sandbox_image, cni_plugins=cni_plugins)
    return text.encode()


def containerd_text(cluster: Cluster, cni_plugins: str) -> bytes:
    """Return containerd's configuration; `cni_plugins` is the folder that holds them."""
    return _containerd(cluster.kubernetes.sandbox_image or "", cni_plugins)


def hosts_text(cluster: Cluster, name: str) -> bytes:
    """Return the hosts file of the node called `name`.

    An endpoint that is a name stands for all control-plane hosts: Go's dialer tries their addresses in turn.
    """
    own = f"{name}.{cluster.appliance.domain} {name}"
    hosts = cluster.control_plane.hosts
    lines = ["127.0.0.1 localhost", f"127.0.1.1 {own}", "::1 localhost"]
    lines += [f"{host.address} {host.name}" for host in hosts if host.name != name]
    if not _is_address(cluster.kubernetes.endpoint_host):
        lines += [f"{host.address} {cluster.kubernetes.endpoint_host}" for host in hosts]
    return ("\n".join(lines) + "\n").encode()


def documents_to_json(files: Mapping[str, HostFile]) -> bytes:
    """Return public documents as JSON, for the bundle; lines stand apart, so that a diff shows what changed.

    Raises:
        RenderError: one holds something else than text.
    """
    return json_text({path: _to_json(path, file) for path, file in files.items()})


def documents_from_json(data: bytes) -> dict[str, HostFile]:
    """Return the documents that `documents_to_json` wrote.

    Raises:
        ValueError: `data` is no such JSON.
    """
    try:
        return {
            path: HostFile("\n".join(found["lines"]).encode(), int(found["mode"], 8))
            for path, found in json.loads(data).items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"these are no documents of a node: {error}") from error


def _to_json(path: str, file: HostFile) -> dict[str, object]:
    if not isinstance(file.content, bytes):
        raise RenderError(f"{path}: a {type(file.content).__name__} is no public document")
    return {"mode": f"{file.mode:04o}", "lines": file.content.decode().split("\n")}


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True
