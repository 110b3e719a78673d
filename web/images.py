"""Which image each pool boots, looked up in the cache of artifacts: only one whose every byte is right."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from bootstrap.artifacts import Artifact, Kind, Manifest, load_manifest, why_no_manifest
from bootstrap.model import Cluster, Gpu, Pool
from bootstrap.pool_images import image_for, kind_for
from bootstrap.records.model import Pin
from bootstrap.scrub import Scrubber

Images = Callable[[Pool], Manifest | None]

FRESH_SECONDS = 0.5  # an image that was just built is offered this much later; a rack asks at once


class CachedImages:
    """Reads the manifests of `cache` at most every FRESH_SECONDS per kind of image."""

    def __init__(self, cache: Path) -> None:
        self.scrubber = Scrubber(cache)
        self._cache = cache
        self._found: dict[tuple[Kind, Gpu | None], tuple[float, Manifest | None]] = {}
        self._lock = threading.Lock()

    def __call__(self, pool: Pool) -> Manifest | None:
        """Return the image of `pool`, or None if it is not built or damaged.

        The first to ask for an image waits until its files were read.
        """
        manifest = self._listed(pool)
        return manifest if manifest is not None and self.scrubber.is_sound(manifest) else None

    def has(self, key: str, driver: str) -> bool:
        """Return whether there is an image with this key, that holds this driver; nothing of it is read."""
        manifest = load_manifest(self._cache, key)
        return manifest is not None and manifest.driver == driver

    def called(self, key: str) -> Manifest | None:
        """Return the image with this key, whichever is the newest of its kind; None as for a pool's."""
        manifest = load_manifest(self._cache, key)
        return manifest if manifest is not None and self.scrubber.is_sound(manifest) else None

    def lack(self, pool: Pool) -> str:
        """Return what is wrong with the image of `pool`, as the end of a sentence, with the remedy."""
        return why_no_manifest(self._cache, *kind_for(pool))

    def _listed(self, pool: Pool) -> Manifest | None:
        wanted = (kind_for(pool), pool.gpu)
        with self._lock:
            at, manifest = self._found.get(wanted, (float("-inf"), None))
            if time.monotonic() - at > FRESH_SECONDS:
                manifest = image_for(self._cache, pool)
                self._found[wanted] = (time.monotonic(), manifest)
            return manifest


def image_of(images: Images, pool: Pool, pin: Pin | None) -> Manifest | None:
    """Return the image of a machine of `pool`: the one that it was set back to, if it was, else its pool's."""
    if pin is None or not pin.image:
        return images(pool)
    return images.called(pin.image) if isinstance(images, CachedImages) else None


def lack_of(images: Images, pool: Pool) -> str:
    """Return why `images` has none for `pool`, as far as it knows."""
    return images.lack(pool) if isinstance(images, CachedImages) else "is not built - image build"


def url_of(cluster: Cluster, artifact: Artifact) -> str:
    """Return where machines fetch `artifact`: plain HTTP, as its name is its checksum."""
    return f"{cluster.base_url}/{path_of(artifact)}"


def path_of(artifact: Artifact) -> str:
    """Return where nginx serves `artifact`, on each of its listeners."""
    return f"artifacts/sha256/{artifact.sha256}"
