"""Gathers what goes into the cluster from the work folder, and keeps what was there: once for each handover.

Only what KEYS of the containers' table names is read of pki/; CAs' keys stay.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from bootstrap import accepted, allotment, node_programs
from bootstrap.backup.collect import Site, backup
from bootstrap.backup.manifest import STATE
from bootstrap.containers.table import CONTAINERS, KEPT_BY_PXE, KEYS, Name, home
from bootstrap.disk import write_file
from bootstrap.errors import UsageError
from bootstrap.handover import parcel
from bootstrap.handover.fence import Fence
from bootstrap.handover.parcel import Parcel
from bootstrap.keys import FOLDER as PKI
from bootstrap.model import Cluster
from bootstrap.render.bundle import Bundle
from bootstrap.state.lastgood import copy_to
from bootstrap.state.moving import why_not_home
from bootstrap.state.sqlite import SqliteStore
from bootstrap.workplace import PRIVATE, Workplace

KEPT = "handover"
"""Folder of the work folder: for each handover, by its id, a backup of before and the parcels with the state."""
BACKUP = "before.tar.gz"
COPY = "copy-"
OWNER_ONLY = 0o600


@dataclass(frozen=True, kw_only=True)
class Goods:
    """What moves: the work folder of a cluster, and today's documents in `bundle`. The caller holds the lock."""

    cluster: Cluster
    place: Workplace
    configs: tuple[Path, ...]
    version: str
    bundle: Bundle
    now: datetime


def kept(place: Workplace, standing: Fence) -> Path:
    """Return the folder that keeps what was here before a handover."""
    return place.work / KEPT / standing.id


def gather(goods: Goods, standing: Fence) -> tuple[Parcel, ...]:
    """Return all parcels, when nothing writes to the state any more; the state is read once, a backup made of it.

    Raises:
        BackupError, StateError: what is there is damaged.
        UsageError: the state is in another store.
        OSError: the disk does not take it.
    """
    folder = kept(goods.place, standing)
    folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    _back_up(goods, folder / BACKUP)
    found = []
    for part in CONTAINERS:
        file = folder / f"{part}-state.tar.gz"
        if not file.exists():
            write_file(file, parcel.packed(part, "state", _state(goods, part, folder)).archive, OWNER_ONLY)
        found += [
            parcel.packed(part, "documents", documents(goods, part)),
            Parcel(part, "state", file.read_bytes()),
        ]
    return tuple(found)


def trial(goods: Goods) -> tuple[Parcel, ...]:
    """Return all parcels as they are now, while the appliance may go on writing; nothing is kept.

    Raises:
        StateError: the store is damaged.
        UsageError: the state is in another store.
    """
    with TemporaryDirectory(prefix=COPY, dir=goods.place.work / "run") as made:
        folder = Path(made)
        states = [parcel.packed(part, "state", _state(goods, part, folder)) for part in CONTAINERS]
    return (*states, *(parcel.packed(part, "documents", documents(goods, part)) for part in CONTAINERS))


def documents(goods: Goods, part: Name) -> parcel.Entries:
    """Return the documents and keys of a part."""
    work = goods.place.work
    pki = _files({name: work / PKI / name for name in KEYS[part]})
    programs = _files({node_programs.RECORD: work / node_programs.RECORD})
    return parcel.documents(part, goods.bundle, pki, programs.get(node_programs.RECORD))


def _back_up(goods: Goods, file: Path) -> None:
    if file.exists():
        return
    # The cluster's etcd is no part of the appliance: `backup` has it, and nothing here changes it.
    etcd = goods.cluster.etcd.model_copy(update={"members": ()})
    alone = goods.cluster.model_copy(update={"etcd": etcd})
    site = Site(cluster=alone, place=goods.place, configs=goods.configs, version=goods.version)
    backup(site, file, goods.now)


def _state(goods: Goods, part: Name, folder: Path) -> parcel.Entries:
    work = goods.place.work
    if part == "pxe":
        return parcel.state(
            part, _files({home("pxe", "run", kept): work / "run" / kept for kept in KEPT_BY_PXE})
        )
    names = (accepted.FILE, allotment.FILE)
    files = _files({home("web", "records", name): work / name for name in names})
    if (work / STATE).exists():
        files[STATE] = _copied(work / STATE, folder)
    return parcel.state(part, files)


def _copied(database: Path, folder: Path) -> bytes:
    """Return the store as one checked file, made in `folder`; raises UsageError if the state is elsewhere."""
    for left in folder.glob(f"{COPY}*"):
        shutil.rmtree(left)
    with TemporaryDirectory(prefix=COPY, dir=folder) as made:
        copy = Path(made) / database.name
        copy_to(database, copy)
        content = copy.read_bytes()
        store = SqliteStore(copy)
        try:
            why = why_not_home(store)
        finally:
            store.close()
        if why:
            raise UsageError(f"{database}: {why}; then hand it over")
        return content


def _files(paths: Mapping[str, Path]) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in paths.items() if path.is_file()}
