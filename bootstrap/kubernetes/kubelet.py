"""The configuration of a kubelet: its file, its command line, and what kube-proxy beside it reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from bootstrap.kubernetes.documents import OWN, arguments, flags, json_text, own_json_text
from bootstrap.kubernetes.places import CA, KUBELET_CONFIG, KUBELET_KUBECONFIG
from bootstrap.kubernetes.releases import release_of
from bootstrap.model import Cluster, Taint

HEALTH_PORT = 10248
"""Where a kubelet says on loopback whether it is well."""
_TENTH = 10
"""kubeadm's habit: the tenth address of the service subnet is the name server's."""


@dataclass(frozen=True, kw_only=True)
class Kubelet:
    """What differs between kubelets.

    `is_own` is true on machines that we installed: their kernel settings are ours, and they have no swap. Other
    hosts keep what they have.
    """

    name: str
    address: IPv4Address | None
    resolv_conf: str
    is_own: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()


def configuration(cluster: Cluster, kubelet: Kubelet) -> bytes:
    """Return the KubeletConfiguration."""
    release = release_of(cluster.kubernetes.version)
    taints = [taint.model_dump(exclude_none=True) for taint in kubelet.taints]
    return json_text(
        {
            "apiVersion": release.kubelet,
            "kind": "KubeletConfiguration",
            **_access(),
            **_cluster(cluster, kubelet),
            "rotateCertificates": True,
            "serverTLSBootstrap": True,
            **({} if kubelet.is_own else {"failSwapOn": False}),
            **release.kubelet_fields,
            **({"registerWithTaints": taints} if taints and release.taints_field else {}),
        }
    )


def environment(cluster: Cluster, kubelet: Kubelet) -> bytes:
    """Return the environment file of the unit: every argument of the kubelet, in one variable."""
    release = release_of(cluster.kubernetes.version)
    values: dict[str, object] = {
        "config": KUBELET_CONFIG,
        "kubeconfig": KUBELET_KUBECONFIG,
        "hostname-override": kubelet.name,
    }
    if kubelet.address:
        values["node-ip"] = kubelet.address
    if kubelet.labels:
        values["node-labels"] = [f"{key}={value}" for key, value in sorted(kubelet.labels.items())]
    if kubelet.taints and not release.taints_field:
        values["register-with-taints"] = [_taint_text(taint) for taint in kubelet.taints]
    return f"KUBELET_ARGS={' '.join(arguments((*flags(values), *release.kubelet_flags)))}\n".encode()


def proxy_configuration(cluster: Cluster, kubelet: Kubelet) -> bytes:
    """Return the KubeProxyConfiguration; kube-proxy calls the API server as its node."""
    untouched = {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    return own_json_text(
        {
            "apiVersion": release_of(cluster.kubernetes.version).proxy,
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": KUBELET_KUBECONFIG},
            "clusterCIDR": str(cluster.kubernetes.pod_subnet),
            "hostnameOverride": OWN,
            "mode": "iptables",
            "metricsBindAddress": "127.0.0.1:10249",
            "healthzBindAddress": "127.0.0.1:10256",
            # The kernel settings of a host that is not ours stay as they are.
            **({} if kubelet.is_own else {"conntrack": untouched}),
        },
        kubelet.name,
    )


def cluster_dns(cluster: Cluster) -> IPv4Address:
    """Return the address at which pods look for names: the tenth of the service subnet."""
    return cluster.kubernetes.service_subnet[_TENTH]


def _access() -> dict[str, object]:
    """Return who may ask the kubelet: holders of certificates of `ca`, and whom the API server lets."""
    return {
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": CA},
        },
        "authorization": {"mode": "Webhook"},
        "readOnlyPort": 0,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": HEALTH_PORT,
        "tlsMinVersion": "VersionTLS12",
    }


def _cluster(cluster: Cluster, kubelet: Kubelet) -> dict[str, object]:
    return {
        "cgroupDriver": "systemd",
        "clusterDNS": [str(cluster_dns(cluster))],
        "clusterDomain": cluster.kubernetes.dns_domain,
        "protectKernelDefaults": kubelet.is_own,
        "resolvConf": kubelet.resolv_conf,
    }


def _taint_text(taint: Taint) -> str:
    value = f"={taint.value}" if taint.value else ""
    return f"{taint.key}{value}:{taint.effect}"
