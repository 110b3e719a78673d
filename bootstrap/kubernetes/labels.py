"""Which labels a node may give itself: kubelet refuses to start with others, and NodeRestriction to take them."""

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
"""Label and taint of hosts that run the control plane; only an administrator may set the label."""


def may_label_itself(key: str) -> bool:
    """Return whether a kubelet may register with the label `key` (KEP-279, "self-labelling")."""
    prefix, slash, _ = key.rpartition("/")
    if not slash or not _is_below(prefix, _RESERVED):
        return True
    return key in _OWN_LABELS or _is_below(prefix, _OWN_PREFIXES)


def _is_below(domain: str, parents: tuple[str, ...]) -> bool:
    return any(domain == parent or domain.endswith(f".{parent}") for parent in parents)
