"""Puts files into the mirror's folder whole or not at all, and reads them by their sums."""

import hashlib
import os
import tarfile
from pathlib import Path
from typing import IO

from bootstrap import failpoints
from bootstrap.artifacts import BLOCK
from bootstrap.disk import naming, sync_folder
from bootstrap.errors import MirrorError
from bootstrap.mirror.item import Digest
from bootstrap.mirror.lock import PARTS, is_inside

PROGRAM = 0o755


def part(folder: Path, url: str, digest: Digest) -> Path:
    """Return where a file lies while it is not complete: one place for one sum, so that a cut pull goes on."""
    name = hashlib.sha256(f"{url} {digest.algorithm} {digest.hex}".encode()).hexdigest()[:32]
    return folder / PARTS / name


def place(folder: Path, path: str) -> Path:
    """Return where the file `path` of the mirror lies; raises MirrorError for one outside of the folder."""
    if not is_inside(path):
        raise MirrorError(f"{path!r} leads out of the mirror's folder; ask the owner of its server")
    return folder / path


def has(path: Path, digest: Digest) -> bool:
    """Return whether the file is there with that sum, by reading all of it."""
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, digest.algorithm).hexdigest() == digest.hex
    except OSError:
        return False


def summed(path: Path) -> tuple[str, int]:
    """Return the sha256 in hex and the size in bytes of the file; raises OSError when it cannot be read."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest(), content.tell()


def finish(source: Path, target: Path, mode: int) -> None:
    """Give the complete file `source` its place; raises OSError when the disk does not take it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with naming(source), source.open("rb+") as file:
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    failpoints.reached("mirror.rename.before")
    source.replace(target)
    failpoints.reached("mirror.rename.after")
    sync_folder(target.parent)


def take_out(archive: Path, member: str, target: Path) -> None:
    """Write one file of a tar archive to `target`; what else the archive holds is never written.

    Raises:
        MirrorError: it is no archive, or has no such file.
        OSError: the disk does not take it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            tarfile.open(archive) as tar,
            naming(target),
            _opened(tar, member) as content,
            target.open("wb") as file,
        ):
            while block := content.read(BLOCK):
                file.write(block)
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise MirrorError(
            f"{archive.name} has no file {member}; ask its maker, or write another version"
        ) from error


def _opened(tar: tarfile.TarFile, member: str) -> IO[bytes]:
    """Return the content of a regular file in `tar`; raises KeyError when it has none of that name."""
    content = tar.extractfile(member)
    if content is None:
        raise KeyError(member)
    return content
