"""node-feature-discovery, for the addons that say what a node has and do not label it themselves: pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bootstrap.addons import Image, Object, rendered
from bootstrap.model import Cluster

# Its makers name v1.24 as the oldest Kubernetes that they try it with; it calls nothing that v1.20 has not.
# Its digest could not be looked up where this was written.
IMAGE = Image("registry.k8s.io/nfd/node-feature-discovery:v0.17.3")
_TEXT = {"type": "string"}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_FOUND = {
    "type": "object",
    "properties": {
        "features": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "labels": _TEXTS,
    },
}
_OPEN: Mapping[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
# Nobody here writes rules; they only have to be there, for nfd-master watches them.
_KINDS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("NodeFeature", "Namespaced", _FOUND),
    ("NodeFeatureRule", "Cluster", _OPEN),
)
_GRAPHICS = {"sources": {"pci": {"deviceClassWhitelist": ["0300", "0302"], "deviceLabelFields": ["vendor"]}}}
"""What nfd-worker looks for on PCI: VGA and 3D controllers, labelled by their vendor (pci-10de.present)."""


def documents(
    cluster: Cluster, namespace: str, tolerations: Sequence[Mapping[str, str]], *, finds: bool = False
) -> list[Object]:
    """Return kinds, and what labels nodes; with `finds` it also looks for features of each node by itself."""
    return rendered(
        "node-feature-discovery.yaml.j2",
        finds=finds,
        image=IMAGE.reference(cluster),
        kinds=[_kind(*row) for row in _KINDS],
        namespace=namespace,
        tolerations=json.dumps(tolerations),
        worker_config=json.dumps(json.dumps(_GRAPHICS, indent=2) + "\n"),
    )


def _kind(kind: str, scope: str, spec: Mapping[str, Any]) -> dict[str, str]:
    known = {"apiVersion": _TEXT, "kind": _TEXT, "metadata": {"type": "object"}}
    schema = {"type": "object", "properties": {**known, "spec": spec, "status": _OPEN}, "required": ["spec"]}
    return {
        "kind": kind,
        "plural": f"{kind.lower()}s",
        "scope": scope,
        "singular": kind.lower(),
        "schema": json.dumps(schema),
    }
