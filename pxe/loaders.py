"""Puts the iPXE loaders where dnsmasq sends them from: checked, small, and nothing else beside them."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bootstrap.errors import PreflightError
from bootstrap.model.appliance import Loader, Loaders
from bootstrap.render import firmware
from bootstrap.render.firmware import Firmware

DEBIAN = Path("/usr/lib/ipxe")  # where the package ipxe puts its files
# TFTP sends one small block per round trip: what is bigger comes faster and safer by HTTP.
LARGEST_BYTES = 300_000
OPTIONAL = frozenset({"efi-arm64"})  # Debian 12 and 13 have no small loader for it
FOLDER_MODE, FILE_MODE = 0o755, 0o644  # dnsmasq reads them without privileges


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the loader of one kind of firmware comes from.

    `name` is its path below the TFTP root. `sha256` (hex) is None for Debian's own file: apt has checked it.
    """

    firmware: str
    name: str
    path: Path
    sha256: str | None
    remedy: str


def sources(configured: Loaders, cache: Path, debian: Path = DEBIAN) -> tuple[Source, ...]:
    """Return a source for every firmware that has a loader; pure.

    A configured one that names a URL is taken from `cache` (`sha256/<hex>`), where it was downloaded to.
    """
    rows = [row for row in firmware.TABLE if row.loader is not None]
    return tuple(_source(row, row.loader or "", configured, cache, debian) for row in rows)


def _source(row: Firmware, name: str, configured: Loaders, cache: Path, debian: Path) -> Source:
    own: Loader | None = getattr(configured, row.name.replace("-", "_"), None)
    if own is None:
        path, sha256, remedy = debian / name, None, "install it: apt-get install ipxe"
    elif own.path is not None:
        path, sha256, remedy = Path(own.path), own.sha256, f"correct appliance.pxe.loader ({row.name})"
    else:
        path, sha256, remedy = cache / "sha256" / own.sha256, own.sha256, f"download {own.url} to there"
    return Source(firmware=row.name, name=name, path=path, sha256=sha256, remedy=remedy)


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
        if source.firmware in OPTIONAL and source.sha256 is None and not _is_small(source.path):
            missing.append(source)
            continue
        _write(root, source.name, _content(source))
        kept.add(source.name)
    _remove_others(root, kept)
    return tuple(missing)


def _is_small(path: Path) -> bool:
    return path.is_file() and path.stat().st_size < LARGEST_BYTES


def _content(source: Source) -> bytes:
    what = f"the iPXE loader for {source.firmware} machines, {source.path.absolute()},"
    try:
        with source.path.open("rb") as file:
            content = file.read(LARGEST_BYTES)
    except OSError as error:
        raise PreflightError(f"{what} cannot be read ({error.strerror}); {source.remedy}") from error
    if len(content) >= LARGEST_BYTES:
        raise PreflightError(
            f"{what} has {LARGEST_BYTES:,} bytes or more, too many for TFTP; use a snponly build"
        )
    found = hashlib.sha256(content).hexdigest()
    if source.sha256 not in {None, found}:
        raise PreflightError(f"{what} has the SHA-256 sum {found}, not {source.sha256}; {source.remedy}")
    return content


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


def _remove_others(root: Path, kept: Iterable[str]) -> None:
    keep = {root / name for name in kept}
    for path in sorted(root.rglob("*"), reverse=True):
        if path in keep or any(path in file.parents for file in keep):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
