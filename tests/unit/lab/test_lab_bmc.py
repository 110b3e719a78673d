"""The BMCs of the lab: whose they are, what ipmi_sim reads, and what it is answered."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bootstrap.config import dump
from bootstrap.errors import LabError, UsageError
from bootstrap.lab import bmcs, chassis, nextboot
from bootstrap.lab.bmc import bmcs_from, lan_text, program_text
from bootstrap.lab.bmcs import Bmcs
from bootstrap.lab.network import Network
from bootstrap.lab.rack import Rack
from bootstrap.model import Cluster
from certs.secret import Secret

IPMI = {
    "driver": "ipmi",
    "address": "10.99.0.1",
    "user": "admin",
    "passwordFile": "bmc.pw",
    "cipherSuite": 3,
}


@pytest.fixture(name="with_bmc")
def fixture_with_bmc(document: dict[str, Any]) -> Cluster:
    """w1 has a BMC and its disk first; w2 has neither."""
    changed = copy.deepcopy(document)
    changed["machines"][0]["power"] = IPMI
    changed["lab"]["bmc"] = "ipmi"
    changed["lab"]["machines"][0]["boot"] = "disk"
    return Cluster.model_validate(changed)


def test_a_machine_has_the_bmc_that_its_power_describes(with_bmc: Cluster) -> None:
    (bmc,) = bmcs_from(with_bmc).values()

    assert (bmc.name, str(bmc.address), bmc.power.port) == ("w1", "10.99.0.1", 623)
    assert bmc.guid == bmcs_from(with_bmc)["w1"].guid
    assert len(bytes.fromhex(bmc.guid)) == 16


def test_without_lab_bmc_a_bmc_is_somebody_elses(with_bmc: Cluster) -> None:
    assert with_bmc.lab is not None
    lab = with_bmc.lab.model_copy(update={"bmc": "none"})

    assert bmcs_from(with_bmc.model_copy(update={"lab": lab})) == {}
    assert bmcs_from(with_bmc.model_copy(update={"lab": None})) == {}


def test_ipmi_sim_is_told_address_user_password_and_chassis(with_bmc: Cluster) -> None:
    text = lan_text(bmcs_from(with_bmc)["w1"], Secret(b"s3cret"), "/a place/lab/w1/bmc").decode()

    assert "    addr 10.99.0.1 623\n" in text
    assert '  user 2 true "admin" "s3cret" admin 10 ' in text
    assert """  chassis_control "/bin/sh '/a place/lab/w1/bmc/chassis' 0x20"\n""" in text


@pytest.mark.parametrize("password", ["x" * 21, 'a"b', "a\\b", "a\tb", "päss"])
def test_a_password_that_ipmi_cannot_hold_is_refused(with_bmc: Cluster, password: str) -> None:
    with pytest.raises(LabError, match="at most 20 ASCII characters") as caught:
        lan_text(bmcs_from(with_bmc)["w1"], Secret(password.encode()), "/place")

    assert password not in str(caught.value)


def test_the_chassis_program_runs_ours(tmp_path: Path) -> None:
    folder = tmp_path / "a place"
    (folder / "lab/w1/bmc").mkdir(parents=True)
    program = folder / "chassis"
    root = str(Path(chassis.__file__).parents[2])
    program.write_bytes(program_text(sys.executable, root, str(folder), "w1"))

    def asked(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            ("/bin/sh", str(program), "0x20", *words), check=False, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout

    assert asked("get", "power", "boot", "identify") == (0, "power:0\nboot:none\nidentify:0\n")
    assert asked("set", "boot", "pxe") == (0, "")
    assert asked("check", "boot", "pxe") == (0, "")
    assert asked("get", "boot") == (0, "boot:pxe\n")
    assert asked("set", "reset", "1") == (1, "")


def test_a_question_is_answered_without_loading_the_configuration() -> None:
    """ipmi_sim answers nobody else meanwhile."""
    script = (
        "import sys, bootstrap.lab.chassis; print(*(n for n in sys.modules if n in {'yaml', 'pydantic'}))"
    )
    done = subprocess.run((sys.executable, "-c", script), check=True, capture_output=True, text=True)

    assert done.stdout == "\n"


@pytest.mark.parametrize(("word", "first"), [("pxe", "network"), ("default", "disk"), ("none", None)])
def test_what_is_to_be_booted_next_is_remembered(tmp_path: Path, word: str, first: str | None) -> None:
    (tmp_path / "lab/w1").mkdir(parents=True)
    nextboot.choose(tmp_path / "lab/w1", "network")

    assert chassis.order(tmp_path, "w1", "boot", word) == 0

    assert nextboot.chosen(tmp_path / "lab/w1") == first
    assert chassis.answer(tmp_path / "lab/w1", "boot") == word


@pytest.mark.parametrize(("what", "value"), [("boot", "cdrom"), ("power", "2"), ("shutdown", "1")])
def test_what_a_virtual_machine_cannot_do_is_refused(tmp_path: Path, what: str, value: str) -> None:
    assert chassis.order(tmp_path, "w1", what, value) == 1


def test_the_power_is_that_of_a_qemu_that_lives(tmp_path: Path) -> None:
    folder = tmp_path / "w1"
    folder.mkdir()
    (folder / "qemu.pid").write_text(f"{os.getpid()}\n")

    assert chassis.answer(folder, "power") == "0", "the pid of another process"

    command = (sys.executable, "-c", "input()", str(folder / "qemu.pid"))
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        (folder / "qemu.pid").write_text(f"{process.pid}\n")
        assert chassis.answer(folder, "power") == "1"


def test_an_order_is_carried_out_by_the_rack(
    with_bmc: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lab/w1/bmc").mkdir(parents=True)
    (tmp_path / chassis.CLUSTER).write_bytes(dump(with_bmc))
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(Rack, "power_on", lambda _, name: told.append(("on", name)))
    monkeypatch.setattr(Rack, "power_off", lambda _, name: told.append(("off", name)))

    assert [chassis.main(str(tmp_path), "w1", "0x20", "switch", value) for value in "10"] == [0, 0]

    assert told == [("on", "w1"), ("off", "w1")]


@pytest.fixture(name="started")
def fixture_started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Take a python that waits for ipmi_sim; return the folders of those that were started."""
    found: list[str] = []
    script = "import sys, time; time.sleep(60)"

    def start(command: tuple[str, ...], folder: Path) -> int:
        assert command[:4] == ("ip", "netns", "exec", "fl-lab")
        found.append(folder.parent.name)
        return real((sys.executable, "-c", script, *command[4:]), folder)

    real = bmcs._started
    monkeypatch.setattr(bmcs, "_started", start)
    monkeypatch.setattr(bmcs, "_listens", lambda *_: True)
    return found


def at(cluster: Cluster, work: Path) -> Bmcs:
    address = cluster.appliance.address
    network = Network(namespace="fl-lab", bridge="eth0", address=address, owner=work)
    return Bmcs.of(cluster, work, network)


def test_a_bmc_that_runs_goes_on_until_what_it_was_told_changes(
    with_bmc: Cluster, tmp_path: Path, started: list[str]
) -> None:
    secret = tmp_path / "bmc.pw"
    secret.write_text("one\n")
    secret.chmod(0o600)
    mine = at(with_bmc, tmp_path)
    pid = tmp_path / "lab/w1/bmc/pid"
    try:
        mine.start(tmp_path)
        first = pid.read_text()
        mine.start(tmp_path)
        assert (started, pid.read_text()) == (["w1"], first)

        secret.write_text("two\n")
        mine.start(tmp_path)
        assert started == ["w1", "w1"]
        assert pid.read_text() != first
        private = [path for path in (tmp_path / "lab/w1/bmc").iterdir() if path.name in {"lan", "chassis"}]
        assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
    finally:
        mine.end()
    assert not pid.exists()


def test_a_bmc_that_left_the_configuration_is_ended(
    with_bmc: Cluster, cluster: Cluster, tmp_path: Path, started: list[str]
) -> None:
    secret = tmp_path / "bmc.pw"
    secret.write_text("one\n")
    secret.chmod(0o600)
    try:
        at(with_bmc, tmp_path).start(tmp_path)
        at(cluster, tmp_path).start(tmp_path)
        assert not (tmp_path / "lab/w1/bmc").exists(), "nor is its password left"
    finally:
        at(with_bmc, tmp_path).end()
    assert started == ["w1"]


def test_a_password_that_others_can_read_starts_nothing(
    with_bmc: Cluster, tmp_path: Path, started: list[str]
) -> None:
    (tmp_path / "bmc.pw").write_text("one\n")
    (tmp_path / "bmc.pw").chmod(0o644)

    with pytest.raises(UsageError, match="other users can read"):
        at(with_bmc, tmp_path).start(tmp_path)
    assert started == []


def test_an_ipmi_sim_that_dies_at_once_is_told(
    with_bmc: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bmc.pw").write_text("one\n")
    (tmp_path / "bmc.pw").chmod(0o600)
    real = bmcs._started
    monkeypatch.setattr(bmcs, "_started", lambda _, folder: real(("sh", "-c", "echo no such port"), folder))

    with pytest.raises(LabError, match=r"w1 does not answer at 10\.99\.0\.1; ipmi_sim said: no such port"):
        at(with_bmc, tmp_path).start(tmp_path)
