"""Puts the iPXE loaders where they are sent from, by TFTP or by HTTP: checked, and nothing else beside them."""

import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bootstrap.errors import PreflightError
from bootstrap.model.appliance import Loader, Loaders
from bootstrap.render import firmware
from bootstrap.render.firmware import Firmware

DEBIAN = Path("/usr/lib/ipxe")  # where the package ipxe puts its files
PACKAGED = Path("/var/lib/dpkg/info/ipxe.md5sums")  # what they were when the package was made
# TFTP sends one small block per round trip: what is bigger comes faster and safer by HTTP.
LARGEST_BYTES = 300_000
LARGEST_BY_HTTP = 16_000_000  # iPXE with all its drivers has 1 MB: what has more is no loader
OPTIONAL = frozenset({"efi-arm64", "http-efi64", "http-arm64"})
"""Kinds that do without: Debian 12 has no loader for arm64 at all, Debian 13 only one with all drivers, for HTTP."""
LOOK_SECONDS = 1.0
FOLDER_MODE, FILE_MODE = 0o755, 0o644  # dnsmasq reads them without privileges

Way = Literal["tftp", "http"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the loader of one kind of firmware comes from.

    `name` is its path below the folder that it is sent from, `largest` the size in bytes that is too much for that way.
    `sha256` (hex) is None for Debian's own file, which is held against the sums of its package.
    """

    firmware: str
    name: str
    path: Path
    sha256: str | None
    remedy: str
    largest: int


def sources(way: Way, configured: Loaders, cache: Path, debian: Path = DEBIAN) -> tuple[Source, ...]:
    """Return a source for every firmware that gets its loader in that way; pure.

    A configured one that names a URL is taken from `cache` (`sha256/<hex>`), where it was downloaded to.
    """
    rows = [row for row in firmware.TABLE if row.loader is not None and row.is_http == (way == "http")]
    return tuple(_source(row, row.loader or "", configured, cache, debian) for row in rows)


_DEBIANS = {"http-efi64": "snponly.efi"}
"""What Debian calls a loader, where that is not what we call it."""
_SAME_AS = {"http-efi64": "efi64", "http-arm64": "efi-arm64"}
"""Whose configured loader a kind of firmware gets that has none of its own: it is the same processor."""


def _source(row: Firmware, name: str, configured: Loaders, cache: Path, debian: Path) -> Source:
    own, key = _configured(row.name, configured)
    if own is None:
        path, sha256 = debian / _DEBIANS.get(row.name, name), None
        remedy = "install it: apt-get install ipxe"
    elif own.path is not None:
        path, sha256, remedy = Path(own.path), own.sha256, f"correct appliance.pxe.loader ({key})"
    else:
        path, sha256, remedy = (
            cache / "sha256" / own.sha256,
            own.sha256,
            f"run image build, which brings it from {own.url}",
        )
    largest = LARGEST_BY_HTTP if row.is_http else LARGEST_BYTES
    return Source(firmware=row.name, name=name, path=path, sha256=sha256, remedy=remedy, largest=largest)


def _configured(kind: str, configured: Loaders) -> tuple[Loader | None, str]:
    """Return the loader that the configuration names for a kind of firmware, and for which kind it names it."""
    for key in (kind, _SAME_AS.get(kind, kind)):
        found: Loader | None = getattr(configured, key.replace("-", "_"), None)
        if found is not None:
            return found, key
    return None, kind


def place(root: Path, wanted: Iterable[Source]) -> tuple[Source, ...]:
    """Put the loaders into the folder `root` and remove all else; return those that are not to be had.

    Raises:
        PreflightError: one that is needed is missing, too big, or not the file that the configuration means.
    """
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(FOLDER_MODE)
    missing = []
    kept = set()
    for source in wanted:
        if source.firmware in OPTIONAL and source.sha256 is None and not _is_small(source):
            missing.append(source)
            continue
        _write(root, source.name, content_of(source))
        kept.add(source.name)
    _remove_others(root, kept)
    return tuple(missing)


def _is_small(source: Source) -> bool:
    return source.path.is_file() and source.path.stat().st_size < source.largest


def content_of(source: Source) -> bytes:
    """Return the loader itself.

    Raises:
        PreflightError: it is not there, too big, or not the file that the configuration means.
    """
    what = f"the iPXE loader for {source.firmware} machines, {source.path.absolute()},"
    try:
        with source.path.open("rb") as file:
            content = file.read(source.largest)
    except OSError as error:
        raise PreflightError(f"{what} cannot be read ({error.strerror}); {source.remedy}") from error
    if len(content) >= source.largest:
        limit = "for TFTP; use a snponly build" if source.largest == LARGEST_BYTES else "for a loader"
        raise PreflightError(f"{what} has {source.largest:,} bytes or more, too many {limit}")
    found = hashlib.sha256(content).hexdigest()
    if source.sha256 not in {None, found}:
        raise PreflightError(f"{what} has the SHA-256 sum {found}, not {source.sha256}; {source.remedy}")
    if source.sha256 is None and not _is_as_packaged(source.path, content):
        raise PreflightError(
            f"{what} is damaged: it is not the file of its package; apt-get install --reinstall ipxe"
        )
    return content


def _is_as_packaged(path: Path, content: bytes) -> bool:
    """Return whether `content` is what dpkg wrote at `path`, as far as dpkg knows of it."""
    try:
        lines = PACKAGED.read_text().splitlines()
    except OSError:
        return True
    known = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    wanted = known.get(str(path.absolute()).lstrip("/"))
    return wanted in {None, hashlib.md5(content, usedforsecurity=False).hexdigest()}


def _write(root: Path, name: str, content: bytes) -> None:
    target = root / name
    for folder in [parent for parent in reversed(target.parents) if parent.is_relative_to(root)]:
        folder.mkdir(exist_ok=True)
        folder.chmod(FOLDER_MODE)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(FILE_MODE)
        Path(temporary).replace(target)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _remove_others(root: Path, kept: Iterable[str]) -> list[Path]:
    """Remove all that is in `root` but the files `kept`; return what was removed."""
    keep = {root / name for name in kept}
    removed = []
    for path in sorted(root.rglob("*"), reverse=True):
        if path in keep or any(path in file.parents for file in keep):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        removed.append(path)
    return removed


class Guard:
    """Looks every second, in a thread, whether the loaders in `root` are as they were placed, and mends them.

    `tell` is called with a sentence about each that was not.
    """

    def __init__(self, root: Path, tell: Callable[[str], object]) -> None:
        self._root = root
        self._tell = tell
        files = (path for path in root.rglob("*") if path.is_file())
        self._placed = {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
        self._thread = threading.Thread(target=self._run, name="loaders", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def look(self) -> None:
        """Compare what is in the folder with what was placed; put it right, and name what was not.

        Raises:
            OSError: something cannot be written or removed.
        """
        for path in _remove_others(self._root, self._placed):
            self._tell(f"{str(path)!r} was put among the loaders: removed")
        for name, content in self._placed.items():
            if _is_same(self._root / name, content):
                continue
            _write(self._root, name, content)
            self._tell(f"the loader {self._root / name} was damaged or changed: written anew")

    def _run(self) -> None:
        while self._root.is_dir():
            try:
                self.look()
            except OSError as error:
                self._tell(f"could not look after the loaders: {error}")
            time.sleep(LOOK_SECONDS)


def _is_same(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False
