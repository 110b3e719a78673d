"""Writes files and trees so that a power cut leaves the old one or the new one, never a mixture."""

import ctypes
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bootstrap import failpoints, sums
from bootstrap.errors import UsageError
from bootstrap.render.bundle import Bundle, File

_TOP = frozenset({"appliance", "machines", "pxe", "web", sums.NAME})
"""What a bundle has at its top."""
_REMEDIES = {
    errno.ENOSPC: "the disk is full: make room there and run this again",
    errno.EDQUOT: "the owner's quota is used up: make room there and run this again",
    errno.EROFS: "the file system is read-only, as after an error of the disk: look into dmesg, mend it, mount it anew",
    errno.EIO: "the disk failed: look into dmesg, and copy away what is on it",
}
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
"""renameat2(2): swap two names in one step."""


def remedy(error: OSError) -> str:
    """Return what to do about a disk that refuses, or nothing if it is not for us to say."""
    return _REMEDIES.get(error.errno or 0, "")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put `path` into an OSError that names none: a write through a descriptor does not know its file."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Put `content` at `path` in one step; `mode` holds before the first byte is written.

    The folder must exist. A reader sees the old content or the new, also across a power cut.

    Raises:
        OSError: the disk is full or the folder cannot be written; what was at `path` is still there.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _write_new(new, content, mode)
        failpoints.reached("disk.file.before")
        new.replace(path)
        failpoints.reached("disk.file.after")
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_bundle(folder: Path, bundle: Bundle) -> bool:
    """Make `folder` hold exactly `bundle`, in one step; return whether anything changed.

    Folders are 0700: the tree is the operator's. What an earlier bundle left there and this one lacks goes away.

    Raises:
        UsageError: `folder` holds something that no bundle of ours has; nothing was touched.
        OSError: it could not be written; `folder` is as it was.
    """
    folder = folder.resolve()
    _refuse_foreign(folder)
    if read_bundle(folder) == dict(bundle) and _has_sums(folder):
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        _write_tree(new, bundle)
        failpoints.reached("disk.bundle.before")
        _swap(new, folder)
        failpoints.reached("disk.bundle.after")
        _sync_folder(folder.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return True


def read_bundle(folder: Path) -> dict[str, File]:
    """Return the documents that `folder` holds, by path with forward slashes; nothing if there is no such folder."""
    own = folder / sums.NAME
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != own)
    return {
        path.relative_to(folder).as_posix(): File(path.read_bytes(), path.stat().st_mode & 0o7777)
        for path in found
    }


def _has_sums(folder: Path) -> bool:
    file = folder / sums.NAME
    return file.is_file() and sums.is_whole(file.read_bytes())


def _refuse_foreign(folder: Path) -> None:
    """Refuse to replace a folder that is somebody's: a slip in `render --output` must not cost a home directory."""
    if folder.is_dir():
        foreign = sorted({path.name for path in folder.iterdir()} - _TOP)
        if foreign:
            raise UsageError(
                f"{folder} holds {foreign[0]!r}, which is not ours: name an empty folder or a new one"
            )
    elif folder.exists():
        raise UsageError(f"{folder} is not a folder: name an empty folder or a new one")


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Make the file `path`, which must not exist, and bring it to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with naming(path), os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _write_tree(folder: Path, bundle: Bundle) -> None:
    """Write `bundle` into the new `folder`, and bring every file and folder of it to the disk."""
    folder.mkdir(mode=0o700)
    for path, file in bundle.items():
        target = folder / path
        for parent in reversed(target.relative_to(folder).parents):
            (folder / parent).mkdir(mode=0o700, exist_ok=True)
        _write_new(target, file.content, file.mode)
    _write_new(folder / sums.NAME, sums.text_of({path: file.content for path, file in bundle.items()}), 0o644)
    for made in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        _sync_folder(made)


def _swap(new: Path, old: Path) -> None:
    """Give `new` the name of `old`; the old tree, if any, is then at `new`."""
    if not old.exists():
        new.rename(old)
    elif not _exchange(new, old):
        # This filesystem cannot swap names: between these renames there is no tree; the next run makes it.
        aside = old.with_name(f"{new.name}.old")
        old.rename(aside)
        new.rename(old)
        aside.rename(new)


def _exchange(one: Path, other: Path) -> bool:
    """Swap the names of `one` and `other` in one step; return False where the filesystem has no such step."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    if result == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(one))


def _sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with naming(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
