"""Which labels a node may give itself, and what marks a node that is a control-plane host.

kubelet refuses to start with labels that it may not give itself, and NodeRestriction to take them.
"""

from collections.abc import Mapping

from bootstrap.model import Host, Pool, Taint

_RESERVED = ("kubernetes.io", "k8s.io")
_OWN_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_OWN_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.kubernetes.io/region",
        "failure-domain.kubernetes.io/zone",
    }
)
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
"""Label and taint of hosts that run the control plane, as kubeadm sets them; a node may not set the label itself."""


GPU = "firstlight/gpu"
"""Label of nodes whose driver and CUDA we look after: there NVIDIA's device plugin runs."""


def pool_labels(pool: Pool) -> Mapping[str, str]:
    """Return the labels of the nodes of `pool`: its own, and that it has GPUs which we look after."""
    is_ours = pool.gpu is not None and pool.gpu.install_cuda
    return {**pool.labels, **({GPU: "nvidia"} if is_ours else {})}


def may_label_itself(key: str) -> bool:
    """Return whether a kubelet may register with the label `key` (KEP-279, "self-labelling")."""
    prefix, slash, _ = key.rpartition("/")
    if not slash or not _is_below(prefix, _RESERVED):
        return True
    return key in _OWN_LABELS or _is_below(prefix, _OWN_PREFIXES)


def host_taints(host: Host) -> tuple[Taint, ...]:
    """Return the taints of a control-plane host's node: kubeadm's one, unless the configuration has others."""
    if host.taints is None:
        return (Taint(key=CONTROL_PLANE, effect="NoSchedule"),)
    return host.taints


def _is_below(domain: str, parents: tuple[str, ...]) -> bool:
    return any(domain == parent or domain.endswith(f".{parent}") for parent in parents)
