"""Operating system images that are built here."""

from bootstrap.model.addresses import Url
from bootstrap.model.base import Model
from bootstrap.model.types import Package


class DebianImage(Model):
    """The image that `image build` makes from Debian packages."""

    mirror: Url | None = None
    """The Debian mirror; without it, the one this computer's apt uses."""
    packages: tuple[Package, ...] = ()
    """More packages to put in."""


class Images(Model):
    """Operating system images that are built here."""

    debian: DebianImage = DebianImage()
    """The image of the debian family."""
