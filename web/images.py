"""Which image each pool boots, looked up in the cache of artifacts."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from bootstrap.artifacts import Artifact, Manifest, find_manifest
from bootstrap.model import Cluster, Pool

Images = Callable[[Pool], Manifest | None]

FRESH_SECONDS = 2.0  # an image that was just built is offered this much later; a rack asks at once


class CachedImages:
    """Reads the manifests of `cache` at most every FRESH_SECONDS per kind of image."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._found: dict[tuple[str, str, str], tuple[float, Manifest | None]] = {}
        self._lock = threading.Lock()

    def __call__(self, pool: Pool) -> Manifest | None:
        """Return the image of `pool`, or None if it is not built."""
        wanted = (pool.os.family, pool.os.release, pool.os.kernel)
        with self._lock:
            at, manifest = self._found.get(wanted, (float("-inf"), None))
            if time.monotonic() - at > FRESH_SECONDS:
                manifest = find_manifest(self._cache, *wanted)
                self._found[wanted] = (time.monotonic(), manifest)
            return manifest


def url_of(cluster: Cluster, artifact: Artifact) -> str:
    """Return where machines fetch `artifact`: plain HTTP, as its name is its checksum."""
    return f"{cluster.base_url}/artifacts/sha256/{artifact.sha256}"
