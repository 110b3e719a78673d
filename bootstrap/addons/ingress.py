"""An ingress controller, Traefik: HTTP and HTTPS from outside to services, at an address that metallb gives."""

import json
from collections.abc import Iterable, Iterator

from bootstrap.addons import Addon, Asked, Image, Object, rendered, tolerations

_OLDEST_WITH_SLICES = 21
"""Traefik from 3.1 on reads endpoint slices of discovery.k8s.io/v1, which came with v1.21; so did policy/v1."""
# 2.11, for v1.20: its digest could not be looked up where this was written.
OLD = Image("docker.io/library/traefik:v2.11.35")
# Digest: found alike in two public lists of images.
NEW = Image(
    "docker.io/library/traefik:v3.6.2",
    "sha256:c025135278d10f0fb6e54cb2b2dbadb3c3f0381a2c508cd74c06a74cb5a0e828",
)


def images(minor: int) -> tuple[Image, ...]:
    """Return the image."""
    return (NEW if minor >= _OLDEST_WITH_SLICES else OLD,)


def documents(asked: Asked) -> Iterable[Object]:
    """Return the controller, its class, and the service that has the address."""
    is_new = asked.minor >= _OLDEST_WITH_SLICES
    return rendered(
        "ingress.yaml.j2",
        budget="policy/v1" if is_new else "policy/v1beta1",
        image=images(asked.minor)[0].reference(asked.cluster),
        is_default=str(asked.options.default_class).lower(),
        replicas=asked.options.replicas,
        slices=is_new,
        tolerations=json.dumps(tolerations(asked.cluster)),
    )


def warnings(asked: Asked) -> Iterator[str]:
    """Yield that nobody will give it an address, if so."""
    names = {addon.name for addon in asked.cluster.addons}
    if not names & {"metallb", "manifests"}:
        yield "its service gets no address without metallb, or another that gives them; until then it stays pending"


PLUGIN = Addon(title="HTTP from outside to services", documents=documents, images=images, warnings=warnings)
