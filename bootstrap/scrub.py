"""Reads artifacts again, before one is first offered and from time to time, and sets aside what is damaged.

nginx hands the bytes on without looking, and iPXE takes a kernel and an initrd as they come: whether a file still is
what its name says must be known before a machine is told to fetch it.
"""

import errno
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bootstrap.artifacts import Artifact, Manifest, artifact_path, set_aside, verify
from bootstrap.errors import ImageError

log = logging.getLogger(__name__)

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Stamp:
    """What changes when anybody writes to a file; a disk that rots changes nothing of it."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def stamp_of(path: Path) -> Stamp | None:
    """Return the stamp of the file at `path`, or None if there is none."""
    try:
        found = path.stat(follow_symlinks=False)
    except OSError:
        return None
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Scrubber:
    """Knows which artifacts of `cache` were read whole and found right; `tell` hears of each that was not."""

    def __init__(self, cache: Path, tell: Tell = log.critical) -> None:
        self.tell = tell
        self._cache = cache
        self._found: dict[Artifact, tuple[Stamp | None, bool]] = {}
        self._told: set[Artifact] = set()
        self._reading = threading.Lock()

    def is_sound(self, manifest: Manifest) -> bool:
        """Return whether every file of the image is right; one that is new or was touched is read first."""
        return False not in [self._is_sound(artifact) for artifact in manifest.artifacts]

    def again(self) -> None:
        """Read everything that was read before again, from the disk: this finds what rots."""
        for artifact in list(self._found):
            with self._reading:
                self._read(artifact)

    def _is_sound(self, artifact: Artifact) -> bool:
        if (known := self._known(artifact)) is not None:
            return known
        with self._reading:
            # A whole rack asks at once: the first one reads, the others find what it found.
            known = self._known(artifact)
            return self._read(artifact) if known is None else known

    def _known(self, artifact: Artifact) -> bool | None:
        """Return what was found of the file, or None if it was never read as it stands there now."""
        stamp, is_right = self._found.get(artifact, (None, False))
        is_current = stamp is not None and stamp == stamp_of(artifact_path(self._cache, artifact.sha256))
        return is_right if is_current else None

    def _read(self, artifact: Artifact) -> bool:
        path = artifact_path(self._cache, artifact.sha256)
        stamp = stamp_of(path)
        if stamp is None:
            self._found.pop(artifact, None)
            return False
        drop_from_memory(path)
        try:
            verify(self._cache, artifact)
        except ImageError as error:
            self._refuse(artifact, stamp, error)
            return False
        self._found[artifact] = (stamp, True)
        self._told.discard(artifact)
        return True

    def _refuse(self, artifact: Artifact, stamp: Stamp, error: ImageError) -> None:
        if _passes(error.__cause__):
            self._found.pop(artifact, None)  # the next to ask tries again
            self._tell_once(artifact, str(error))
            return
        self._found[artifact] = (stamp, False)
        try:
            set_aside(self._cache, artifact)
        except OSError as failed:
            self._tell_once(artifact, f"{error}; it could not be set aside ({failed.strerror})")
        else:
            self.tell(f"{error}; it is served no more")

    def _tell_once(self, artifact: Artifact, text: str) -> None:
        if artifact not in self._told:
            self._told.add(artifact)
            self.tell(text)


def _passes(cause: BaseException | None) -> bool:
    """Return whether a file could not be read for a reason that is not its own, such as too many open files."""
    return isinstance(cause, OSError) and cause.errno != errno.EIO


def drop_from_memory(path: Path) -> None:
    """Have the next reader of `path` read the disk, not what memory holds of it; nothing if there is no such file."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
