import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.errors import UsageError
from bootstrap.known_hosts import known_hosts, write_known_hosts
from bootstrap.workplace import Workplace, default_deploy

ROOT = Path(__file__).parents[3]
HOLDER = (
    "import sys, time; from pathlib import Path; from bootstrap.workplace import Workplace\n"
    "with Workplace(Path(sys.argv[1]), 'c1').locked(): print(flush=True); time.sleep(60)"
)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFMyqcGg6k2cCIlLBepzQmmz4y6U9PNjc1KuZCobmMgK"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that holds the cluster c1."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_a_second_command_is_refused_with_the_pid_of_the_first(
    holder: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    refusal = rf"^cluster c1: another deploy\.py works on it \(pid {holder.pid}\)$"
    with pytest.raises(UsageError, match=refusal), Workplace(tmp_path, "c1").locked():
        pass


def test_another_cluster_is_free(holder: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    with Workplace(tmp_path, "c2").locked():
        assert holder.poll() is None


def test_the_lock_of_a_killed_command_is_free(holder: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    holder.kill()
    holder.wait()

    with Workplace(tmp_path, "c1").locked():
        pass


def test_the_lock_is_free_again_after_use_and_after_an_error(tmp_path: Path) -> None:
    place = Workplace(tmp_path, "c1")
    with pytest.raises(KeyboardInterrupt), place.locked():
        raise KeyboardInterrupt
    with place.locked():
        pass


def test_the_work_folder_is_its_owners_alone(tmp_path: Path) -> None:
    place = Workplace(tmp_path, "c1")
    place.work.mkdir(mode=0o755)

    place.make()

    assert [path.stat().st_mode & 0o777 for path in (place.work, place.work / "run")] == [0o700, 0o700]


def test_folders_can_be_put_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTLIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FIRSTLIGHT_DEPLOY", str(tmp_path / "deploy"))

    assert default_deploy() == tmp_path / "deploy"
    assert Workplace(default_deploy(), "c1").cache == tmp_path / "cache"

    monkeypatch.delenv("FIRSTLIGHT_CACHE")
    assert Workplace(default_deploy(), "c1").cache == tmp_path / "deploy" / "cache"


def test_reported_host_keys_become_known_hosts_without_their_comments() -> None:
    keys = [f"{KEY} root@w1", "ecdsa-sha2-nistp256 AAAAE2Vj"]

    assert known_hosts({"address": "10.77.0.101", "sshHostKeys": keys}) == (
        f"10.77.0.101 {KEY}\n10.77.0.101 ecdsa-sha2-nistp256 AAAAE2Vj\n"
    )


@pytest.mark.parametrize(
    "hostile",
    [
        f"\n* {KEY}",
        f" {KEY}",
        f"@cert-authority * {KEY}",
        f"* {KEY}",
        f'command="sh" {KEY}',
        "ssh-ed25519",
        "ssh-ed25519  ",
        "ssh-ed25519\tAAAA",
        "ssh-rsa\nAAAA",
        "",
        None,
        7,
        {"key": KEY},
    ],
)
def test_what_is_no_key_is_left_out(hostile: object) -> None:
    assert known_hosts({"address": "10.77.0.101", "sshHostKeys": [hostile]}) == ""


def test_a_key_cannot_bring_a_second_line() -> None:
    machine = {"address": "10.77.0.101", "sshHostKeys": [f"{KEY}\n* ssh-ed25519 AAAAevil"]}

    assert known_hosts(machine) == f"10.77.0.101 {KEY}\n"


def test_a_machine_without_keys_has_an_empty_file(tmp_path: Path) -> None:
    path = write_known_hosts(tmp_path, {"name": "w1", "address": "10.77.0.101", "sshHostKeys": None})

    assert path.read_text() == ""
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_down_of_another_work_folder_with_the_same_cluster_name_removed_the_runtime_folder(
    tmp_path: Path,
) -> None:
    places = [Workplace(tmp_path / folder, "c1") for folder in ("a", "b")]

    assert places[0].runtime != places[1].runtime
    assert places[0].runtime == Workplace(tmp_path / "a", "c1").runtime
