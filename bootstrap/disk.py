"""Writes files and trees so that a power cut leaves the old one or the new one, never a mixture."""

import ctypes
import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bootstrap import failpoints, index, redo, sums
from bootstrap.collector import uncollected
from bootstrap.errors import UsageError
from bootstrap.render.bundle import Bundle, File, Rendered, paths_of

_OWN = frozenset({sums.NAME, index.NAME})
"""What stands beside the documents of a bundle."""
_TOP = frozenset({"appliance", "hosts", "machines", "pxe", "web"}) | _OWN
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
_FEW = 0.05
"""The part of all machines up to which a change goes into the tree that stands."""
_MANY_FILES = 200
"""From so many files on one sync of the whole filesystem is quicker than one of each file."""


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
    sync_folder(path.parent)


def write_bundle(folder: Path, bundle: Bundle) -> bool:
    """Make `folder` hold exactly `bundle`, in one step; return whether anything changed.

    Folders are 0700: the tree is the operator's. What an earlier bundle left there and this one lacks goes away.

    Raises:
        UsageError: `folder` holds something that no bundle of ours has; nothing was touched.
        OSError: it could not be written; `folder` is as it was.
    """
    folder = folder.resolve()
    _refuse_foreign(folder)
    finish_bundle(folder)
    if isinstance(bundle, Rendered) and (done := _changed_few(folder, bundle)) is not None:
        return done
    if _is_same(folder, bundle):
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        _write_tree(new, bundle)
        failpoints.reached("disk.bundle.before")
        swap(new, folder)
        failpoints.reached("disk.bundle.after")
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return True


def finish_bundle(folder: Path) -> None:
    """Finish a change of the bundle in `folder` that was cut off; to be called before it is read.

    Raises:
        OSError: it could not be written.
    """
    redo.finish(folder, write=write_file, sync=sync_folder)


def read_bundle(folder: Path) -> dict[str, File]:
    """Return the documents that `folder` holds, by path with forward slashes; nothing if there is no such folder."""
    return {path: _read(folder / path) for path in _paths(folder)}


def _read(path: Path) -> File:
    return File(path.read_bytes(), path.stat().st_mode & 0o7777)


def _paths(folder: Path) -> list[str]:
    """Return the documents in `folder`."""
    found = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in found if path not in _OWN]


def _is_same(folder: Path, bundle: Bundle) -> bool:
    """Return whether the tree is that of `bundle` already; holds one document at a time."""
    return (
        not index.is_wanted(bundle)
        and not (folder / index.NAME).exists()
        and _has_sums(folder)
        and set(_paths(folder)) == set(bundle)
        and all(_read(folder / path) == file for path, file in bundle.items())
    )


def _known(folder: Path) -> index.Index | None:
    """Return the index of a tree that has one, of this program, and whole sums."""
    return index.read(folder) if _has_sums(folder) else None


def _changed_few(folder: Path, bundle: Rendered) -> bool | None:
    """Change the tree where few machines changed, and return whether any did; None if it must be written anew."""
    with uncollected():
        known = _known(folder)
        if known is None:
            return None
        stale, gone = index.stale(folder, known, bundle.inputs), known.machines.keys() - bundle.inputs.keys()
        if len(stale) + len(gone) > _FEW * len(bundle.inputs):
            return None
        return _change_few(folder, bundle, known, stale, gone)


def _change_few(
    folder: Path, bundle: Rendered, known: index.Index, stale: Iterable[str], gone: Iterable[str]
) -> bool:
    """Change the documents of some machines and those of none; return whether there were any to change."""
    put = {path: file for path, file in bundle.shared.items() if _differs(folder / path, file)}
    for name in stale:
        put |= bundle.of_machine(name)
    removed = [path for name in sorted(gone) for path in paths_of(name)]
    if not put and not removed:
        return False
    stamp = time.time_ns()
    redo.change(
        folder,
        {**put, **_own_files(folder, bundle, known, put, stamp)},
        removed,
        stamp=stamp,
        write=write_file,
        sync=sync_folder,
    )
    return True


def _differs(path: Path, file: File) -> bool:
    try:
        return _read(path) != file
    except FileNotFoundError:
        return True


def _own_files(
    folder: Path, bundle: Rendered, known: index.Index, put: Mapping[str, File], stamp: int
) -> dict[str, File]:
    """Return sums and index as they are once `put` is in the tree."""
    old = sums.Sums(folder).known or {}
    fresh = {path: sums.sum_of(file.content) for path, file in put.items()}
    digests = {path: fresh.get(path) or old[path] for path in bundle}
    text = known.after(bundle.inputs, put, stamp).to_bytes()
    return {sums.NAME: File(sums.text_of_sums(digests)), index.NAME: File(text)}


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


def _write_new(path: Path, content: bytes, mode: int, *, is_synced: bool = True) -> None:
    """Make the file `path`, which must not exist, and bring it to the disk unless all are brought there later."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with naming(path), os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        if is_synced:
            file.flush()
            os.fsync(descriptor)


def _write_tree(folder: Path, bundle: Bundle) -> None:
    """Write `bundle` into the new `folder`, and bring every file and folder of it to the disk."""
    folder.mkdir(mode=0o700)
    made, digests, is_synced = {folder}, dict[str, str](), len(bundle) < _MANY_FILES
    for path, file in bundle.items():
        target = folder / path
        for parent in (target.parent.parent, target.parent):
            if parent not in made and parent != folder.parent:
                parent.mkdir(mode=0o700)
                made.add(parent)
        _write_new(target, file.content, file.mode, is_synced=is_synced)
        digests[path] = sums.sum_of(file.content)
    _write_new(folder / sums.NAME, sums.text_of_sums(digests), 0o644, is_synced=is_synced)
    if isinstance(bundle, Rendered) and index.is_wanted(bundle):
        _write_new(folder / index.NAME, index.of_tree(folder, bundle).to_bytes(), 0o644, is_synced=is_synced)
    if not is_synced:
        _sync_all(folder)
        return
    for each in made:
        sync_folder(each)


def _sync_all(folder: Path) -> None:
    """Bring the whole filesystem that holds `folder` to the disk (syncfs(2)); a failed write shows here."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(descriptor)


def swap(new: Path, old: Path) -> None:
    """Give the folder `new` the name of `old`; the old tree, if any, is then at `new`."""
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


@contextmanager
def holding(folder: Path, *, is_patient: bool = True) -> Iterator[None]:
    """Hold `folder` (flock(2) on itself) while one of its files is read, changed and written back.

    Raises:
        BlockingIOError: somebody else holds it, and this is not patient.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if is_patient else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with naming(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
