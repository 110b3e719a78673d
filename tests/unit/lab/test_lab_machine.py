import copy
from pathlib import Path
from typing import Any

import pytest

from bootstrap.errors import LabError
from bootstrap.lab.machine import Accel, Ovmf, argv, vms_from, wwn
from bootstrap.lab.nextboot import First
from bootstrap.model import Cluster

GOLDEN = Path(__file__).parent / "golden"
OVMF = Ovmf(code=Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), variables=Path("/usr/share/OVMF/OVMF_VARS_4M.fd"))


def lines(arguments: tuple[str, ...]) -> str:
    """One option with its value a line, as a person would write the command."""
    return " ".join(arguments).replace(" -", "\n-") + "\n"


@pytest.mark.parametrize(
    ("name", "accel", "golden"),
    [("w1", "tcg", "bios-virtio-tcg"), ("w2", "kvm", "uefi-nvme-scsi-kvm")],
)
def test_a_machine_is_this_qemu_command(cluster: Cluster, name: str, accel: Accel, golden: str) -> None:
    vm = next(vm for vm in vms_from(cluster) if vm.name == name)

    command = argv(vm, accel=accel, pid_file=Path(f"/place/lab/{name}/qemu.pid"), ovmf=OVMF)

    assert lines(command) == (GOLDEN / f"{golden}.txt").read_text()


@pytest.mark.parametrize(("accel", "processors"), [("tcg", "1"), ("kvm", "2")])
def test_a_machine_that_does_not_say_has_as_many_processors_as_suit(
    document: dict[str, Any], accel: Accel, processors: str
) -> None:
    silent = copy.deepcopy(document)
    silent["lab"]["machines"][0].pop("cpus", None)

    command = argv(vms_from(Cluster.model_validate(silent))[0], accel=accel, pid_file=Path("/p"), ovmf=OVMF)

    assert processors == command[command.index("-smp") + 1]


def test_the_network_is_first_in_the_boot_order_and_disks_follow(cluster: Cluster) -> None:
    for vm in vms_from(cluster):
        command = argv(vm, accel="tcg", pid_file=Path("/p"), ovmf=OVMF)
        order = [word for word in command if "bootindex=" in word]

        assert order[0].startswith("virtio-net-pci")
        assert [f"bootindex={number}" in word for number, word in enumerate(order, 1)] == [True] * len(order)


@pytest.mark.parametrize(
    ("boot", "first", "place"), [("disk", None, 99), ("disk", "network", 1), ("network", "disk", 99)]
)
def test_the_disk_can_be_first_and_the_next_boot_can_differ(
    document: dict[str, Any], boot: str, first: First | None, place: int
) -> None:
    changed = copy.deepcopy(document)
    changed["lab"]["machines"][1]["boot"] = boot
    vm = vms_from(Cluster.model_validate(changed))[1]

    command = argv(vm, accel="tcg", pid_file=Path("/p"), ovmf=OVMF, first=first)

    card = next(word for word in command if word.startswith("virtio-net-pci"))
    assert f",bootindex={place}," in card
    assert [word.rpartition("bootindex=")[2] for word in command if "drive=disk" in word] == ["2", "3", "4"]


def test_uefi_machine_without_firmware_is_refused(cluster: Cluster) -> None:
    with pytest.raises(LabError, match="w2 has UEFI firmware"):
        argv(vms_from(cluster)[1], accel="tcg", pid_file=Path("/p"), ovmf=None)


def test_firmware_that_boots_by_http_has_no_pxe_left(document: dict[str, Any]) -> None:
    by_http = copy.deepcopy(document)
    by_http["lab"]["machines"][1]["firmware"] = "uefi-http"
    commands = {
        vm.firmware: argv(vm, accel="tcg", pid_file=Path("/p"), ovmf=OVMF)
        for one in (document, by_http)
        for vm in vms_from(Cluster.model_validate(one))
    }
    without_pxe = "name=opt/org.tianocore/IPv4PXESupport,string=n"

    assert {name for name, command in commands.items() if without_pxe in command} == {"uefi-http"}
    assert [word for word in commands["uefi-http"] if word not in commands["uefi"]] == [without_pxe]


def test_identity_follows_from_cluster_and_name_alone(document: dict[str, Any]) -> None:
    other = copy.deepcopy(document)
    other["lab"]["machines"][0]["memory"] = "4GiB"
    renamed = copy.deepcopy(document)
    renamed["metadata"]["name"] = "lab2"
    first, same, different = (vms_from(Cluster.model_validate(one))[0] for one in (document, other, renamed))

    assert first.uuid == same.uuid
    assert first.uuid != different.uuid


def test_tap_has_the_fifteen_characters_that_the_kernel_allows(cluster: Cluster) -> None:
    taps = [vm.tap for vm in vms_from(cluster)]

    assert taps == ["tap525400aa0001", "tap525400aa0002"]
    assert {len(tap) for tap in taps} == {15}


def test_own_mac_wins_over_the_listed_one(document: dict[str, Any]) -> None:
    own = copy.deepcopy(document)
    own["lab"]["machines"][0]["mac"] = "52-54-00-BB-00-01"

    assert vms_from(Cluster.model_validate(own))[0].mac == "52:54:00:bb:00:01"


def test_machine_without_mac_says_where_to_write_it(document: dict[str, Any]) -> None:
    unlisted = copy.deepcopy(document)
    del unlisted["machines"][0]

    with pytest.raises(LabError, match=r"lab machine w1 has no MAC address: write its mac:"):
        vms_from(Cluster.model_validate(unlisted))


def test_cluster_without_lab_has_no_rack(document: dict[str, Any]) -> None:
    real = {key: value for key, value in document.items() if key != "lab"}

    with pytest.raises(LabError, match="no lab: section"):
        vms_from(Cluster.model_validate(real))


@pytest.mark.parametrize("bus", ["virtio", "nvme"])
def test_serial_that_the_bus_would_cut_is_refused(document: dict[str, Any], bus: str) -> None:
    long = copy.deepcopy(document)
    long["lab"]["machines"][0]["disks"] = [{"serial": "x" * 21, "size": "1GiB", "bus": bus}]

    with pytest.raises(LabError, match=f"longer than the 20 characters that {bus}"):
        vms_from(Cluster.model_validate(long))


def test_wwn_is_of_naa_format_5_and_differs_by_disk(cluster: Cluster) -> None:
    vm = vms_from(cluster)[1]
    names = [wwn(vm, disk) for disk in vm.disks]

    assert all(name.startswith("0x5525400") and len(name) == 18 for name in names)
    assert len(set(names)) == 3
