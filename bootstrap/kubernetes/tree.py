"""Everything of ours on one host, as a value: its files, and the units that read them."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from bootstrap.errors import RenderError
from certs.secret import Secret

ROOT = "root"


@dataclass(frozen=True)
class LocalFile:
    """A big file on this computer, never held in memory; `sha256` is 64 lower-case hex digits."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class HostFile:
    """A file on a host: its content, permission bits, owner and group.

    A Secret never shows in a repr, a log or JSON; who sends it calls `reveal()`.
    """

    content: bytes | Secret | LocalFile
    mode: int = 0o644
    owner: str = ROOT
    group: str = ROOT


@dataclass(frozen=True)
class Unit:
    """A systemd unit that we run, and what it must be restarted for.

    `reads` are absolute paths, or folders ending in `/`, whose change restarts it; its unit file is among
    them. `user` is the system user that it runs as.
    """

    name: str
    reads: tuple[str, ...]
    user: str

    def is_touched_by(self, path: str) -> bool:
        """Return whether a change of the file `path` restarts this unit."""
        return any(path == read or (read.endswith("/") and path.startswith(read)) for read in self.reads)


@dataclass(frozen=True)
class HostTree:
    """All that we put on `host`: files by absolute path, and units in the order in which they start.

    One that `is_node` also has a key and certificate of its own, which are made there and are no files of ours.

    Raises RenderError when it is made with a path that is not absolute and plain, or with a private file that
    everyone could read.
    """

    host: str
    files: Mapping[str, HostFile] = field(repr=False)
    units: tuple[Unit, ...] = ()
    is_node: bool = False

    def __post_init__(self) -> None:
        for path, file in self.files.items():
            _check(path, file)
        object.__setattr__(self, "files", MappingProxyType(dict(sorted(self.files.items()))))

    def units_touched_by(self, path: str) -> tuple[Unit, ...]:
        """Return the units that a change of the file `path` restarts, in start order."""
        return tuple(unit for unit in self.units if unit.is_touched_by(path))


def _check(path: str, file: HostFile) -> None:
    if not path.startswith("/") or posixpath.normpath(path) != path:
        raise RenderError(f"{path}: not an absolute path without . and ..")
    if isinstance(file.content, Secret) and file.mode & 0o007:
        raise RenderError(f"{path}: a secret with mode {file.mode:#o} is open to everyone")
