"""CoreDNS: names of services and pods, at the address that kubelets tell pods to ask."""

import json
from collections.abc import Iterable

from bootstrap.addons import Addon, Asked, Image, Object, rendered, tolerations
from bootstrap.kubernetes.kubelet import cluster_dns

_OLDEST_WITH_SLICES = 21
"""From here on the API has endpoint slices and disruption budgets in their stable versions."""
# Digests: those that kubeadm's and others' lists of images show for these tags, found alike in several.
OLD = Image(
    "registry.k8s.io/coredns:1.7.0", "sha256:73ca82b4ce829766d4f1f10947c3a338888f876fbed0540dc849c89ff256e90c"
)
"""What kubeadm installs with v1.20: it reads endpoints, which slices of that time (v1beta1) do not replace."""
NEW = Image(
    "registry.k8s.io/coredns/coredns:v1.12.4",
    "sha256:986f04c2e15e147d00bdd51e8c51bcef3644b13ff806be7d2ff1b261d6dfbae1",
)


def images(minor: int) -> tuple[Image, ...]:
    """Return the image."""
    return (NEW if minor >= _OLDEST_WITH_SLICES else OLD,)


def documents(asked: Asked) -> Iterable[Object]:
    """Return the service and its pods."""
    return rendered(
        "coredns.yaml.j2",
        address=cluster_dns(asked.cluster),
        budget="policy/v1" if asked.minor >= _OLDEST_WITH_SLICES else "policy/v1beta1",
        domain=asked.cluster.kubernetes.dns_domain,
        image=images(asked.minor)[0].reference(asked.cluster),
        replicas=asked.options.replicas,
        tolerations=json.dumps(tolerations(asked.cluster)),
        upstream=" ".join(map(str, asked.options.upstream)) or "/etc/resolv.conf",
    )


PLUGIN = Addon(title="names inside the cluster", documents=documents, images=images)
