"""The door to etcd against real members: mutual TLS, deadlines, a member that is gone or frozen."""

import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap import etcd
from bootstrap.apply.etcd_data import ids_in
from bootstrap.errors import EtcdError
from bootstrap.etcd import Credentials, Etcd, Question
from tests.system.etcd_members import Members, members

pytestmark = pytest.mark.system

NAMES = ("m1", "m2", "m3")
BOLT = 0xED0CDAED  # the magic number of a bbolt file, at byte 16


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    with members(tmp_path_factory.mktemp("etcd"), *NAMES) as running:
        door = Etcd(running.addresses, running.credentials)
        assert door.wait_healthy(NAMES, 30) == {}
        yield running


@pytest.fixture
def door(cluster: Members) -> Etcd:
    return Etcd(cluster.addresses, cluster.credentials, answer_seconds=20)


@pytest.fixture
def hasty(cluster: Members) -> Etcd:
    """One that does not wait long for a member that is frozen."""
    return Etcd(cluster.addresses, cluster.credentials, answer_seconds=2)


def test_members_are_those_that_were_started(cluster: Members, door: Etcd) -> None:
    found = {member.name: member for member in door.members()}

    assert set(found) == set(NAMES)
    assert found["m1"].client_urls == (f"https://{cluster.addresses['m1']}",)


def test_the_number_of_a_member_is_the_one_in_its_log(cluster: Members, door: Etcd) -> None:
    (log,) = (cluster.folder / "m2" / "member" / "wal").glob("0000000000000000-*.wal")
    ids = ids_in(log.read_bytes()[:72])

    assert ids is not None
    assert ids.member == {member.name: member.number for member in door.members()}["m2"]


def test_all_are_healthy_and_one_of_them_leads(door: Etcd) -> None:
    found = door.health()

    assert [found[name].is_healthy for name in NAMES] == [True] * 3
    assert len({health.leader for health in found.values()}) == 1
    assert found["m1"].leader in NAMES


def test_a_write_is_read_back_through_each_member_and_leaves_nothing(door: Etcd) -> None:
    door.write_read_probe()

    with door._cluster() as client:
        assert list(client.get_prefix(etcd.PROBE_PREFIX)) == []


def test_a_snapshot_is_a_database(door: Etcd) -> None:
    file = io.BytesIO()
    door.snapshot(file)

    assert int.from_bytes(file.getvalue()[16:20], "little") == BOLT


def test_without_a_certificate_of_the_cluster_nobody_is_answered(cluster: Members, tmp_path: Path) -> None:
    with members(tmp_path) as others:
        stranger = others.credentials
    mixed = Credentials(cluster.credentials.authority, stranger.certificate, stranger.key)

    with pytest.raises(EtcdError, match="etcd could not list its members"):
        Etcd(cluster.addresses, mixed, answer_seconds=2).members()


def test_the_same_is_answered_by_the_command(cluster: Members) -> None:
    def ask(what: str, names: tuple[str, ...] = ()) -> object:
        question = Question(what, cluster.addresses, cluster.credentials, names, seconds=5)
        done = subprocess.run(
            etcd.argv(), input=question.to_json(), capture_output=True, cwd=etcd.root(), check=True
        )
        assert done.stderr == b""
        return json.loads(done.stdout)["answer"]

    assert ask("healthy", NAMES) == {}
    assert ask("probe") is True
    assert isinstance(found := ask("members"), list)
    assert {member["name"] for member in found} == set(NAMES)


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_member_that_is_gone_or_frozen_is_told_in_time_and_the_others_answer(
    cluster: Members, hasty: Etcd, fault: signal.Signals
) -> None:
    process = cluster.processes["m3"]
    os.kill(process.pid, fault)
    try:
        assert hasty.wait_healthy(("m1", "m2"), 30) == {}  # it may have been the leader: they elect another
        began = time.monotonic()
        found = hasty.health()
        unwell = hasty.wait_healthy(("m3",), 0)
        assert {name: health.is_healthy for name, health in found.items()} == {
            "m1": True,
            "m2": True,
            "m3": False,
        }
        assert "m3" in unwell["m3"]
        assert len(hasty.members()) == 3
        assert time.monotonic() - began < 20
    finally:
        if fault is signal.SIGSTOP:
            os.kill(process.pid, signal.SIGCONT)
        else:
            process.wait()
            cluster.start("m3")
    assert hasty.wait_healthy(NAMES, 30) == {}


def test_a_cluster_without_a_majority_is_told_in_time(cluster: Members, hasty: Etcd) -> None:
    frozen = [cluster.processes[name].pid for name in ("m2", "m3")]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert not hasty.health()["m1"].is_healthy
        with pytest.raises(EtcdError, match="etcd could not write a key"):
            Etcd({"m1": cluster.addresses["m1"]}, cluster.credentials, answer_seconds=2).write_read_probe()
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    assert hasty.wait_healthy(NAMES, 30) == {}
