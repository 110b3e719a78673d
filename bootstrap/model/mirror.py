"""What `mirror pull` fetches, from where, and by whose keys it is believed."""

from collections.abc import Mapping

from pydantic import Field

from bootstrap.model.addresses import Url
from bootstrap.model.base import Model
from bootstrap.model.types import FilePath, PinnedImage, Registry, RegistryPath, Sha256, Tag


class Archive(Model):
    """A release that comes as one archive."""

    version: Tag
    """The release, with its v: v3.6.5."""
    url: Url | None = None
    """A copy of the folder of releases, the one that holds a folder per version."""
    sha256: Sha256 | None = None
    """The archive's SHA-256 sum; without it, the one that its server states over https."""


class MirrorFile(Model):
    """One more file, by its sum: a system extension, a driver."""

    url: Url
    """Where it is fetched."""
    sha256: Sha256
    """Its SHA-256 sum; a file that differs is refused."""


class Keys(Model):
    """Files with the public keys of makers, as they publish them (OpenPGP, armored or not)."""

    flatcar: FilePath | None = None
    """The keys that sign Flatcar's images; needed where a pool runs flatcar."""
    fedora_coreos: FilePath | None = None
    """The keys that sign Fedora CoreOS's images; needed where a pool runs fedora-coreos."""


class Mirror(Model):
    """What `mirror pull` fetches and from where; without a URL, from the makers' own servers."""

    directory: FilePath | None = None
    """The folder of what was fetched, from which all is read; without it, mirror/ in the cache's folder."""
    flatcar: Url | None = None
    """A copy of Flatcar's release servers, with a folder per channel (stable, beta, alpha, lts)."""
    fedora_coreos: Url | None = None
    """A copy of Fedora CoreOS's build server."""
    kubernetes: Url | None = None
    """A copy of dl.k8s.io."""
    keys: Keys = Keys()
    """Files with the public keys of makers."""
    etcd: Archive | None = None
    """The release of etcd; Kubernetes' own releases hold none."""
    cni_plugins: Archive | None = None
    """The release of the CNI plugins."""
    images: tuple[PinnedImage, ...] = ()
    """Container images by name and digest; nodes import them, so that no registry is asked."""
    registries: Mapping[Registry, RegistryPath] = Field(default_factory=dict)
    """A registry to where its copy is."""
    files: tuple[MirrorFile, ...] = ()
    """More files."""
    ca_file: FilePath | None = None
    """The CA certificate to check these servers with."""
