"""The kubelet of a control-plane host that is a node too; its key is made there, and `apply` certifies it."""

from collections.abc import Iterator, Mapping

from bootstrap.kubernetes import kubelet, nodes, pod_network
from bootstrap.kubernetes.controllers import own_server
from bootstrap.kubernetes.kubeconfig import PemFiles, referring_kubeconfig
from bootstrap.kubernetes.labels import host_taints
from bootstrap.kubernetes.places import (
    BIN,
    CA,
    HOST_CNI_PLUGINS,
    HOST_CONTAINERD,
    HOST_RESOLV_CONF,
    IMAGES,
    KUBELET_CONFIG,
    KUBELET_ENVIRONMENT,
    KUBELET_KUBECONFIG,
    KUBELET_PEM,
    OWN_CNI_PLUGINS,
    PROXY_CONFIG,
    UNITS,
)
from bootstrap.kubernetes.subnets import Allotment
from bootstrap.kubernetes.tree import ROOT, HostFile, LocalFile, Unit
from bootstrap.kubernetes.units import reads_of
from bootstrap.model import Cluster, Host
from bootstrap.programs import CNI_PLUGINS, IMAGE
from bootstrap.templates import read

BINARIES = ("kube-proxy", "kubelet")
CERTIFIED = ("kubelet.service", "kube-proxy.service")
"""The units that call the API server with the node's certificate."""
_IMPORT = "firstlight-images.service"
_FLANNEL_S_FOLDER = "/opt/cni/bin"
_DROP_INS = {
    "containerd.service.d/10-firstlight.conf": "systemd/host-containerd.conf",
    "kubelet.service.d/10-joined.conf": "systemd/joined.conf",
    "kubelet.service.d/20-host.conf": "systemd/host-kubelet.conf",
    "kube-proxy.service.d/10-joined.conf": "systemd/joined.conf",
}


def files(
    cluster: Cluster, host: Host, subnets: Allotment, binaries: Mapping[str, LocalFile]
) -> Iterator[tuple[str, HostFile]]:
    """Yield what a kubelet and kube-proxy on `host` read, their units, and images and CNI plugins among `binaries`."""
    plan = _plan(host)
    yield KUBELET_KUBECONFIG, HostFile(_kubeconfig(cluster, host))
    yield KUBELET_CONFIG, HostFile(kubelet.configuration(cluster, plan))
    yield KUBELET_ENVIRONMENT, HostFile(kubelet.environment(cluster, plan))
    yield PROXY_CONFIG, HostFile(kubelet.proxy_configuration(cluster, plan))
    yield HOST_CONTAINERD, HostFile(nodes.containerd_text(cluster, _cni_plugins(cluster), restricted=True))
    yield nodes.SYSCTL, HostFile(read("kubernetes/sysctl.conf").encode())
    yield nodes.MODULES, HostFile(read("kubernetes/modules.conf").encode())
    yield from pod_network.files(cluster, host.name, pod_network.laid_out(cluster, subnets))
    for path, template in _DROP_INS.items():
        yield f"{UNITS}/{path}", HostFile(read(template).encode())
    if all(name in binaries for name in CNI_PLUGINS):
        for name in CNI_PLUGINS:
            yield f"{OWN_CNI_PLUGINS}/{name}", HostFile(binaries[name], 0o755)
    images = {f"{IMAGES}/{name}": HostFile(file) for name, file in binaries.items() if name.endswith(IMAGE)}
    yield from images.items()
    for name in (*CERTIFIED, *([_IMPORT] if images else [])):
        yield f"{UNITS}/{name}", HostFile(read(f"systemd/{name}").encode())


def units(files: Mapping[str, HostFile]) -> Iterator[Unit]:
    """Yield the units of a node, in start order; containerd is the host's own, and is restarted for its file."""
    yield Unit("systemd-modules-load.service", (nodes.MODULES,), ROOT)
    yield Unit("systemd-sysctl.service", (nodes.SYSCTL,), ROOT)
    yield Unit(
        "containerd.service", (HOST_CONTAINERD, f"{OWN_CNI_PLUGINS}/", f"{UNITS}/containerd.service.d/"), ROOT
    )
    if f"{UNITS}/{_IMPORT}" in files:
        yield Unit(_IMPORT, (f"{IMAGES}/", f"{UNITS}/{_IMPORT}"), ROOT)
    for name in (pod_network.SERVICE, pod_network.TIMER):
        if f"{UNITS}/{name}" in files:
            yield Unit(name, reads_of(f"{UNITS}/{name}", files), ROOT)
    for name in CERTIFIED:
        program = f"{BIN}/{name.removesuffix('.service')}"
        reads = {*reads_of(f"{UNITS}/{name}", files), program, f"{UNITS}/{name}.d/"}
        yield Unit(name, tuple(sorted(reads)), ROOT)


def _cni_plugins(cluster: Cluster) -> str:
    """Return the folder of the CNI plugins; all but ours are brought by pods, which put them into this one."""
    return HOST_CNI_PLUGINS if cluster.kubernetes.cni.plugin == "bridge" else _FLANNEL_S_FOLDER


def _plan(host: Host) -> kubelet.Kubelet:
    return kubelet.Kubelet(
        name=host.name,
        address=host.address,
        resolv_conf=HOST_RESOLV_CONF,
        is_own=False,
        taints=host_taints(host),
    )


def _kubeconfig(cluster: Cluster, host: Host) -> bytes:
    return referring_kubeconfig(
        name=cluster.metadata.name,
        server=own_server(cluster),
        ca=CA,
        user=f"system:node:{host.name}",
        files=PemFiles(KUBELET_PEM, KUBELET_PEM),
    )
