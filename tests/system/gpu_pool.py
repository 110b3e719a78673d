"""A pool of virtual machines that get an image with NVIDIA's driver."""

from pathlib import Path

from bootstrap import image, steps
from bootstrap.config import load
from bootstrap.gpu import images
from bootstrap.gpu.rows import Source
from bootstrap.model import Cluster

CONFIG = Path(__file__).with_name("gpu.yaml")
MODULES = ("nvidia", "nvidia-drm", "nvidia-modeset", "nvidia-peermem", "nvidia-uvm")


def cluster() -> Cluster:
    """Return the cluster of CONFIG."""
    return load([CONFIG])


def source() -> Source:
    """Return the driver that it gets."""
    found = images.in_image(cluster().pool("gpus"))
    assert found is not None
    return found


def options() -> image.Options:
    """Return what its image is made of."""
    found = cluster()
    return steps.options(found.pool("gpus"), found.images.debian)
