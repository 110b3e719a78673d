"""metrics-server: numbers for `kubectl top` and autoscaling; it looks at the certificates of kubelets."""

import hashlib
import json
from collections.abc import Iterable

from bootstrap.addons import Addon, Asked, Image, Object, rendered, tolerations

_OLDEST_OF_NEW = 31
"""metrics-server's table of versions: 0.8 is for v1.31 and later, 0.6 for v1.19 and later."""
# Digests: found alike in several public lists of images, minikube's and k3s's among them.
OLD = Image(
    "registry.k8s.io/metrics-server/metrics-server:v0.6.4",
    "sha256:ee4304963fb035239bb5c5e8c10f2f38ee80efc16ecbdb9feb7213c17ae2e86e",
)
NEW = Image(
    "registry.k8s.io/metrics-server/metrics-server:v0.8.0",
    "sha256:89258156d0e9af60403eafd44da9676fd66f600c7934d468ccc17e42b199aee2",
)
_SUM_SHOWN = 16


def images(minor: int) -> tuple[Image, ...]:
    """Return the image."""
    return (NEW if minor >= _OLDEST_OF_NEW else OLD,)


def documents(asked: Asked) -> Iterable[Object]:
    """Return the server, and its place in the API."""
    return rendered(
        "metrics-server.yaml.j2",
        image=images(asked.minor)[0].reference(asked.cluster),
        kubelet_ca=json.dumps(asked.kubelet_ca),
        kubelet_ca_sum=json.dumps(hashlib.sha256(asked.kubelet_ca.encode()).hexdigest()[:_SUM_SHOWN]),
        tolerations=json.dumps(tolerations(asked.cluster)),
    )


PLUGIN = Addon(title="what nodes and pods use", documents=documents, images=images)
