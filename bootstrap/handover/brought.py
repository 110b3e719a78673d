"""What was copied from the node, looked through before any of it is taken: web has chosen what lies there."""

import os
import stat
import tarfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from bootstrap import accepted, allotment
from bootstrap.backup.manifest import STATE
from bootstrap.containers.records import MOST_BYTES, accepted_from, read_bounded
from bootstrap.containers.table import KEPT_BY_PXE, home
from bootstrap.disk import holding, sync_folder, write_file
from bootstrap.errors import StateError, UsageError
from bootstrap.handover.fence import Fence
from bootstrap.handover.gathering import OWNER_ONLY
from bootstrap.handover.unpack import MARK, Damaged, id_in
from bootstrap.kubernetes import subnets
from bootstrap.records.model import Accepted
from bootstrap.state import wal
from bootstrap.state.lastgood import copy_of, copy_to, revision_of
from bootstrap.workplace import PRIVATE

PID = home("web", "run", "web.pid")
"""web has it as long as it runs (web/__main__.py)."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Brought:
    """The state in a copy of the appliance's folder; None for what the appliance there never had."""

    store: Path | None
    machines: Mapping[str, Accepted]
    numbers: Mapping[str, int]
    of_pxe: Mapping[str, bytes]


def look(folder: Path, standing: Fence, *, wants_store: bool) -> Brought:
    """Return what `folder` holds, if it is a whole copy of this handover's, made when nothing ran there any more.

    Raises:
        UsageError: it is not; nothing was changed.
    """
    try:
        found = id_in(folder / "state" / MARK)
    except Damaged as error:
        raise UsageError(f"{error}; copy the folder again") from error
    if found != standing.id:
        what = f"of handover {found}" if found else "no folder of an appliance in a cluster"
        raise UsageError(f"{folder} is {what}, and the state of handover {standing.id} is wanted")
    if os.path.lexists(folder / PID):
        raise UsageError(
            f"{folder / PID}: web ran there while this was copied, and what it wrote since is missing: copy the folder"
            " again. If the node has that file still, its web was killed: remove it there first"
        )
    return Brought(
        store=_store(folder, is_wanted=wants_store),
        machines=_parsed(folder / home("web", "records", accepted.FILE), accepted_from) or {},
        numbers=_parsed(folder / home("web", "records", allotment.FILE), subnets.parse) or {},
        of_pxe={name: content for name in KEPT_BY_PXE if (content := _of_pxe(folder, name)) is not None},
    )


def _of_pxe(folder: Path, name: str) -> bytes | None:
    return _parsed(folder / home("pxe", "run", name), bytes)


def wants_store(work: Path, kept: Path) -> bool:
    """Return whether the appliance there must have a store: there was one here, or one was sent (`kept`)."""
    file = kept / "web-state.tar.gz"
    if (work / STATE).exists() or not file.exists():
        return (work / STATE).exists()
    try:
        with tarfile.open(file) as tar:
            return STATE in tar.getnames()
    except (OSError, EOFError, tarfile.TarError):
        return True  # what was sent cannot be read any more


def take(found: Brought, work: Path) -> None:
    """Put what was brought into the work folder, where nothing uses it while the fence stands.

    Raises:
        UsageError: its store is older than what is known; nothing was changed.
        StateError, OSError: the store is damaged, or the disk does not take it.
    """
    if found.store is not None:
        _take_store(found.store, work / STATE)
    with holding(work):
        known = {**{one.mac: one for one in accepted.read(work)}, **found.machines}
        accepted.write(work, known.values())
        allotment.record(work, subnets.joined(found.numbers, allotment.recorded(work)))
    for name, content in found.of_pxe.items():
        write_file(work / "run" / name, content, OWNER_ONLY)


def _store(folder: Path, *, is_wanted: bool) -> Path | None:
    """Return the store's file, if it and its log are whole as far as that can be seen."""
    file = folder / STATE
    log, shared = (file.with_name(file.name + suffix) for suffix in ("-wal", "-shm"))
    for path in (file, log, shared, copy_of(file)):
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            raise UsageError(f"{path}: is no plain file, and none of ours; look at the node")
    if not file.exists():
        if is_wanted:
            raise UsageError(f"{file} is missing: the copy is not whole; copy the folder again")
        return None
    if shared.exists() and not log.exists():
        raise UsageError(
            f"{log} is missing, which holds what was written last: the copy is not whole; copy the folder again"
        )
    if wal.is_damaged(log):
        raise UsageError(f"{log}: has lost commits that were answered; copy the folder again")
    return file


def _parsed(path: Path, parse: Callable[[bytes], T]) -> T | None:
    """Return what web or pxe has written at `path`; None if there is nothing."""
    content = read_bounded(path)
    if content is None:
        if os.path.lexists(path):
            raise UsageError(
                f"{path}: is no plain file of at most {MOST_BYTES >> 20} MiB, and none of ours; look at the node"
            )
        return None
    try:
        return parse(content)
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise UsageError(
            f"{path}: is not what an appliance writes ({first}); copy it again, and if the node has it so, remove it"
            " from the copy: what it adds to what is here is then lost"
        ) from error


def _take_store(source: Path, target: Path) -> None:
    """Make `target` a whole and checked copy of `source`; what was there goes only then."""
    target.parent.mkdir(mode=PRIVATE, exist_ok=True)
    with TemporaryDirectory(prefix=".back-", dir=target.parent) as made:
        fresh = Path(made) / target.name
        copy_to(source, fresh)
        _refuse_older(fresh, source, target)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        for suffix in ("-wal", "-shm"):
            target.with_name(target.name + suffix).unlink(missing_ok=True)
        copy_of(target).unlink(missing_ok=True)  # it is older
        fresh.replace(target)
    sync_folder(target.parent)


def _refuse_older(fresh: Path, source: Path, target: Path) -> None:
    """Return if nothing that is known of this state is newer: its own checked copy, or what is here."""
    revision = revision_of(fresh)
    for known in (copy_of(source), target):
        with suppress(StateError):  # damaged, or not there
            if (newest := revision_of(known)) > revision:
                raise UsageError(
                    f"{source}: is of revision {revision}, and {known} of {newest}: the copy is older, or not whole;"
                    " copy the folder again"
                )
