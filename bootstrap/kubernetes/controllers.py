"""kube-controller-manager and kube-scheduler of a control-plane host; each calls the API server beside it."""

from collections.abc import Iterator

from bootstrap.kubernetes.documents import flags, json_text
from bootstrap.kubernetes.kubeconfig import Credentials, kubeconfig
from bootstrap.kubernetes.places import CA, CONFIG, KUBELET_CA, PKI
from bootstrap.kubernetes.releases import release_of
from bootstrap.kubernetes.subnets import PREFIX
from bootstrap.kubernetes.tree import HostFile
from bootstrap.kubernetes.units import Service
from bootstrap.model import Cluster
from certs.keyring import Keyring

CONTROLLERS = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
_CONTROLLERS_CONF = f"{CONFIG}/controller-manager.conf"
_SCHEDULER_CONF = f"{CONFIG}/scheduler.conf"
_SCHEDULER_YAML = f"{CONFIG}/scheduler.yaml"


def own_server(cluster: Cluster) -> str:
    """Return the URL of the API server on the same host."""
    return f"https://127.0.0.1:{cluster.kubernetes.endpoint_port}"


def controllers(cluster: Cluster) -> Service:
    """Return the service of kube-controller-manager."""
    release = release_of(cluster.kubernetes.version)
    values = {
        **_authenticated(_CONTROLLERS_CONF),
        "kubeconfig": _CONTROLLERS_CONF,
        "leader-elect": True,
        "use-service-account-credentials": True,
        # Nodes are approved by who knows the machines, and by nobody else.
        "controllers": ["*", f"-{release.csr_approver}"],
        "service-account-private-key-file": f"{PKI}/sa.key",
        "root-ca-file": CA,
        **_signing(cluster),
        **_pod_networks(cluster),
        "profiling": False,
    }
    return Service(CONTROLLERS, (*flags(values), *release.controller_flags))


def scheduler(cluster: Cluster) -> Service:
    """Return the service of kube-scheduler."""
    release = release_of(cluster.kubernetes.version)
    ruled = {"kubeconfig": _SCHEDULER_CONF, "leader-elect": True, "profiling": False}
    values = {
        **_authenticated(_SCHEDULER_CONF),
        **({"config": _SCHEDULER_YAML} if release.scheduler else ruled),
    }
    return Service(SCHEDULER, (*flags(values), *release.scheduler_flags))


def files(cluster: Cluster, keyring: Keyring) -> Iterator[tuple[str, HostFile]]:
    """Yield what these two read and nobody else does."""
    for row, path in (("controller-manager", _CONTROLLERS_CONF), ("scheduler", _SCHEDULER_CONF)):
        content = kubeconfig(
            name=cluster.metadata.name,
            server=own_server(cluster),
            ca=keyring.certificates["ca"],
            user=f"system:kube-{row}",
            credentials=Credentials(keyring.certificates[row], keyring.keys[row]),
        )
        yield path, HostFile(content, 0o640, group=f"kube-{row}")
    yield f"{PKI}/kubelet-ca.key", HostFile(keyring.keys["kubelet-ca"], 0o640, group=CONTROLLERS)
    release = release_of(cluster.kubernetes.version)
    if release.scheduler:
        yield _SCHEDULER_YAML, HostFile(_scheduler_configuration(release.scheduler))


def _authenticated(conf: str) -> dict[str, object]:
    """Return the flags by which its own port, on loopback, lets only those in whom the API server knows."""
    return {
        "bind-address": "127.0.0.1",
        "authentication-kubeconfig": conf,
        "authorization-kubeconfig": conf,
    }


def _signing(cluster: Cluster) -> dict[str, object]:
    """Return the flags of the two signers that run; no other kind of request is ever signed."""
    return {
        "cluster-signing-kubelet-client-cert-file": KUBELET_CA,
        "cluster-signing-kubelet-client-key-file": f"{PKI}/kubelet-ca.key",
        "cluster-signing-kubelet-serving-cert-file": KUBELET_CA,
        "cluster-signing-kubelet-serving-key-file": f"{PKI}/kubelet-ca.key",
        "cluster-signing-duration": f"{cluster.kubernetes.kubelet.certificate_life}s",
    }


def _pod_networks(cluster: Cluster) -> dict[str, object]:
    """Return the flags that make it give nodes their pod subnets: flannel reads them, bridge has ours."""
    if cluster.kubernetes.cni.plugin != "flannel":
        return {"allocate-node-cidrs": False}
    return {
        "allocate-node-cidrs": True,
        "cluster-cidr": cluster.kubernetes.pod_subnet,
        "node-cidr-mask-size": PREFIX,
        "service-cluster-ip-range": cluster.kubernetes.service_subnet,
    }


def _scheduler_configuration(api_version: str) -> bytes:
    return json_text(
        {
            "apiVersion": api_version,
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": {"kubeconfig": _SCHEDULER_CONF},
            "leaderElection": {"leaderElect": True},
            "enableProfiling": False,
        }
    )
