"""Brings a backup back: unpacks it beside the work folder, closes what it would permit anew, then swaps the two.

Until the swap, one rename, the work folder is as it was; after it, it is the backup's. What it was before is kept as
`<cluster>.before-restore-<time>`.
"""

import json
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from bootstrap import background, failpoints, stores
from bootstrap.backup import revoked
from bootstrap.backup.archive import CHUNK, Content, read_archive, read_manifest
from bootstrap.backup.manifest import FILES, FOLDERS, OWNER_ONLY, SNAPSHOT, STATE, Manifest, Member
from bootstrap.disk import naming, swap, sync_folder, write_file
from bootstrap.errors import BackupError, StateError, UsageError
from bootstrap.model import Cluster
from bootstrap.processes import running_pid
from bootstrap.records.ledger import UNKNOWN, Change, Ledger, Note
from bootstrap.records.model import MachineRecord
from bootstrap.records.transitions import OPERATOR
from bootstrap.state import Put
from bootstrap.state.lastgood import copy_to
from bootstrap.state.sqlite import SqliteStore
from bootstrap.workplace import PRIVATE, Workplace

RESTORED_SNAPSHOT = "restored-etcd.snapshot"
RECORD = "restored.json"
"""Says which restore made the work folder: the one whose stamp is in the name of what it left, if it was cut off."""
EPOCH = "meta/epoch"
"""Key of the store: how often it was brought back from a backup."""
KEPT = ("lab", "log", "run/lock", "run/operator", "run/leases", "run/tftp-learned")
"""What stays in the work folder, because it is of this computer and in no backup."""
SLACK_BYTES = 64 << 20
BETWEEN = ".old"
"""Ends the name of the old folder between the two renames of `swap`, where a file system cannot swap names."""
MOUNTS = Path("/proc/self/mounts")


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What a restore did: `aside` is where the work folder's old content is (None: there was none).

    `members` may renew their certificates from now on; `closed` lost their arm. `notes` are for people.
    """

    manifest: Manifest
    aside: Path | None
    members: tuple[str, ...]
    closed: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is asked: `cluster` is the configuration of today, `retired` machines were retired since the backup."""

    file: Path
    cluster: Cluster
    place: Workplace
    is_forced: bool = False
    retired: tuple[str, ...] = ()


def restore(order: Order, now: datetime, new_id: Callable[[], str] | None = None) -> Restored:
    """Bring the backup back; the caller holds the lock of the work folder.

    Raises:
        UsageError: the appliance runs, the backup is another cluster's, the work folder is in use, or `retired` names
            a machine that nobody knows; nothing was changed.
        BackupError: the backup is damaged, or there is no room for it; nothing was changed.
        OSError: the disk is full or refuses; nothing was changed.
    """
    place, stamp = order.place, f"{now:%Y%m%dT%H%M%S}.{now.microsecond // 1000:03}Z"
    work = place.work.resolve()  # a link to another disk stays one
    refuse_running(place)
    _settle_leftovers(work)
    _refuse(order, read_manifest(order.file))
    staged = work.with_name(f"{work.name}.restoring-{stamp}")
    aside = work.with_name(f"{work.name}.before-restore-{stamp}")
    if aside.exists():
        raise UsageError(f"{aside} is there already; run this again")
    try:
        manifest = _unpack(order.file, staged)
        result = _close(order, manifest, staged, now, new_id or partial(secrets.token_hex, 16))
        _furnish(work, staged, stamp, now)
        failpoints.reached("restore.swap.before")
        swap(staged, work)
    except BaseException:
        _settle_leftovers(work)  # Ctrl-C may come when the two have swapped their names already
        raise
    failpoints.reached("restore.swap.after")
    return Restored(manifest=manifest, aside=_set_aside(staged, aside), **result)


def refuse_running(place: Workplace) -> None:
    """Return if nothing of the cluster's appliance or lab runs on this computer; raises UsageError."""
    parts = ((place.work / "run" / f"{name}.pid", name) for name in ("web", "pxe"))
    running = background.pid_of(place) or next(
        filter(None, (running_pid(file, f" -m {name} ", f" --work {place.work} ") for file, name in parts)),
        None,
    )
    if running:
        raise UsageError(f"the appliance of {place.name} runs (pid {running}); end it first: down")
    mounted = f" {place.work.resolve()}/"
    if mounted in MOUNTS.read_text():
        raise UsageError(f"the lab of {place.name} is up, with mounts in {place.work}; end it first: down")


def _refuse(order: Order, manifest: Manifest) -> None:
    if manifest.cluster != order.place.name:
        raise UsageError(
            f"{order.file} is of cluster {manifest.cluster!r}, the configuration is of {order.place.name!r}; "
            f"name the configuration of {manifest.cluster!r}"
        )
    there = _in_use(order.place.work)
    if there and not order.is_forced:
        raise UsageError(
            f"{there} is there already; --force moves the whole folder aside, and deletes nothing"
        )
    free = shutil.disk_usage(order.place.work.parent).free
    if free < manifest.size + SLACK_BYTES:
        raise BackupError(
            f"{order.file} takes {(manifest.size + SLACK_BYTES) >> 20} MiB, and {free >> 20} MiB are free on "
            f"{order.place.work.parent}; make room there"
        )


def _in_use(work: Path) -> Path | None:
    """Return a key or a state that is in the work folder."""
    files = (work / name for name in (*FILES, STATE) if (work / name).exists())
    keys = (path for folder in FOLDERS for path in sorted((work / folder).rglob("*")) if not path.is_dir())
    return next(keys, None) or next(files, None)


def _unpack(file: Path, staged: Path) -> Manifest:
    staged.mkdir(mode=PRIVATE)

    def put(member: Member, content: Content) -> None:
        path = staged / (RESTORED_SNAPSHOT if member.path == SNAPSHOT else member.path)
        _make_folders(path.parent, staged)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with naming(path), os.fdopen(os.open(path, flags, OWNER_ONLY), "wb", CHUNK) as target:
            os.fchmod(target.fileno(), member.mode)
            target.writelines(content.chunks())
            target.flush()
            os.fsync(target.fileno())

    return read_archive(file, put)


def _make_folders(folder: Path, top: Path) -> None:
    for each in (*reversed(folder.relative_to(top).parents), folder.relative_to(top)):
        (top / each).mkdir(mode=PRIVATE, exist_ok=True)


def _close(
    order: Order, manifest: Manifest, staged: Path, now: datetime, new_id: Callable[[], str]
) -> Mapping[str, tuple[str, ...]]:
    """End in the staged store what may not come back; return the values of a `Restored`."""
    present, notes = _present(order.cluster, order.place.work, staged)
    if not (staged / STATE).exists() and not present:
        _refuse_unknown(order, {})
        return {"members": (), "closed": (), "notes": notes}
    (staged / STATE).parent.mkdir(mode=PRIVATE, exist_ok=True)
    store = _opened(order.file, staged)
    try:
        ledger = Ledger(store, lambda: now)
        before = {record.mac: record for record in ledger.machines()}
        _refuse_unknown(order, {**present, **before})
        _write(ledger, order, manifest, _changes(order, manifest, present, new_id))
        after = list(ledger.machines())
    finally:
        store.close()
    closed = sorted(each.name for each in after if each.mac not in before or each.arm != before[each.mac].arm)
    return {"members": revoked.members(after), "closed": tuple(closed), "notes": notes}


def _opened(file: Path, staged: Path) -> SqliteStore:
    try:
        return SqliteStore(staged / STATE)
    except StateError as error:
        why = str(error).removeprefix(f"{staged / STATE}: ").partition("; ")[0]
        raise BackupError(f"{file}: the store in it is damaged ({why}); take another backup") from error


def _present(cluster: Cluster, work: Path, staged: Path) -> tuple[dict[str, MachineRecord], tuple[str, ...]]:
    """Return the machines as the store of today knows them, and what to say if it cannot be read."""
    if cluster.appliance.store == "etcd":
        return _shared(cluster, work)
    if not (work / STATE).exists():
        return {}, ()
    copy = staged / "present.db"
    try:
        copy_to(work / STATE, copy)
        store = SqliteStore(copy)
        try:
            return {record.mac: record for record in Ledger(store, datetime.now).machines()}, ()
        finally:
            store.close()
    except StateError as error:
        return {}, (f"what was retired since cannot be read: {error}",)
    finally:
        copy.unlink(missing_ok=True)


def _shared(cluster: Cluster, work: Path) -> tuple[dict[str, MachineRecord], tuple[str, ...]]:
    """Return the machines as the appliance's etcd knows them, and what to do about what stays there."""
    more = "etcd has the state of before: `store migrate --to etcd --replace` puts the restored one there"
    store = stores.open_shared(cluster, work, moves=True)
    try:
        return {record.mac: record for record in Ledger(store, datetime.now).machines()}, (more,)
    except StateError as error:
        return {}, (f"what was retired since cannot be read: {error}", more)
    finally:
        store.close()


def _refuse_unknown(order: Order, records: Mapping[str, MachineRecord]) -> None:
    for name in revoked.names_without_record(records, order.retired):
        raise UsageError(
            f"--retired {name}: neither the backup nor the work folder knows a machine of this name"
        )


Decide = Callable[[str, MachineRecord | None, datetime], Change]


def _changes(
    order: Order, manifest: Manifest, present: Mapping[str, MachineRecord], new_id: Callable[[], str]
) -> tuple[Collection[str], Decide]:
    listed = {machine.mac: machine.name for machine in order.cluster.machines}

    def decide(mac: str, record: MachineRecord | None, now: datetime) -> Change:
        known = record or present.get(mac)
        if known is None:
            return revoked.unknown(mac, listed[mac], now, arm=new_id())
        return revoked.restored(
            record,
            present.get(mac),
            now,
            arm=new_id(),
            taken_at=manifest.taken_at,
            is_retired=known.name in order.retired,
        )

    return {**present, **listed}, decide


def _write(ledger: Ledger, order: Order, manifest: Manifest, changes: tuple[Collection[str], Decide]) -> None:
    entry = ledger.store.get(EPOCH)
    epoch = int(entry.value) + 1 if entry else 1
    told = Note(
        who=OPERATOR,
        what="restored",
        log=UNKNOWN,
        machine=order.place.name,
        decision=f"epoch {epoch}",
        detail=f"backup of {manifest.taken_at:%Y-%m-%dT%H:%M:%SZ}",
    )
    ledger.write((Put(key=EPOCH, value=f"{epoch}".encode()),), told)
    listed, decide = changes
    ledger.change_all(sorted({*listed, *(record.mac for record in ledger.machines())}), decide)


def _furnish(work: Path, staged: Path, stamp: str, now: datetime) -> None:
    """Give the staged folder what stays of the old one, by hard links, and bring all names to the disk."""
    for name in ("run", "log"):
        (staged / name).mkdir(mode=PRIVATE)
    for kept in KEPT:
        _link(work / kept, work, staged)
    values = {"stamp": stamp, "restoredAt": now.isoformat()}
    write_file(staged / RECORD, json.dumps(values).encode() + b"\n", OWNER_ONLY)
    for folder in (staged, *(path for path in staged.rglob("*") if path.is_dir() and not path.is_symlink())):
        sync_folder(folder)


def _link(kept: Path, work: Path, staged: Path) -> None:
    """Link all files of `kept` into the staged folder; folders are made anew, and are whose they were.

    A lab's host is a whole system of users: one that does not own its folders does not start.
    """
    folders = []
    for path in _below(kept):
        target = staged / path.relative_to(work)
        _make_folders(target.parent, staged)
        if path.is_dir() and not path.is_symlink():
            target.mkdir(mode=PRIVATE, exist_ok=True)
            folders.append((path, target))
        else:
            os.link(path, target, follow_symlinks=False)
    for path, target in reversed(folders):
        owner = path.stat()
        os.chown(target, owner.st_uid, owner.st_gid)
        shutil.copystat(path, target)


def _below(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(path.rglob("*"))
    elif path.exists():
        yield path


def _set_aside(old: Path, aside: Path) -> Path | None:
    """Give the old work folder its name; remove it if it holds nothing but what stays."""
    if any(not path.is_dir() and not _is_kept(path.relative_to(old)) for path in old.rglob("*")):
        old.rename(aside)
    else:
        shutil.rmtree(old)
    sync_folder(aside.parent)
    return aside if aside.exists() else None


def _is_kept(inner: Path) -> bool:
    return any(Path(kept) in (inner, *inner.parents) for kept in KEPT)


def _settle_leftovers(work: Path) -> None:
    """Name what a killed restore has set aside; remove what it had unpacked and not swapped in."""
    stem = f"{work.name}.restoring-"
    try:
        done = str(json.loads((work / RECORD).read_bytes())["stamp"])
    except (OSError, ValueError, KeyError, TypeError):
        done = ""
    for left in work.parent.glob(f"{stem}*"):
        stamp = left.name.removeprefix(stem)
        if stamp == done or stamp.endswith(BETWEEN):
            _set_aside(left, left.with_name(f"{work.name}.before-restore-{stamp}"))
        else:
            shutil.rmtree(left)
