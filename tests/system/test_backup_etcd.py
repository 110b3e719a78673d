"""A snapshot of a real etcd of three goes into a backup; `etcdctl snapshot restore` makes the same cluster of it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap import etcd
from bootstrap.apply.etcd_data import ids_in
from bootstrap.backup.snapshot import why_damaged
from bootstrap.etcd import Etcd, Question
from tests.system.etcd_members import LOOPBACK, Members, members

pytestmark = pytest.mark.system

NAMES = ("m1", "m2", "m3")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Members]:
    with members(tmp_path, *NAMES) as started:
        assert Etcd(started.addresses, started.credentials).wait_healthy(NAMES, 30) == {}
        yield started


def ids(folder: Path) -> object:
    (log,) = (folder / "member" / "wal").glob("0000000000000000-*.wal")
    return ids_in(log.read_bytes()[:72])


def test_the_snapshot_is_whole_and_makes_the_same_cluster(running: Members, tmp_path: Path) -> None:
    file = tmp_path / "etcd.snapshot"
    question = Question("snapshot", running.addresses, running.credentials, file=str(file))
    done = subprocess.run(
        etcd.argv(), cwd=etcd.root(), input=question.to_json(), capture_output=True, check=True
    )
    assert done.stdout == b'{"answer": true}\n', done.stderr
    assert why_damaged(file) == ""

    program = shutil.which("etcdctl")
    assert program
    peers = ",".join(f"{name}=https://{LOOPBACK}:{port}" for name, port in running.peer_ports.items())
    argv = (
        program, "snapshot", "restore", str(file), "--name", "m2", "--data-dir", str(tmp_path / "again"),
        "--initial-cluster", peers, "--initial-cluster-token", "rack1",
        "--initial-advertise-peer-urls", f"https://{LOOPBACK}:{running.peer_ports['m2']}",
    )  # fmt: skip
    subprocess.run(argv, env={**os.environ, "ETCDCTL_API": "3"}, check=True, capture_output=True)
    assert ids(tmp_path / "again") == ids(running.folder / "m2")
