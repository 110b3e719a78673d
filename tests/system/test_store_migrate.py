"""`store migrate` with a real etcd of three: 10,000 machines there and back, killed at each of its steps.

The commands are those of docs/stores.md.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bootstrap.failpoints import NAMES, VARIABLE
from bootstrap.records.ledger import Ledger, Note
from bootstrap.records.model import MachineRecord
from bootstrap.state import MOVE, Put, Store
from bootstrap.state.etcd import open_etcd
from bootstrap.state.moving import why_not_home
from bootstrap.state.sqlite import SqliteStore
from tests.docs_commands import commands
from tests.system.etcd_members import Members, members
from tests.system.test_etcd_store import NAMES as MEMBERS
from tests.system.test_etcd_store import answers, until
from tests.tier import Promise, rounds

pytestmark = [pytest.mark.system, pytest.mark.promise]

ROOT = Path(__file__).resolve().parents[2]
MACHINES = rounds(ci=1_000, soak=10_000)
FEW = 300
DOCUMENT_BYTES = (2_500, 6_000, 3_000)
LONGEST_SECONDS = 300.0
FAILPOINTS = tuple(name for name in NAMES if name.startswith("move."))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
THERE, BACK, BACK_ALONE = (
    words for words in commands(ROOT / "docs" / "stores.md", "anywhere") if "migrate" in words
)


@dataclass(frozen=True)
class Place:
    """A work folder, its configuration, and the etcd beside it."""

    folder: Path
    name: str
    cluster: Members

    @property
    def database(self) -> Path:
        return self.folder / "d" / self.name / "state" / "state.db"

    def run(self, command: list[str], **extra: str) -> "subprocess.CompletedProcess[str]":
        words = [str(self.folder / "config.yaml") if word == "config.yaml" else word for word in command]
        return subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env={**os.environ, "FIRSTLIGHT_DEPLOY": str(self.folder / "d"), **extra},
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )

    def etcd(self) -> Store:
        return open_etcd(self.cluster.urls, self.cluster.credentials, self.name)

    def file(self) -> Store:
        return SqliteStore(self.database)

    def content(self, store: Store) -> dict[str, bytes]:
        try:
            return {entry.key: entry.value for entry in store.scan("") if entry.key != MOVE}
        finally:
            store.close()

    def homes(self) -> list[str]:
        found = []
        for kind, store in (("sqlite", self.file()), ("etcd", self.etcd())):
            if why_not_home(store) == "" and any(store.scan("machine/")):
                found.append(kind)
            store.close()
        return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    with members(tmp_path_factory.mktemp("etcd"), *MEMBERS) as running:
        store = open_etcd(running.urls, running.credentials, "none")
        until(lambda: answers(store), 60)
        store.close()
        yield running


def place(cluster: Members, folder: Path, name: str, machines: int) -> Place:
    """Return a work folder in which so many machines are known, with documents and a few events each."""
    pki = cluster.folder / "pki" / "etcd"
    text = (ROOT / "configs" / "example.yaml").read_text().replace("name: rack1", f"name: {name}", 1)
    section = (
        f"  store: etcd\n  etcd:\n    endpoints: [{', '.join(cluster.urls)}]\n    caFile: {pki / 'ca.crt'}\n"
        f"    certFile: {pki / 'healthcheck-client.crt'}\n    keyFile: {pki / 'healthcheck-client.key'}\n"
    )
    (folder / "config.yaml").write_text(text.replace("appliance:\n", f"appliance:\n{section}", 1))
    found = Place(folder, name, cluster)
    found.database.parent.mkdir(parents=True)
    store = SqliteStore(found.database)
    fill(store, machines)
    store.close()
    return found


def fill(store: Store, machines: int) -> None:
    ledger = Ledger(store, lambda: NOW)
    macs = [
        f"52:54:{n >> 24 & 255:02x}:{n >> 16 & 255:02x}:{n >> 8 & 255:02x}:{n & 255:02x}"
        for n in range(machines)
    ]
    for first in range(0, machines, 500):
        some = macs[first : first + 500]
        store.commit(
            [
                Put(
                    key=f"machine/{mac}",
                    value=MachineRecord(mac=mac, name=f"w{mac[-5:]}", since=NOW).to_bytes(),
                )
                for mac in some
            ]
            + [
                Put(key=f"document/{mac}/{kind}", value=(mac.encode() * (size // 17 + 1))[:size])
                for mac in some
                for kind, size in zip(("live", "installed", "node"), DOCUMENT_BYTES, strict=True)
            ]
        )
        ledger.note(
            *(Note(who="machine", what="booted", log=mac, machine=mac) for mac in some for _ in range(3))
        )


def test_thousands_of_machines_go_there_and_back(cluster: Members, tmp_path: Path, promise: Promise) -> None:
    found = place(cluster, tmp_path, "large", MACHINES)
    before = found.content(found.file())
    seconds = []
    for command, store in ((THERE, found.etcd), (BACK, found.file)):
        began = time.monotonic()
        done = found.run(command)
        seconds.append(time.monotonic() - began)
        assert done.returncode == 0, done.stderr
        assert found.content(store()) == before
    size = sum(map(len, before.values())) >> 20

    promise(
        promise="R-12 the state moves to etcd and back",
        asked="10,000 machines both ways, both ends equal",
        done=f"{MACHINES} machines, {len(before)} entries, {size} MiB, three members",
        found=f"equal; there in {seconds[0]:.0f} s, back in {seconds[1]:.0f} s",
    )


@pytest.mark.parametrize("command", [THERE, BACK], ids=["there", "back"])
def test_killed_at_each_step_it_goes_on_where_it_was(
    cluster: Members, tmp_path: Path, promise: Promise, command: list[str]
) -> None:
    way = "there" if command == THERE else "back"
    turns = rounds(ci=1, soak=4)
    for number, name in enumerate(FAILPOINTS * turns):
        folder = tmp_path / str(number)
        folder.mkdir()
        found = place(cluster, folder, f"kills-{way}-{number}", FEW)
        source, target = (found.file, found.etcd) if command == THERE else (found.etcd, found.file)
        if command == BACK:
            assert found.run(THERE).returncode == 0
            store = found.etcd()
            store.commit([Put(key="machine/new", value=b"since then"), Put(key="event/new", value=b"")])
            store.close()
        before = found.content(source())
        killed = found.run(command, **{VARIABLE: f"{name}=kill"})
        assert killed.returncode == -signal.SIGKILL, (name, killed.stderr)
        assert len(found.homes()) <= 1
        done = found.run(command)
        assert done.returncode == 0, (name, done.stderr)
        assert found.content(target()) == before
        assert found.homes() == ["etcd" if command == THERE else "sqlite"]

    promise(
        promise=f"R-12 a move of the state is killed on its way {way}",
        asked="at every step: never two homes, nothing lost, the same command goes on",
        done=f"{turns * len(FAILPOINTS)} kills at {', '.join(FAILPOINTS)}",
        found="0 entries differ, one home each time",
    )


@pytest.mark.parametrize("name", [name for name in FAILPOINTS if name != "move.left.after"])
def test_killed_at_each_step_but_the_last_it_is_taken_back(
    cluster: Members, tmp_path: Path, name: str
) -> None:
    found = place(cluster, tmp_path, f"back-{FAILPOINTS.index(name)}", FEW)
    before = found.content(found.file())
    assert found.run(THERE, **{VARIABLE: f"{name}=kill"}).returncode == -signal.SIGKILL

    done = found.run(BACK)

    assert done.returncode == 0, done.stderr
    assert found.homes() == ["sqlite"]
    assert found.content(found.file()) == before


def test_a_move_to_an_etcd_that_died_on_the_way_is_taken_back_without_it(
    cluster: Members, tmp_path: Path
) -> None:
    found = place(cluster, tmp_path, "dead", FEW)
    before = found.content(found.file())
    assert found.run(THERE, **{VARIABLE: "move.copy.after=kill"}).returncode == -signal.SIGKILL
    with frozen(cluster):
        refused = found.run(BACK)
        done = found.run(BACK_ALONE)

    assert refused.returncode == 1
    assert "no answer within 6 s" in refused.stderr
    assert done.returncode == 0, done.stderr
    assert "never serve from what is there" in done.stderr
    assert found.homes() == ["sqlite"]
    assert found.content(found.file()) == before


@contextmanager
def frozen(cluster: Members) -> Iterator[None]:
    """Stop two of three members, so that there is no majority; wait until there is one again."""
    for name in MEMBERS[:2]:
        cluster.processes[name].send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for name in MEMBERS[:2]:
            cluster.processes[name].send_signal(signal.SIGCONT)
        store = open_etcd(cluster.urls, cluster.credentials, "none")
        until(lambda: answers(store), 60)
        store.close()


def test_a_move_of_which_etcd_is_away_changes_nothing(cluster: Members, tmp_path: Path) -> None:
    found = place(cluster, tmp_path, "away", 10)
    before = found.content(found.file())
    with frozen(cluster):
        refused = found.run(THERE)

    assert refused.returncode == 1
    assert "no answer within 6 s" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert found.homes() == ["sqlite"]
    assert found.content(found.file()) == before
