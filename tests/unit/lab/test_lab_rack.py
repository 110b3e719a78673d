import os
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from bootstrap.errors import LabError
from bootstrap.lab import network, nextboot, power, requirements, ssh
from bootstrap.lab.machine import vms_from
from bootstrap.lab.power import Slot
from bootstrap.lab.rack import Rack
from bootstrap.model import Cluster
from bootstrap.power import PowerState


@pytest.fixture
def rack(cluster: Cluster, tmp_path: Path) -> Rack:
    return Rack(cluster, tmp_path)


def test_commands_run_in_the_namespace_of_the_cluster(rack: Rack) -> None:
    assert rack.in_namespace(("python", "-m", "web")) == (
        *("ip", "netns", "exec", "fl-lab"),
        *("python", "-m", "web"),
    )


def test_machines_come_in_the_order_of_the_configuration(rack: Rack) -> None:
    assert rack.names == ("w1", "w2")
    assert rack.states() == {"w1": PowerState.OFF, "w2": PowerState.OFF}


@pytest.mark.parametrize("act", ["power_on", "power_off", "cycle", "netboot", "console", "console_log"])
def test_unknown_machine_is_answered_with_the_known_ones(rack: Rack, act: str) -> None:
    with pytest.raises(LabError, match="no machine w3 in the lab; there are: w1, w2"):
        getattr(rack, act)("w3")


def test_netboot_is_remembered_in_the_machines_folder_once_there_is_one(rack: Rack, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="machine w1 is not built yet"):
        rack.netboot("w1")
    (tmp_path / "lab" / "w1").mkdir(parents=True)

    rack.netboot("w1")

    assert nextboot.chosen(tmp_path / "lab" / "w1") == "network"


def test_down_of_a_rack_that_never_was_does_nothing(rack: Rack, tmp_path: Path) -> None:
    rack.down()

    assert list(tmp_path.iterdir()) == []


def test_pid_file_that_names_another_process_is_not_believed(tmp_path: Path) -> None:
    slot = Slot(tmp_path)
    slot.pid_file.write_text(f"{os.getpid()}\n")

    assert slot.state() is PowerState.OFF
    slot.switch_off()
    assert not slot.pid_file.exists()


def test_qemu_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"could not be switched on \(exit 3\): no such ROM"):
        Slot(tmp_path).switch_on(("sh", "-c", "echo no such ROM >&2; exit 3"), tmp_path)


def test_qemu_is_started_again_while_the_killed_one_is_not_quite_gone(tmp_path: Path) -> None:
    script = (
        "test -e gone || { touch gone; echo 'cannot create PID file: Cannot lock pid file' >&2; exit 1; }"
    )

    Slot(tmp_path).switch_on(("sh", "-c", script), tmp_path)

    assert (tmp_path / "gone").exists()


def test_a_pid_file_that_stays_locked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "GONE_SECONDS", 0.3)

    with pytest.raises(LabError, match="Cannot lock pid file"):
        Slot(tmp_path).switch_on(("sh", "-c", "echo Cannot lock pid file >&2; exit 1"), tmp_path)


def test_qemu_that_hangs_at_start_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "START_SECONDS", 0.1)

    with pytest.raises(LabError, match="timed out"):
        Slot(tmp_path).switch_on(("sleep", "5"), tmp_path)


def test_disks_are_destroyed_but_keys_stay(rack: Rack, tmp_path: Path) -> None:
    (tmp_path / "lab" / "w1").mkdir(parents=True)
    (tmp_path / "lab" / "w1" / "virtio-w1-root.raw").touch()
    ssh.key_file(tmp_path).touch()

    rack.destroy_disks()

    assert [path.name for path in (tmp_path / "lab").iterdir()] == ["id_ed25519"]


def test_ssh_reads_no_configuration_and_knows_only_the_given_hosts(rack: Rack, tmp_path: Path) -> None:
    command = rack.ssh_argv("10.77.0.101", Path("/place/run/known hosts"), ("echo", "two words"))

    assert command == (
        *("ip", "netns", "exec", "fl-lab"),
        *("ssh", "-F", "none", "-i", str(tmp_path / "lab" / "id_ed25519")),
        *("-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "GlobalKnownHostsFile=/dev/null"),
        *("-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes"),
        *("-o", 'UserKnownHostsFile="/place/run/known hosts"'),
        *("root@10.77.0.101", "--", "echo 'two words'"),
    )


def test_ssh_without_a_command_is_a_shell(rack: Rack) -> None:
    assert rack.ssh_argv("10.77.0.101", Path("/k"))[-1] == "root@10.77.0.101"


def test_alias_of_the_bridge_fits_and_its_mac_is_locally_administered() -> None:
    deep = network.Network(
        namespace="fl-lab",
        bridge="eth0",
        address=IPv4Interface("10.77.0.1/24"),
        owner=Path("/" + "deep/" * 100),
    )

    assert len(deep.alias) == 255
    assert deep.bridge_mac.startswith("02:")


def test_ovmf_of_4_mib_is_preferred_and_half_a_pair_is_none(tmp_path: Path) -> None:
    for name in ("OVMF_CODE.fd", "OVMF_VARS.fd", "OVMF_CODE_4M.fd"):
        (tmp_path / name).touch()
    older = requirements.find_ovmf(tmp_path)
    (tmp_path / "OVMF_VARS_4M.fd").touch()
    newer = requirements.find_ovmf(tmp_path)

    assert older is not None
    assert older.code.name == "OVMF_CODE.fd"
    assert newer is not None
    assert newer.variables.name == "OVMF_VARS_4M.fd"


def test_missing_parts_are_named_by_their_debian_packages(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(requirements, "BIOS_FILES", {str(tmp_path / "rom"): "ipxe-qemu"})
    monkeypatch.setattr(requirements, "find_ovmf", lambda: None)
    monkeypatch.setattr(requirements, "check_root", lambda: None)

    expected = "iproute2 ipxe-qemu openssh-client ovmf qemu-system-x86"
    with pytest.raises(LabError, match=f"apt-get install --no-install-recommends {expected}$"):
        requirements.check(vms_from(cluster))


def test_without_root_the_text_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(LabError, match="sudo"):
        requirements.check_root()
