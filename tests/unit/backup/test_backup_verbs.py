"""The verbs backup and restore: what they print, how they end, and the etcd of three members that they leave alone."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

from bootstrap.backup import snapshot
from bootstrap.cli import run
from bootstrap.kubernetes.etcd_unit import members
from bootstrap.ssh import Way
from tests.samples import cluster
from tests.unit.backup.conftest import ROOT

HA = ROOT / "configs" / "ha.yaml"
ETCD = """
import hashlib, json, sys
asked = json.load(sys.stdin)
assert asked["ask"] == "snapshot" and len(asked["addresses"]) == 3, asked
content = b"pages of etcd".ljust(512, b".") * 4
open(asked["file"], "xb").write(content + hashlib.sha256(content).digest())
print('{"answer": true}')
"""


@pytest.fixture
def deploy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a deploy folder with the keys of configs/ha.yaml, and an etcd that answers."""
    way = Way(tmp_path, wrap=lambda _: (sys.executable, "-c", ETCD))
    monkeypatch.setattr("bootstrap.cli.backup.way_of", lambda *_: way)
    for name in ("FIRSTLIGHT_PASSPHRASE_FILE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "deploy"
    assert (
        run(["--config", str(HA), "--deploy", str(folder), "render", "--output", str(tmp_path / "out")]) == 0
    )
    return folder


def verb(deploy: Path, *words: str) -> int:
    return run(["--config", str(HA), "--deploy", str(deploy), *words])


def test_backup_and_restore_with_a_snapshot(
    deploy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    file = tmp_path / "ha.tar.gz"
    assert verb(deploy, "-o", "json", "backup", str(file)) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["cluster"], made["etcd"], made["etcdMissing"]) == ("ha", True, "")

    (deploy / "ha").rename(deploy / "lost")
    assert verb(deploy, "restore", str(file)) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0].split() == ["FILE", "CLUSTER", "TAKEN", "MEMBERS", "BYTES", "ETCD"]
    assert said.out.splitlines()[1].split()[-1] == "yes"

    target = deploy / "ha" / "restored-etcd.snapshot"
    content = b"pages of etcd".ljust(512, b".") * 4
    assert target.read_bytes() == content + hashlib.sha256(content).digest()
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(snapshot.steps(cluster("ha"), target)) == said.err.splitlines()


def test_etcd_that_does_not_answer_is_exit_3_and_a_line(
    deploy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bootstrap.cli.backup.way_of", lambda *_: Way(tmp_path, wrap=lambda _: ("false",)))

    assert verb(deploy, "backup", str(tmp_path / "b")) == 3
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("no snapshot of etcd is in it: the hosts' network is not there; run this again")
    assert verb(deploy, "restore", str(tmp_path / "b"), "--force") == 0
    assert not (deploy / "ha" / "restored-etcd.snapshot").exists()
    assert "etcdctl" not in capsys.readouterr().err


def test_a_snapshot_that_broke_off_is_none(
    deploy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    half = ETCD.replace("+ hashlib.sha256(content).digest()", "")
    way = Way(tmp_path, wrap=lambda _: (sys.executable, "-c", half))
    monkeypatch.setattr("bootstrap.cli.backup.way_of", lambda *_: way)

    assert verb(deploy, "backup", str(tmp_path / "b")) == 3
    assert "the snapshot broke off after 2048 bytes" in capsys.readouterr().err


def test_the_steps_name_every_member_with_its_own_addresses() -> None:
    ha = cluster("ha")
    lines = list(snapshot.steps(ha, Path("/w/s")))
    restores = [line for line in lines if "snapshot restore" in line]

    assert len(restores) == len(ha.etcd.members) == 3
    for host, line in zip(members(ha), restores, strict=True):
        assert f"--name {host.name} " in line
        assert line.endswith(f"--initial-advertise-peer-urls https://{host.address}:2380")
        assert f"--initial-cluster-token {ha.metadata.name} " in line
        assert all(f"{each.name}=https://{each.address}:2380" in line for each in members(ha))


@pytest.mark.parametrize("words", [("backup", "b"), ("restore", "b")])
def test_without_anything_there_it_is_told(
    tmp_path: Path,
    words: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    assert verb(tmp_path / "none", *words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
