import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bootstrap.backup.collect import Site, backup
from bootstrap.backup.manifest import Manifest
from bootstrap.backup.restore import Order, Restored, restore
from bootstrap.config import load
from bootstrap.disk import write_file
from bootstrap.keys import ensure_keys
from bootstrap.model import Cluster
from bootstrap.records.ledger import Ledger
from bootstrap.records.model import Claim, MachineRecord
from bootstrap.state import MOVE, Put
from bootstrap.state.sqlite import SqliteStore
from bootstrap.states import State
from bootstrap.workplace import Workplace
from certs.secret import Secret

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "configs" / "example.yaml"
NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


def record(mac: str, state: State, **values: object) -> MachineRecord:
    name = str(values.pop("name", f"n{mac[-2:]}"))
    return MachineRecord(mac=mac, name=name, state=state, since=NOW, arm=f"old-{mac}").but(**values)


def claim(name: str, **values: object) -> Claim:
    return Claim(node=name, key="k" * 64, bound_at=NOW, issued_at=NOW, expires_at=LATER).but(**values)


@dataclass
class Rack:
    """A cluster's work folder with keys, records and the rest; etcd is not part of the sample."""

    place: Workplace
    cluster: Cluster
    file: Path

    @property
    def work(self) -> Path:
        return self.place.work

    def put(self, *records: MachineRecord) -> None:
        (self.work / "state").mkdir(mode=0o700, exist_ok=True)
        store = SqliteStore(self.work / "state/state.db")
        store.commit([Put(key=f"machine/{each.mac}", value=each.to_bytes()) for each in records])
        store.close()

    def moves(self, role: str) -> None:
        """Leave what a move of the state to etcd leaves in the file, finished or not."""
        store = SqliteStore(self.work / "state/state.db")
        store.commit([Put(key=MOVE, value=move_mark(role, "etcd"))])
        store.close()

    def records(self) -> dict[str, MachineRecord]:
        store = SqliteStore(self.work / "state/state.db")
        found = {each.name: each for each in Ledger(store, lambda: NOW).machines()}
        store.close()
        return found

    def backup(self, now: datetime = NOW) -> Manifest:
        site = Site(cluster=self.cluster, place=self.place, configs=(CONFIG,), version="0.1.0")
        with self.place.locked():
            return backup(site, self.file, now)

    def restore(
        self, *, is_forced: bool = False, retired: tuple[str, ...] = (), now: datetime = LATER
    ) -> Restored:
        order = Order(
            file=self.file, cluster=self.cluster, place=self.place, is_forced=is_forced, retired=retired
        )
        with self.place.locked():
            return restore(order, now)

    def lose(self) -> None:
        """The disk dies: all is gone but the backup."""
        self.work.rename(self.work.with_name("lost"))

    def tree(self) -> dict[str, tuple[bytes, int]]:
        """Return what a backup holds of the work folder, the store apart: by path, content and mode."""
        tops = ("pki", "known_hosts", "accepted.json", "pod-subnets.json", "etcd.json", "binaries.json")
        paths = (path for path in sorted(self.work.rglob("*")) if path.is_file())
        return {
            inner: (path.read_bytes(), path.stat().st_mode & 0o777)
            for path in paths
            if (inner := path.relative_to(self.work).as_posix()).split("/")[0] in tops
        }


def move_mark(role: str, other: str) -> bytes:
    return json.dumps({"role": role, "other": other}).encode()


def everything(folder: Path) -> dict[str, bytes]:
    """Return all files below `folder`, the lock of a run apart."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real keys, made once; the authorities' are sealed."""
    work = tmp_path_factory.mktemp("keys")
    ensure_keys(load([CONFIG]), work, NOW, Secret(b"correct horse"))
    return work / "pki"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Return a configuration to lay over the sample: no packet of a test leaves this computer."""
    file = tmp_path / "here.yaml"
    file.write_text("controlPlane:\n  hosts:\n    - {name: m1, address: 127.9.9.9}\n")
    return file


@pytest.fixture
def rack(tmp_path: Path, keys: Path) -> Rack:
    cluster = load([CONFIG])
    cluster = cluster.model_copy(update={"etcd": cluster.etcd.model_copy(update={"members": ()})})
    place = Workplace(tmp_path / "deploy", cluster.metadata.name)
    place.make()
    _copy(keys, place.work / "pki")
    (place.work / "known_hosts").mkdir(mode=0o700)
    for name in ("known_hosts/m1.pub", "pod-subnets.json", "etcd.json", "binaries.json"):
        write_file(place.work / name, f"{secrets.token_hex(8)}\n".encode(), 0o600)
    entry = {"mac": "52:54:00:aa:00:77", "name": "w7", "pool": cluster.pools[0].name}
    write_file(place.work / "accepted.json", f"{json.dumps([entry])}\n".encode(), 0o600)
    known = cluster.machines[0]
    made = Rack(place, cluster, tmp_path / "backup.tar.gz")
    made.put(record(known.mac, State.READY, name=known.name, claim=claim(known.name)))
    return made


def _copy(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700)
    for path in sorted(source.rglob("*")):
        goal = target / path.relative_to(source)
        if path.is_dir():
            goal.mkdir(mode=0o700)
        else:
            write_file(goal, path.read_bytes(), path.stat().st_mode & 0o777)
