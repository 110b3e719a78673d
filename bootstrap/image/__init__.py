"""MAKES OPERATING SYSTEM IMAGES from packages: a kernel, an installer in RAM, and the disk that it writes."""

from bootstrap.image.debian import HOST_PACKAGES, build, find
from bootstrap.image.modules import DriverError
from bootstrap.image.recipe import Driver, Options, key

__all__ = ["HOST_PACKAGES", "Driver", "DriverError", "Options", "build", "find", "key"]
