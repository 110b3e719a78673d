"""The documents of a node that the appliance serves to it: kubelet, container runtime, pod network; all public."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Address

from bootstrap import families, rooms
from bootstrap.families import OSFamily
from bootstrap.gpu.images import driver_of
from bootstrap.gpu.taint import TAINT
from bootstrap.kubernetes import gpu_agent, kubelet, pod_network
from bootstrap.kubernetes.kubeconfig import PemFiles, referring_kubeconfig
from bootstrap.kubernetes.labels import pool_labels
from bootstrap.kubernetes.places import (
    CA,
    CONTAINERD,
    CONTAINERD_NVIDIA,
    KUBELET_CONFIG,
    KUBELET_ENVIRONMENT,
    KUBELET_KUBECONFIG,
    KUBELET_PEM,
    NVIDIA_RUNTIME,
    PROXY_CONFIG,
)
from bootstrap.kubernetes.pod_network import PodNetwork
from bootstrap.kubernetes.tree import HostFile
from bootstrap.model import Cluster, Machine, Taint
from bootstrap.templates import read, render

HOSTS = "/etc/hosts"
SYSCTL = "/etc/sysctl.d/90-firstlight.conf"
MODULES = "/etc/modules-load.d/firstlight.conf"
_KUBELET, _PROXY, _CONTAINERD = "kubelet.service", "kube-proxy.service", "containerd.service"

RESTARTS: Mapping[str, tuple[str, ...]] = {
    MODULES: ("systemd-modules-load.service",),
    SYSCTL: ("systemd-sysctl.service",),
    **pod_network.RESTARTS,
    CONTAINERD: (_CONTAINERD, _KUBELET),
    CONTAINERD_NVIDIA: (_CONTAINERD, _KUBELET),
    KUBELET_CONFIG: (_KUBELET,),
    KUBELET_ENVIRONMENT: (_KUBELET,),
    CA: (_KUBELET, _PROXY),
    KUBELET_KUBECONFIG: (_KUBELET, _PROXY),
    PROXY_CONFIG: (_PROXY,),
    **gpu_agent.RESTARTS,
}
"""Which units to restart, in order, when a document changed; one that is not here is read by itself."""


def family_of(cluster: Cluster, machine: Machine) -> OSFamily:
    """Return the operating system family of `machine`.

    Raises:
        UnknownChoice: no file in the families' room has that name.
    """
    name = cluster.pool(machine.pool).os.family
    return rooms.load(families, name, OSFamily, where=f"pools.{machine.pool}.os.family")


def pools_without_plugins(cluster: Cluster) -> tuple[str, ...]:
    """Return the pools with machines whose operating system brings no CNI plugins: they get ours."""
    lacking = {m.pool for m in cluster.machines if not family_of(cluster, m).has_cni_plugins}
    return tuple(pool.name for pool in cluster.pools if pool.name in lacking)


def node_documents(cluster: Cluster, machine: Machine, ca: bytes, network: PodNetwork) -> dict[str, HostFile]:
    """Return the documents of `machine` by absolute path, sorted; their content is bytes, never a Secret.

    `ca` is the kubernetes authority's certificate in PEM, `network` where the pods of all nodes are.

    Raises:
        RenderError: pods are routed by us and the machine has no subnet.
    """
    return dict(sorted(_documents(cluster, machine, ca, network)))


def restarts(files: Mapping[str, HostFile], family: OSFamily) -> dict[str, tuple[str, ...]]:
    """Return the units that read each of `files`, those to be restarted first first."""
    own = dict.fromkeys(family.container_files, (_CONTAINERD, _KUBELET))
    return {path: units for path, units in {**own, **RESTARTS}.items() if path in files}


def _documents(
    cluster: Cluster, machine: Machine, ca: bytes, network: PodNetwork
) -> Iterator[tuple[str, HostFile]]:
    family, plan = family_of(cluster, machine), _plan(cluster, machine)
    yield CA, HostFile(ca)
    yield HOSTS, HostFile(hosts_text(cluster, machine.name))
    yield KUBELET_KUBECONFIG, HostFile(node_kubeconfig(cluster, machine.name))
    yield KUBELET_CONFIG, HostFile(kubelet.configuration(cluster, plan))
    yield KUBELET_ENVIRONMENT, HostFile(kubelet.environment(cluster, plan))
    yield PROXY_CONFIG, HostFile(kubelet.proxy_configuration(cluster, plan))
    yield CONTAINERD, HostFile(containerd_text(cluster, family.cni_plugins))
    if driver_of(cluster.pool(machine.pool)) is not None:
        yield CONTAINERD_NVIDIA, HostFile(nvidia_text(cluster, family.cni_plugins))
    yield SYSCTL, HostFile(read("kubernetes/sysctl.conf").encode())
    yield MODULES, HostFile(read("kubernetes/modules.conf").encode())
    for path, text in family.container_files.items():
        yield path, HostFile(text.encode())
    yield from pod_network.files(cluster, machine.name, network)
    yield from gpu_agent.files(cluster.pool(machine.pool))


def _plan(cluster: Cluster, machine: Machine) -> kubelet.Kubelet:
    pool = cluster.pool(machine.pool)
    return kubelet.Kubelet(
        name=machine.name,
        address=machine.address,
        resolv_conf=family_of(cluster, machine).resolv_conf,
        is_own=True,
        labels=pool_labels(pool),
        taints=(*pool.taints, *((Taint(**TAINT),) if pool.gpu else ())),
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
def _containerd(sandbox_image: str, cni_plugins: str, restricted: bool) -> bytes:  # noqa: FBT001  # a cache's key
    values = {"sandbox_image": sandbox_image, "cni_plugins": cni_plugins, "restricted": restricted}
    return render("kubernetes/containerd.toml.j2", **values).encode()


def containerd_text(cluster: Cluster, cni_plugins: str, *, restricted: bool = False) -> bytes:
    """Return containerd's configuration; `cni_plugins` is the folder that holds them.

    One that is `restricted` may run where it has less power than root of a machine has.
    """
    return _containerd(cluster.kubernetes.sandbox_image or "", cni_plugins, restricted)


def nvidia_text(cluster: Cluster, cni_plugins: str) -> bytes:
    """Return containerd's second file on nodes with a GPU driver: NVIDIA's runtime beside runc, and CDI."""
    values = {"sandbox_image": cluster.kubernetes.sandbox_image or "", "cni_plugins": cni_plugins}
    return _nvidia(**values)


@lru_cache(16)
def _nvidia(sandbox_image: str, cni_plugins: str) -> bytes:
    values = {"sandbox_image": sandbox_image, "cni_plugins": cni_plugins, "restricted": False}
    return render("kubernetes/containerd-nvidia.toml.j2", nvidia=NVIDIA_RUNTIME, **values).encode()


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


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True
