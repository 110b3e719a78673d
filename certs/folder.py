"""The folder of keys on disk, and a rehearsal of it in memory."""

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from certs.errors import UnusableFolder
from certs.secret import Secret

PRIVATE = 0o600
PUBLIC = 0o644
_FOLDER = 0o700


class Shelf(Protocol):
    """Where named files are read and written; a Secret is written for the owner's eyes only."""

    def read(self, name: str) -> bytes | None:
        """Return the content of the file `name`, or None if there is none."""

    def is_open_to_others(self, name: str) -> bool:
        """Tell whether others than the owner may read or write the file `name`."""

    def write(self, name: str, content: bytes | Secret) -> None:
        """Make the file `name` hold `content`, all or nothing."""


class Folder:
    """Files below `path`; every write survives a power cut or did not happen.

    Raises UnusableFolder from every method when the system refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str) -> bytes | None:
        """Return the content of the file `name`, or None if there is none."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(self.path / name, "read", error) from error

    def is_open_to_others(self, name: str) -> bool:
        """Tell whether others than the owner may read or write the file `name`."""
        try:
            return bool((self.path / name).stat().st_mode & 0o077)
        except OSError as error:
            raise _unusable(self.path / name, "read", error) from error

    def write(self, name: str, content: bytes | Secret) -> None:
        """Replace the file `name` in one step; a Secret has mode 0600 before it has content."""
        path = self.path / name
        try:
            _make_folder(path.parent)
            _replace(path, content, PRIVATE if isinstance(content, Secret) else PUBLIC)
        except OSError as error:
            raise _unusable(path, "write", error) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against other runs, and sweep what a killed run left half-written."""
        try:
            _make_folder(self.path)
            self._close_to_others()
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _unusable(self.path, "use", error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._sweep()
            yield
        finally:
            os.close(descriptor)

    def _sweep(self) -> None:
        for left in self.path.rglob(".*.new"):
            try:
                left.unlink(missing_ok=True)
            except OSError as error:
                raise _unusable(left, "remove", error) from error

    def _close_to_others(self) -> None:
        for folder in (self.path, *(each for each in self.path.iterdir() if each.is_dir())):
            if folder.stat().st_mode & 0o077:
                folder.chmod(_FOLDER)

    def names(self, suffix: str) -> tuple[str, ...]:
        """Return the files that end in `suffix`, sorted, relative to the folder."""
        return tuple(sorted(str(path.relative_to(self.path)) for path in self.path.rglob(f"*{suffix}")))


class Rehearsal:
    """Reads through to a shelf and keeps what is written in memory, in order."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._written: dict[str, bytes | Secret] = {}

    @property
    def written(self) -> Mapping[str, bytes | Secret]:
        """What was written, in the order of writing."""
        return self._written

    def read(self, name: str) -> bytes | None:
        """Return what was written as `name`, else what the shelf holds."""
        if name not in self._written:
            return self._shelf.read(name)
        content = self._written[name]
        return content.reveal() if isinstance(content, Secret) else content

    def is_open_to_others(self, name: str) -> bool:
        """Tell whether others may read the file as it would be."""
        if name in self._written:
            return not isinstance(self._written[name], Secret)
        return self._shelf.is_open_to_others(name)

    def write(self, name: str, content: bytes | Secret) -> None:
        """Remember the write."""
        self._written[name] = content


def _replace(path: Path, content: bytes | Secret, mode: int) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(fresh, flags, PRIVATE), "wb") as file:
        try:
            os.fchmod(file.fileno(), mode)
            file.write(content.reveal() if isinstance(content, Secret) else content)
            file.flush()
            os.fsync(file.fileno())
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    _sync(path.parent)


def _make_folder(path: Path) -> None:
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(mode=_FOLDER, exist_ok=True)  # another run may be making it at this moment
        path.chmod(_FOLDER)
        _sync(path.parent)


def _sync(path: Path) -> None:
    """Make the folder's own entries survive a power cut (fsync(2): a file's fsync does not)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(path: Path, verb: str, error: OSError) -> UnusableFolder:
    remedy = "the owner of the folder must be able to"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "make room there and run this again"
    elif error.errno in (errno.EROFS, errno.EIO):
        remedy = "the disk is not in order, look into dmesg; what was there before is still there"
    return UnusableFolder(f"{path}: cannot {verb} it: {error.strerror}; {remedy}")
