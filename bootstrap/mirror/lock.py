"""The lock file of the mirror: what each file is, by sum; what it was fetched from, when, and who signed it."""

import fcntl
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from bootstrap.disk import write_file
from bootstrap.errors import MirrorError, UsageError
from bootstrap.mirror.sums import SHA256

NAME = "mirror.lock.json"
PARTS, HELD = ".partial", "lock"
"""The folder of what is not complete, which only the next pull reads; and the file in it that a pull holds."""
FORMAT = 1


@dataclass(frozen=True, order=True, kw_only=True)
class Entry:
    """One file of the mirror.

    `path` is below its folder, `key` what it belongs to (kubernetes/kubelet/v1.36.4), `url` where it was fetched,
    `fetched` an RFC 3339 time, `signer` the fingerprint of the key that signed it, or None.
    """

    path: str
    key: str
    url: str
    sha256: str
    size: int
    fetched: str
    signer: str | None = None


@dataclass(frozen=True)
class Lock:
    """All files by path, and the version that each channel was at."""

    entries: Mapping[str, Entry] = field(default_factory=dict)
    channels: Mapping[str, str] = field(default_factory=dict)

    def of(self, key: str) -> tuple[Entry, ...]:
        """Return the files that belong to `key`."""
        return tuple(entry for entry in self.entries.values() if entry.key == key)

    def with_(self, entries: Iterable[Entry], channels: Mapping[str, str]) -> "Lock":
        """Return the lock with these files and channels too."""
        new = {**self.entries, **{entry.path: entry for entry in entries}}
        return Lock(dict(sorted(new.items())), {**self.channels, **channels})

    def to_bytes(self) -> bytes:
        """Return the file's content; the same lock gives the same bytes."""
        values = {
            "format": FORMAT,
            "files": [asdict(self.entries[path]) for path in sorted(self.entries)],
            "channels": dict(self.channels),
        }
        return json.dumps({**values, "sum": _sum(values)}, indent=2, sort_keys=True).encode() + b"\n"


def _sum(values: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read(folder: Path) -> Lock:
    """Return the lock of the mirror in `folder`; an empty one if there is none.

    Raises:
        MirrorError: it is damaged, of a newer firstlight, or names a path outside of the folder.
    """
    path = folder / NAME
    try:
        return _parsed(path.read_bytes())
    except FileNotFoundError:
        return Lock()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise MirrorError(
            f"{path} is damaged ({error}): copy it anew, or remove it, and mirror pull checks all files again"
        ) from error


def _parsed(content: bytes) -> Lock:
    values = json.loads(content)
    if values.pop("sum") != _sum(values):
        raise ValueError("its own sum is wrong")
    if values["format"] != FORMAT:
        raise ValueError(f"format {values['format']} is not {FORMAT}")
    entries = [Entry(**entry) for entry in values["files"]]
    for entry in entries:
        if not (is_inside(entry.path) and SHA256.fullmatch(entry.sha256)):
            raise ValueError(f"{entry.path!r} is no file of a mirror")
    return Lock({entry.path: entry for entry in entries}, dict(values["channels"]))


def is_inside(path: str) -> bool:
    """Return whether `path` stays below the folder that it is put behind."""
    parts = PurePosixPath(path).parts
    return bool(parts) and path == "/".join(parts) and not {"..", "/"} & set(parts) and parts[0] != PARTS


def write(folder: Path, lock: Lock) -> None:
    """Write the lock in one step; raises OSError when the disk does not take it, and the old one stands."""
    write_file(folder / NAME, lock.to_bytes())


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other pulls away from the mirror meanwhile; the kernel frees what a killed one held.

    Raises:
        UsageError: another pull is at work there.
        OSError: the folder cannot be made.
    """
    parts = folder / PARTS
    parts.mkdir(parents=True, exist_ok=True)
    with (parts / HELD).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{folder}: another mirror pull is at work there; wait for it") from error
        yield
