"""MAKES OPERATING SYSTEM IMAGES from packages: a kernel, an installer in RAM, and the disk that it writes."""

from bootstrap.image.debian import HOST_PACKAGES, build
from bootstrap.image.recipe import Options, key

__all__ = ["HOST_PACKAGES", "Options", "build", "key"]
