"""A backup or restore that is killed at any step leaves the old folder or the new one, and the next run goes on."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bootstrap import background, disk, failpoints
from bootstrap.backup import restore
from bootstrap.backup.archive import read_archive
from bootstrap.backup.snapshot import why_damaged
from bootstrap.disk import write_file
from bootstrap.errors import UsageError
from tests.unit.backup.conftest import CONFIG, ROOT, Rack, everything


def deploy(rack: Rack, *words: str, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "FIRSTLIGHT_NO_VENV": "1", failpoints.VARIABLE: failpoint}
    argv: tuple[str | Path, ...] = (
        sys.executable,
        ROOT / "deploy.py",
        "--config",
        CONFIG,
        "--config",
        rack.file.with_name("here.yaml"),
        "--deploy",
        rack.place.deploy,
        *words,
    )
    return subprocess.run(
        argv,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture(autouse=True)
def _in_reach_of_nobody(here: Path) -> None:
    assert here.name == "here.yaml"


def without_run(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in everything(folder).items() if not name.startswith("run/")}


@pytest.mark.system
@pytest.mark.parametrize("place", ["backup.rename.before", "backup.rename.after"])
def test_a_killed_backup_is_whole_or_not_there(rack: Rack, place: str) -> None:
    done = deploy(rack, "backup", str(rack.file), failpoint=f"{place}=kill")

    assert done.returncode == -signal.SIGKILL
    assert rack.file.exists() == place.endswith("after")
    if rack.file.exists():
        assert read_archive(rack.file).cluster == rack.place.name
    rack.file.unlink(missing_ok=True)
    rack.backup()
    assert list((rack.work / "run").glob("backup-*")) == []


@pytest.mark.parametrize("place", ["backup.rename.before", "restore.swap.before"])
def test_a_disk_that_fails_leaves_nothing_half_done(
    rack: Rack, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place.startswith("restore"):
        rack.backup()
    before = everything(rack.file.parent)
    monkeypatch.setattr(failpoints, "_ARMED", failpoints.parse(f"{place}=raise"))

    with pytest.raises(OSError, match="Input/output error"):
        rack.restore(is_forced=True) if place.startswith("restore") else rack.backup()
    assert everything(rack.file.parent) == before
    assert [path.name for path in rack.place.deploy.iterdir()] == [rack.place.name]


@pytest.mark.system
@pytest.mark.parametrize(
    "place", ["restore.swap.before", "restore.swap.after", "store.commit.before", "disk.file.before"]
)
def test_a_killed_restore_left_the_old_folder_or_the_new_and_the_next_one_ends_it(
    rack: Rack, place: str
) -> None:
    rack.backup()
    write_file(rack.work / "etcd.json", b"changed since\n", 0o600)
    before = without_run(rack.work)

    done = deploy(rack, "restore", str(rack.file), "--force", failpoint=f"{place}=kill")
    assert done.returncode == -signal.SIGKILL, done.stderr
    is_swapped = place == "restore.swap.after"
    assert ((rack.work / "etcd.json").read_bytes() == b"changed since\n") != is_swapped
    assert is_swapped or without_run(rack.work) == before

    rack.restore(is_forced=True)
    assert (rack.work / "etcd.json").read_bytes() != b"changed since\n"
    # The killed one has named its folder after the computer's clock, the other after the test's.
    asides = list(rack.place.deploy.glob("*.before-restore-*"))
    assert len(asides) == 1 + is_swapped
    assert [without_run(aside) for aside in asides].count(before) == 1
    assert list(rack.place.deploy.glob("*.restoring-*")) == []


def test_a_running_appliance_is_not_replaced(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    rack.backup()
    before = everything(rack.work)
    monkeypatch.setattr(background, "pid_of", lambda _: 4711)

    with pytest.raises(UsageError, match=r"the appliance of rack1 runs \(pid 4711\); end it first: down"):
        rack.restore(is_forced=True)
    assert everything(rack.work) == before


def test_what_a_killed_appliance_left_running_is_not_replaced(rack: Rack) -> None:
    rack.backup()
    sleeper = ("sh", "-c", "sleep 60; :", "python", "-m", "web", "--work", str(rack.work), "--cache")
    with subprocess.Popen(sleeper, start_new_session=True) as process:
        try:
            (rack.work / "run" / "web.pid").write_text(str(process.pid))
            with pytest.raises(UsageError, match=f"runs .pid {process.pid}"):
                rack.restore(is_forced=True)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_another_command_on_the_cluster_is_waited_out_by_the_user(rack: Rack) -> None:
    with rack.place.locked():
        done = deploy(rack, "backup", str(rack.file))

    assert done.returncode == 2
    assert "another deploy.py works on it" in done.stderr


def test_no_secret_is_on_either_stream(rack: Rack) -> None:
    made = deploy(rack, "backup", str(rack.file))
    back = deploy(rack, "restore", str(rack.file), "--force")
    said = made.stdout + made.stderr + back.stdout + back.stderr

    keys = [path.read_text() for path in rack.work.rglob("*.key")]
    lines = {line for text in keys for line in text.splitlines() if len(line) > 20 and "---" not in line}
    assert len(lines) > 40
    assert [line for line in lines if line in said] == []
    assert "PRIVATE" not in said
    assert back.returncode == 0, back.stderr


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda whole: whole, ""),
        (lambda _: b"", "broke off after 0 bytes"),
        (lambda whole: whole[:-32], "broke off after 1024 bytes"),
        (lambda whole: whole[512:], "is not what etcd sent"),
        (lambda whole: b"X" + whole[1:], "is not what etcd sent"),
    ],
)
def test_a_snapshot_of_etcd_is_checked_by_its_own_sum(tmp_path: Path, damage: object, why: str) -> None:
    content = bytes(1024)
    assert callable(damage)
    (tmp_path / "s").write_bytes(damage(content + hashlib.sha256(content).digest()))

    said = why_damaged(tmp_path / "s")
    assert why in said
    assert bool(said) == bool(why)


def test_a_lab_that_is_up_is_not_replaced(
    rack: Rack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rack.backup()
    mounts = tmp_path / "mounts"
    mounts.write_text(f"proc /proc proc rw 0 0\noverlay {rack.work}/lab/m1/root overlay rw 0 0\n")
    monkeypatch.setattr(restore, "MOUNTS", mounts)

    with pytest.raises(UsageError, match=r"the lab of rack1 is up, with mounts in .*; end it first: down"):
        rack.restore(is_forced=True)


def test_a_work_folder_on_another_disk_stays_there(rack: Rack, tmp_path: Path) -> None:
    other = tmp_path / "disk"
    other.mkdir()
    rack.work.rename(other / "rack1")
    rack.work.symlink_to(other / "rack1")
    rack.backup()

    done = rack.restore(is_forced=True)
    assert rack.work.is_symlink()
    assert done.aside
    assert done.aside.parent == other
    assert (rack.work / "restored.json").is_file()
    assert rack.records()


@pytest.mark.parametrize("can_exchange", [True, False])
def test_ctrl_c_right_behind_the_swap_costs_nothing(
    rack: Rack, monkeypatch: pytest.MonkeyPatch, *, can_exchange: bool
) -> None:
    rack.backup()
    before = without_run(rack.work)

    def interrupted(new: Path, old: Path) -> None:
        disk.swap(new, old)
        raise KeyboardInterrupt

    monkeypatch.setattr(restore, "swap", interrupted)
    if not can_exchange:
        monkeypatch.setattr(disk, "_exchange", lambda *_: False)
    with pytest.raises(KeyboardInterrupt):
        rack.restore(is_forced=True)

    (aside,) = rack.place.deploy.glob("*.before-restore-*")
    assert without_run(aside) == before
    assert (rack.work / "restored.json").is_file()
    assert sorted(rack.place.deploy.iterdir()) == [rack.work, aside]


def test_cut_off_between_two_renames_the_old_folder_is_kept(rack: Rack) -> None:
    """Where a file system cannot swap names, there is a moment without a work folder."""
    rack.backup()
    before = without_run(rack.work)
    old = rack.work.with_name(f"{rack.place.name}.restoring-20260101T000000.000Z.old")
    rack.work.rename(old)
    old.with_name(old.name.removesuffix(".old")).mkdir()

    rack.restore()

    (aside,) = rack.place.deploy.glob("*.before-restore-*")
    assert without_run(aside) == before
    assert sorted(rack.place.deploy.iterdir()) == [rack.work, aside]
    assert rack.records()
