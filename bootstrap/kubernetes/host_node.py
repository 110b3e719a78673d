"""The kubelet of a control-plane host that is a node too; its certificates come with `apply`, not by joining."""

from collections.abc import Iterator, Mapping

from bootstrap.kubernetes import kubelet, nodes, pod_network
from bootstrap.kubernetes.controllers import own_server
from bootstrap.kubernetes.kubeconfig import PemFiles, referring_kubeconfig
from bootstrap.kubernetes.labels import CONTROL_PLANE
from bootstrap.kubernetes.places import (
    CA,
    CONTAINERD,
    KUBELET_CONFIG,
    KUBELET_ENVIRONMENT,
    KUBELET_KUBECONFIG,
    PKI,
    PROXY_CONFIG,
    UNITS,
)
from bootstrap.kubernetes.subnets import Allotment
from bootstrap.kubernetes.tree import ROOT, HostFile, Unit
from bootstrap.kubernetes.units import reads_of
from bootstrap.model import Cluster, Host, Taint
from bootstrap.templates import read
from certs.keyring import Keyring

BINARIES = ("kube-proxy", "kubelet")
_RESOLV_CONF = "/etc/resolv.conf"
_CNI_PLUGINS = "/usr/lib/cni"
_SERVICES = ("kubelet.service", "kube-proxy.service")


def files(
    cluster: Cluster, host: Host, keyring: Keyring, subnets: Allotment
) -> Iterator[tuple[str, HostFile]]:
    """Yield what a kubelet and kube-proxy on `host` read, and their units."""
    plan = _plan(host)
    for role, file in (("client", "kubelet-client"), ("server", "kubelet")):
        yield f"{PKI}/{file}.crt", HostFile(keyring.certificates[f"kubelet/{role}-{host.name}"])
        yield f"{PKI}/{file}.key", HostFile(keyring.keys[f"kubelet/{role}-{host.name}"], 0o600)
    yield KUBELET_KUBECONFIG, HostFile(_kubeconfig(cluster, host))
    yield KUBELET_CONFIG, HostFile(kubelet.configuration(cluster, plan))
    yield KUBELET_ENVIRONMENT, HostFile(kubelet.environment(cluster, plan))
    yield PROXY_CONFIG, HostFile(kubelet.proxy_configuration(cluster, plan))
    yield CONTAINERD, HostFile(nodes.containerd_text(cluster, _CNI_PLUGINS))
    yield nodes.SYSCTL, HostFile(read("kubernetes/sysctl.conf").encode())
    yield nodes.MODULES, HostFile(read("kubernetes/modules.conf").encode())
    yield from pod_network.files(cluster, host.name, pod_network.laid_out(cluster, subnets))
    for name in _SERVICES:
        yield f"{UNITS}/{name}", HostFile(read(f"systemd/{name}").encode())


def units(files: Mapping[str, HostFile]) -> Iterator[Unit]:
    """Yield the units of a node, in start order; containerd is the host's own, and is restarted for its file."""
    yield Unit("containerd.service", (CONTAINERD,), ROOT)
    for name in (pod_network.SERVICE, pod_network.TIMER, *_SERVICES):
        if f"{UNITS}/{name}" in files:
            yield Unit(name, reads_of(f"{UNITS}/{name}", files), ROOT)


def _plan(host: Host) -> kubelet.Kubelet:
    taint = Taint(key=CONTROL_PLANE, effect="NoSchedule")
    return kubelet.Kubelet(
        name=host.name, address=host.address, resolv_conf=_RESOLV_CONF, is_own=False, taints=(taint,)
    )


def _kubeconfig(cluster: Cluster, host: Host) -> bytes:
    return referring_kubeconfig(
        name=cluster.metadata.name,
        server=own_server(cluster),
        ca=CA,
        user=f"system:node:{host.name}",
        files=PemFiles(f"{PKI}/kubelet-client.crt", f"{PKI}/kubelet-client.key"),
    )
