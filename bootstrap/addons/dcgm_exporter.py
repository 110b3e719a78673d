"""NVIDIA's DCGM exporter: numbers about GPUs for Prometheus, from each node that has some."""

import json
from collections.abc import Iterable, Iterator

from bootstrap.addons import Addon, Asked, Image, Object, rendered
from bootstrap.kubernetes import runtimes
from bootstrap.kubernetes.labels import GPU

# Digest: found alike in several public lists of images.
IMAGE = Image(
    "nvcr.io/nvidia/k8s/dcgm-exporter:4.5.3-4.8.2-distroless",
    "sha256:60d3b00ac80b4ae77f94dae2f943685605585ad9e92fdccda3154d009ae317cc",
)


def images(minor: int) -> tuple[Image, ...]:
    """Return the image; it is the same for all minors."""
    del minor
    return (IMAGE,)


def documents(asked: Asked) -> Iterable[Object]:
    """Return the DaemonSet, and the service by which its pods are found."""
    return rendered(
        "dcgm-exporter.yaml.j2",
        image=IMAGE.reference(asked.cluster),
        runtime=runtimes.NVIDIA,
        selector=json.dumps({GPU: "nvidia"}),
    )


def warnings(asked: Asked) -> Iterator[str]:
    """Yield that it runs nowhere, if so."""
    if not runtimes.has_gpus(asked.cluster):
        yield "no pool has gpu: {installCuda: true}, so it runs on no node"


PLUGIN = Addon(title="numbers about GPUs", documents=documents, images=images, warnings=warnings)
