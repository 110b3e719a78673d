"""Operating system images: what our own holds, and where the others come from."""

from pydantic import Field

from bootstrap.model.addresses import Url
from bootstrap.model.base import Model
from bootstrap.model.types import FilePath, Package


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


class Mirror(Model):
    """Where `mirror pull` fetches from; without a URL, from the makers' own servers."""

    flatcar: Url | None = None
    """A copy of Flatcar's release server."""
    fedora_coreos: Url | None = Field(default=None, alias="fedoraCoreos")
    """A copy of Fedora CoreOS's build server."""
    kubernetes: Url | None = None
    """A copy of dl.k8s.io."""
    ca_file: FilePath | None = None
    """The CA certificate to check these servers with."""
