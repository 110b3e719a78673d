"""Changes a few files of a large tree in one step: what is to be done is written down first, then done.

A run that is cut off before the note has its name changed nothing; one that is cut off later is finished by
whoever looks at the tree next. Writing the whole tree anew would take as long as for every file of it.
"""

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from bootstrap.render.bundle import File

_NOTE = "todo.json"
_PRIVATE = 0o700


def change(
    folder: Path,
    put: Mapping[str, File],
    removed: Iterable[str],
    *,
    stamp: int,
    write: Callable[[Path, bytes, int], None],
    sync: Callable[[Path], None],
) -> None:
    """Put files into the tree in `folder`, all with the time `stamp` (nanoseconds), and remove others.

    `write` brings a file to the disk in one step, `sync` the names in a folder.

    Raises:
        OSError: it could not be written; if the note was complete, the next `finish` does the rest.
    """
    stage = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        stage.mkdir(mode=_PRIVATE)
        for number, file in enumerate(put.values()):
            write(stage / str(number), file.content, file.mode)
        todo = {
            "put": [[path, file.mode] for path, file in put.items()],
            "removed": list(removed),
            "stamp": stamp,
        }
        write(stage / _NOTE, json.dumps(todo).encode(), 0o600)
        stage.rename(_pending(folder))
        sync(folder.parent)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    finish(folder, write=write, sync=sync)


def finish(folder: Path, *, write: Callable[[Path, bytes, int], None], sync: Callable[[Path], None]) -> None:
    """Do what an earlier `change` of `folder` has written down and not done.

    Raises:
        OSError: it could not be done; it is still written down.
    """
    pending = _pending(folder)
    try:
        _do(folder, pending, write, sync)
    except FileNotFoundError:
        if pending.exists():
            raise  # else another process was quicker, with the same work


def _do(
    folder: Path, pending: Path, write: Callable[[Path, bytes, int], None], sync: Callable[[Path], None]
) -> None:
    todo = json.loads((pending / _NOTE).read_bytes())
    stamp = (todo["stamp"], todo["stamp"])
    for number, (path, mode) in enumerate(todo["put"]):
        target = folder / path
        for parent in (target.parent.parent, target.parent):
            parent.mkdir(mode=_PRIVATE, exist_ok=True)
        write(target, (pending / str(number)).read_bytes(), mode)
        os.utime(target, ns=stamp)
    for path in todo["removed"]:
        (folder / path).unlink(missing_ok=True)
    for path in {Path(path).parent for path in (*todo["removed"], *(path for path, _ in todo["put"]))}:
        _settle(folder / path, stamp)
    for path in {Path(path).parent.parent for path in (*todo["removed"], *(path for path, _ in todo["put"]))}:
        sync(folder / path)
    done = pending.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    pending.rename(done)
    shutil.rmtree(done, ignore_errors=True)


def _settle(folder: Path, stamp: tuple[int, int]) -> None:
    """Remove a folder that nothing is in any more; give another one its time."""
    if not folder.is_dir():
        return
    if any(folder.iterdir()):
        os.utime(folder, ns=stamp)
    else:
        folder.rmdir()


def _pending(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.pending")
