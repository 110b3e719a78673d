"""MetalLB, layer 2: services of type LoadBalancer get addresses, and a node answers ARP for each."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from bootstrap.addons import Addon, Asked, Image, Object, rendered, tolerations

_OLDEST_WITH_KINDS = 21
"""MetalLB's releases from 0.14 on read endpoint slices of discovery.k8s.io/v1, which came with v1.21."""
# 0.12.1, for v1.20: its digests could not be looked up where this was written.
_OLD = tuple(Image(f"quay.io/metallb/{name}:v0.12.1") for name in ("controller", "speaker"))
# Digests: found alike in several public lists of images.
_NEW = (
    Image(
        "quay.io/metallb/controller:v0.15.2",
        "sha256:417cdb6d6f9f2c410cceb84047d3a4da3bfb78b5ddfa30f4cf35ea5c667e8c2e",
    ),
    Image(
        "quay.io/metallb/speaker:v0.15.2",
        "sha256:260c9406f957c0830d4e6cd2e9ac8c05e51ac959dd2462c4c2269ac43076665a",
    ),
)
_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_SWITCH = {"type": "boolean"}
_SELECTORS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "matchExpressions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {"key": _TEXT, "operator": _TEXT, "values": _TEXTS},
                },
            },
            "matchLabels": {"type": "object", "additionalProperties": _TEXT},
        },
    },
}
_ALLOCATION = {
    "type": "object",
    "properties": {
        "priority": {"type": "integer"},
        "namespaces": _TEXTS,
        "namespaceSelectors": _SELECTORS,
        "serviceSelectors": _SELECTORS,
    },
}
_POOL = {
    "addresses": _TEXTS,
    "autoAssign": {**_SWITCH, "default": True},
    "avoidBuggyIPs": {**_SWITCH, "default": False},
    "serviceAllocation": _ALLOCATION,
}
_L2 = {
    "interfaces": _TEXTS,
    "ipAddressPools": _TEXTS,
    "ipAddressPoolSelectors": _SELECTORS,
    "nodeSelectors": _SELECTORS,
}
_OPEN: Mapping[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def _closed(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        **({"required": [*required]} if required else {}),
    }


# Those of layer 2 are described; the others only have to be there, for MetalLB asks for them when it starts.
_KINDS: tuple[tuple[str, str, str, Mapping[str, Any]], ...] = (
    ("IPAddressPool", "ipaddresspools", "v1beta1", _closed(_POOL, "addresses")),
    ("L2Advertisement", "l2advertisements", "v1beta1", _closed(_L2)),
    ("ServiceL2Status", "servicel2statuses", "v1beta1", _OPEN),
    ("ServiceBGPStatus", "servicebgpstatuses", "v1beta1", _OPEN),
    ("BFDProfile", "bfdprofiles", "v1beta1", _OPEN),
    ("BGPAdvertisement", "bgpadvertisements", "v1beta1", _OPEN),
    ("BGPPeer", "bgppeers", "v1beta2", _OPEN),
    ("Community", "communities", "v1beta1", _OPEN),
)


def images(minor: int) -> tuple[Image, ...]:
    """Return the controller's image, and the speakers'."""
    return _NEW if minor >= _OLDEST_WITH_KINDS else _OLD


def documents(asked: Asked) -> Iterable[Object]:
    """Return MetalLB, and the addresses that it may give out."""
    ranges = [f"{first}-{last}" for first, last in asked.options.addresses]
    controller, speaker = images(asked.minor)
    pool = {"name": "firstlight", "protocol": "layer2", "addresses": ranges, "avoid-buggy-ips": True}
    return rendered(
        "metallb.yaml.j2",
        addresses=json.dumps(ranges),
        config=json.dumps(json.dumps({"address-pools": [pool]}, indent=2) + "\n"),
        controller=controller.reference(asked.cluster),
        kinds=[_kind(*row) for row in _KINDS] if asked.minor >= _OLDEST_WITH_KINDS else [],
        speaker=speaker.reference(asked.cluster),
        tolerations=json.dumps(tolerations(asked.cluster)),
    )


def _kind(kind: str, plural: str, version: str, spec: Mapping[str, Any]) -> dict[str, str]:
    known = {"apiVersion": _TEXT, "kind": _TEXT, "metadata": {"type": "object"}}
    schema = {"type": "object", "properties": {**known, "spec": spec, "status": _OPEN}}
    return {
        "kind": kind,
        "plural": plural,
        "singular": kind.lower(),
        "version": version,
        "schema": json.dumps(schema),
    }


PLUGIN = Addon(title="addresses for services", documents=documents, images=images)
