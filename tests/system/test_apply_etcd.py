"""A real etcd of three members, brought up, changed and protected by apply; its data outlives everything."""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bootstrap.apply import etcd_data
from bootstrap.apply.etcd_data import Ids, ids_in
from bootstrap.apply.sites import _etcd_client
from bootstrap.errors import ApplyError
from bootstrap.keys import ensure_keys
from bootstrap.kubernetes import etcd_unit
from bootstrap.kubernetes.control_plane import SYSUSERS
from bootstrap.kubernetes.places import BIN, ETCD_PKI
from bootstrap.kubernetes.tree import HostFile, HostTree, LocalFile
from bootstrap.kubernetes.units import unit_of
from bootstrap.templates import read
from certs.keyring import Keyring
from tests.system.apply_lab import Hosts, hosts, with_file

pytestmark = pytest.mark.system

NAME = f"applyetcd{os.getpid()}"
NAMES = ("m1", "m2", "m3")
WANTED = tuple({"name": name, "address": f"10.77.0.1{number}"} for number, name in enumerate(NAMES, 1))
UNIT = "etcd.service"


@dataclass(frozen=True)
class Trio:
    made: Hosts
    keyring: Keyring
    trees: tuple[HostTree, ...] = field(repr=False)

    def apply(self, trees: tuple[HostTree, ...] | None = None, limit: tuple[str, ...] = ()):  # type: ignore[no-untyped-def]  # noqa: ANN201  # as Hosts.apply
        client = _etcd_client(self.keyring)
        return self.made.apply(*(trees or self.trees), limit=limit, etcd_client=client, probe_seconds=60.0)

    def pids(self) -> list[int]:
        return [self.made.pid(name, UNIT) for name in NAMES]

    def ids(self) -> list[Ids | None]:
        return [ids_in(self.log(name).read_bytes()[:72]) for name in NAMES]

    def log(self, name: str) -> Path:
        return min((self.made.root(name) / "var/lib/etcd/member/wal").glob("*.wal"))

    def etcdctl(self, name: str, *words: str) -> str:
        pki = f"--cacert {ETCD_PKI}/ca.crt --cert {ETCD_PKI}/server.crt --key {ETCD_PKI}/server.key"
        command = f"ETCDCTL_API=3 {BIN}/etcdctl {pki} --endpoints https://127.0.0.1:2379 {' '.join(words)}"
        return self.made.run(name, "sh", "-c", command)


def etcd_tree(made: Hosts, name: str, keyring: Keyring) -> HostTree:
    """Return the part of the host's real tree that etcd is, with this computer's etcd."""
    host = next(host for host in made.cluster.control_plane.hosts if host.name == name)
    service = etcd_unit.service(made.cluster, host)
    # This computer's etcd may be older than the one that the configuration's Kubernetes wants.
    flags = tuple(
        flag for flag in service.flags if "experimental" not in flag and "feature-gates" not in flag
    )
    service = replace(service, flags=tuple(flag for flag in flags if "watch-progress" not in flag))
    files = dict(etcd_unit.files(host, keyring))
    files |= {
        SYSUSERS: HostFile(read("kubernetes/sysusers.conf").encode()),
        f"{ETCD_PKI}/ca.crt": HostFile(keyring.certificates["etcd/ca"]),
        service.file: HostFile(service.text()),
        **{f"{BIN}/{each}": HostFile(program(each), 0o755) for each in ("etcd", "etcdctl")},
    }
    return HostTree(name, files, (unit_of(UNIT, "etcd", files),))


def program(name: str) -> LocalFile:
    found = shutil.which(name)
    assert found, f"{name} is not installed"
    path = Path(found)
    return LocalFile(path, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    with hosts(NAME, tmp_path_factory.mktemp("etcd"), WANTED, NAMES) as made:
        keyring = ensure_keys(made.cluster, made.work, datetime.now(UTC)).keyring
        yield Trio(made, keyring, tuple(etcd_tree(made, name, keyring) for name in NAMES))


@pytest.fixture
def up(trio: Trio) -> Trio:
    """The three members, healthy, whatever the test before did."""
    outcome, said = trio.apply()
    assert outcome.exit_code == 0, said
    return trio


def test_a_first_start_alone_waits_and_then_all_start_together(trio: Trio) -> None:
    alone, said = trio.apply(limit=("m1",))
    assert alone.exit_code == 3
    assert "etcd starts for the first time with all its members: m2, m3 missing" in alone.waiting
    assert not any("healthy" in line for line in said)

    outcome, said = trio.apply()

    assert outcome.exit_code == 0, said
    assert "etcd: 3 members healthy, a key written and read through each" in said
    record = etcd_data.from_json((trio.made.work / "etcd.json").read_bytes())
    assert record.seen == frozenset(NAMES)
    assert trio.ids() == [Ids(record.cluster, record.members[name]) for name in NAMES]


def test_a_rerun_touches_no_running_member(up: Trio) -> None:
    pids, ids = up.pids(), up.ids()

    outcome, said = up.apply()

    assert (outcome.exit_code, outcome.changes) == (0, 0), said
    assert (up.pids(), up.ids()) == (pids, ids)


def test_a_changed_flag_restarts_one_member_at_a_time_and_no_write_is_lost(up: Trio) -> None:
    changed = tuple(with_flag(tree, b"--heartbeat-interval=150") for tree in up.trees)
    pids, ids = up.pids(), up.ids()
    over = threading.Event()
    written: list[int] = []
    writer = threading.Thread(target=write_until, args=(up, over, written))
    writer.start()
    try:
        outcome, said = up.apply(changed)
    finally:
        over.set()
        writer.join()

    assert outcome.exit_code == 0, said
    order = [line for line in said if "restart etcd" in line]
    assert order == [f"{name}: restart etcd.service" for name in NAMES]
    assert all(new != old for new, old in zip(up.pids(), pids, strict=True))
    assert up.ids() == ids
    assert len(written) > 3
    kept = up.etcdctl("m1", "get", "--prefix", "/w/", "--keys-only").split()
    assert [number for number in written if f"/w/{number}" not in kept] == []


def with_flag(tree: HostTree, flag: bytes) -> HostTree:
    return edited(tree, b"--logger=zap", b"--logger=zap " + flag)


def edited(tree: HostTree, old: bytes, new: bytes) -> HostTree:
    """Return `tree` with another text in the unit of etcd."""
    path = f"/etc/systemd/system/{UNIT}"
    content = tree.files[path].content
    assert isinstance(content, bytes)
    assert old in content
    return with_file(tree, path, HostFile(content.replace(old, new)))


def write_until(trio: Trio, over: threading.Event, written: list[int]) -> None:
    """Write through a member that is not the first to restart; keep what was acknowledged."""
    number = 0
    while not over.is_set():
        number += 1
        try:
            trio.etcdctl("m3" if number % 2 else "m2", "put", f"/w/{number}", "x", "--command-timeout=5s")
        except AssertionError:
            continue
        written.append(number)
        time.sleep(0.05)


def test_a_member_that_was_stopped_is_started_again(up: Trio) -> None:
    ids = up.ids()
    up.made.run("m2", "systemctl", "stop", UNIT)

    outcome, said = up.apply()

    assert outcome.exit_code == 0, said
    assert [line for line in said if "start" in line] == ["m2: start etcd.service"]
    assert up.ids() == ids


def test_no_member_restarts_while_another_is_down(up: Trio) -> None:
    changed = tuple(with_flag(tree, b"--snapshot-count=20000") for tree in up.trees)
    pids = up.pids()
    up.made.run("m3", "sh", "-c", "systemctl mask --runtime etcd; systemctl stop etcd")
    try:
        outcome, said = up.made.apply(
            *changed, limit=("m1", "m2"), etcd_client=_etcd_client(up.keyring), probe_seconds=3.0
        )
    finally:
        up.made.run("m3", "sh", "-c", "systemctl unmask --runtime etcd; systemctl start etcd")

    assert outcome.exit_code == 3, said
    assert "etcd.service on m3 is not healthy after 3 s" in outcome.failed["m3"]
    assert up.pids()[:2] == pids[:2]
    assert "stopped here: what is not restarted yet runs on as it was" in said


def test_data_that_is_gone_stops_the_run_before_anything_changes(up: Trio) -> None:
    up.made.run("m2", "sh", "-c", "systemctl stop etcd; mv /var/lib/etcd /var/lib/etcd.away")
    pids = up.pids()
    try:
        with pytest.raises(ApplyError, match=r"host m2: it was a member of etcd and its data .* is gone"):
            up.apply()
        (up.made.work / "etcd.json").rename(up.made.work / "etcd.json.away")
        with pytest.raises(ApplyError, match="host m2: it was a member"):  # the host itself remembers
            up.apply()
        assert not (up.made.root("m2") / "var/lib/etcd").exists()
    finally:
        (up.made.work / "etcd.json.away").rename(up.made.work / "etcd.json")
        up.made.run("m2", "mv", "/var/lib/etcd.away", "/var/lib/etcd")
    assert up.pids() == pids


def test_data_of_another_cluster_stops_the_run_and_is_not_touched(up: Trio) -> None:
    up.made.run("m2", "systemctl", "stop", UNIT)
    log = up.log("m2")
    own = log.read_bytes()
    ids = ids_in(own[:72])
    assert ids
    at = own.index(varint(ids.cluster))
    log.write_bytes(own[:at] + varint(ids.cluster ^ 1) + own[at + len(varint(ids.cluster)) :])
    other = log.read_bytes()
    try:
        with pytest.raises(ApplyError, match="host m2: /var/lib/etcd belongs to another etcd cluster"):
            up.apply()
        assert log.read_bytes() == other
    finally:
        log.write_bytes(own)


def varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


def test_other_members_in_the_configuration_stop_the_run(up: Trio) -> None:
    fewer = tuple(edited(tree, b",m3=https://10.77.0.13:2380", b"") for tree in up.trees)
    pids = up.pids()
    with pytest.raises(ApplyError, match="apply does not change members"):
        up.apply(fewer)
    assert up.pids() == pids


def test_all_three_that_lost_power_start_together(up: Trio) -> None:
    ids = up.ids()
    for name in NAMES:
        up.made.rack.power_off(name)
    for name in NAMES:
        up.made.rack.power_on(name)
        up.made.rack.hosts.await_ssh(name)

    outcome, said = up.apply()

    assert outcome.exit_code == 0, said
    assert up.ids() == ids
