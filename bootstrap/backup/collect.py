"""Makes a backup: gathers what it holds into one moment's parts, and writes them."""

import contextlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bootstrap import etcd, stores
from bootstrap.backup.archive import Part, part, write_archive
from bootstrap.backup.manifest import (
    CONFIG,
    FILES,
    FOLDERS,
    FOR_ALL,
    OWNER_ONLY,
    SNAPSHOT,
    STATE,
    Manifest,
    is_place,
)
from bootstrap.backup.snapshot import why_damaged
from bootstrap.errors import BackupError, UsageError
from bootstrap.keys import FOLDER as PKI
from bootstrap.model import Cluster
from bootstrap.state import Store
from bootstrap.state.lastgood import copy_to
from bootstrap.state.moving import copied
from bootstrap.state.sqlite import SqliteStore
from bootstrap.workplace import Workplace
from certs.secret import Secret

SNAPSHOT_SECONDS = 600.0  # 8 GiB over a 1 Gbit/s link take about 70 s
CLIENT = "etcd/healthcheck-client"
LEFT = "backup-"
"""How the folder begins in which a backup gathers; a killed one leaves it."""

Wrap = Callable[[Sequence[str]], Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a backup is made of; `wrap` puts a command onto the network of the hosts. The caller holds the lock."""

    cluster: Cluster
    place: Workplace
    configs: tuple[Path, ...]
    version: str
    wrap: Wrap = tuple


def backup(site: Site, file: Path, now: datetime) -> Manifest:
    """Write a backup of `site` to `file` and return what is in it; the appliance may run meanwhile.

    Raises:
        UsageError: there is nothing to back up, or `file` is there already.
        BackupError: something there cannot go into a backup, or the state is in another store.
        StateError: the store is damaged, or does not answer.
        OSError: the disk is full or refuses.
    """
    work = site.place.work
    if not (work / PKI).is_dir():
        raise UsageError(f"cluster {site.place.name} has no keys in {work}: there is nothing to back up")
    with _gathering(work) as folder:
        missing = _snapshot(site, folder / SNAPSHOT)
        parts = tuple(_parts(site, folder))
        manifest = Manifest(
            cluster=site.place.name,
            version=site.version,
            taken_at=now.replace(microsecond=0),
            etcd_missing=missing,
            members=tuple(each.member for each in parts),
        )
        write_archive(file, manifest, parts)
    return manifest


@contextlib.contextmanager
def _gathering(work: Path) -> Iterator[Path]:
    for left in (work / "run").glob(f"{LEFT}*"):
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=LEFT, dir=work / "run") as folder:
        yield Path(folder)


def _parts(site: Site, folder: Path) -> Iterator[Part]:
    """Yield what goes in, the largest last."""
    work = site.place.work
    for number, config in enumerate(site.configs, start=1):
        name = re.sub(r"[^A-Za-z0-9._+@-]", "_", config.name)[-60:]
        yield part(f"{CONFIG}/{number}-{name}", config.read_bytes(), OWNER_ONLY)
    for path in _files(work):
        source = work / path
        mode = FOR_ALL if source.stat().st_mode & 0o077 else OWNER_ONLY
        yield part(path, source.read_bytes(), mode)
    copy = folder / Path(STATE).name
    if site.cluster.appliance.store == "etcd":
        _copy_shared(site, copy)
    elif (work / STATE).exists():
        _copy_file(site, copy)
    if copy.exists():
        yield part(STATE, copy, OWNER_ONLY)
    if (folder / SNAPSHOT).exists():
        yield part(SNAPSHOT, folder / SNAPSHOT, OWNER_ONLY)


def _copy_file(site: Site, target: Path) -> None:
    """Make `target` a copy of the file in the work folder; raises BackupError, StateError."""
    copy_to(site.place.work / STATE, target)
    copy = SqliteStore(target)
    try:
        _refuse_elsewhere(site, copy)
    finally:
        copy.close()


def _copy_shared(site: Site, target: Path) -> None:
    """Make `target` a file with what is in the etcd of the appliance at one moment; raises BackupError, StateError."""
    shared = stores.open_shared(site.cluster, site.place.work, moves=True)
    try:
        _refuse_elsewhere(site, shared)
        file = SqliteStore(target)
        try:
            copied(shared, file)
        finally:
            file.close()
    finally:
        shared.close()


def _refuse_elsewhere(site: Site, store: Store) -> None:
    """Refuse a store that was left, or is half a copy: brought back, it would be a state of the past."""
    if why := stores.why_elsewhere(site.cluster, site.place.work, store):
        raise BackupError(f"the state is not in the store of which this would be a backup: {why}")


def _files(work: Path) -> Iterator[str]:
    """Yield the small files of the work folder that a backup holds; half-written ones begin with a dot."""
    yield from (name for name in FILES if (work / name).exists())
    for top in FOLDERS:
        for path in sorted((work / top).rglob("*")):
            inner = path.relative_to(work)
            if (path.is_dir() and not path.is_symlink()) or any(p.startswith(".") for p in inner.parts):
                continue
            if path.is_symlink() or not path.is_file() or not is_place(inner.as_posix()):
                raise BackupError(
                    f"{path}: is no plain file with a plain name; move it away, then run this again"
                )
            yield inner.as_posix()


def _snapshot(site: Site, target: Path) -> str:
    """Have etcd write a snapshot to `target`; return why there is none, or nothing if there is or need be none."""
    if not site.cluster.etcd.members:
        return ""
    said = _asked(site, target)
    said = said or why_damaged(target)
    if said:
        target.unlink(missing_ok=True)
    return said


def _asked(site: Site, target: Path) -> str:
    try:
        question = etcd.Question(
            "snapshot", _addresses(site.cluster), _client(site.place.work), file=f"{target}"
        )
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    try:
        done = subprocess.run(
            site.wrap(etcd.argv()),
            cwd=etcd.root(),
            input=question.to_json(),
            capture_output=True,
            timeout=SNAPSHOT_SECONDS,
            check=False,
        )
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return f"no snapshot within {SNAPSHOT_SECONDS:.0f} s"
    except (ValueError, OSError):
        return "the hosts' network is not there"
    return str(answer.get("error", ""))


def _addresses(cluster: Cluster) -> dict[str, str]:
    hosts = {host.name: host.address for host in cluster.control_plane.hosts}
    return {name: f"{hosts[name]}:{etcd.PORT}" for name in cluster.etcd.members}


def _client(work: Path) -> etcd.Credentials:
    pki = work / PKI
    certificate, key = (pki / f"{CLIENT}{kind}" for kind in (".crt", ".key"))
    return etcd.Credentials(
        (pki / "etcd" / "ca.crt").read_bytes(), certificate.read_bytes(), Secret(key.read_bytes())
    )
