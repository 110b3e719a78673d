"""configs/installer/discover against the real application over TLS, on a machine made of files."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.node.discovering import LSBLK, Machine, looked_at, until
from tests.unit.web.fakes import W1, W3
from tests.unit.web.looking import LookingRack

HOST_INTERFACE = (
    bytes([42, 107, 0, 0, 0x40, 0, 1, 4, 91]) + bytes(51) + bytes([1, 169, 254, 3, 254]) + bytes(40)
)


@pytest.fixture(name="machine")
def fixture_machine(tmp_path: Path) -> Iterator[Machine]:
    with looked_at(tmp_path, LookingRack()) as made:
        yield made


def hardware(machine: Machine) -> None:
    """Furnish a server: two nodes, a GPU, a screen of its BMC, four cards, TPM 2, secure boot."""
    for number in (0, 1):
        base = f"sys/devices/system/node/node{number}"
        machine.file(f"{base}/cpulist", f"{number}-{number + 1}\n")
        machine.file(f"{base}/meminfo", f"Node {number} MemTotal:       1024 kB\n")
    for address, kind, vendor, device in (
        ("0000:41:00.0", "0x030200", "0x10de", "0x2330"),
        ("0000:02:00.0", "0x030000", "0x1a03", "0x2000"),
        ("0000:01:00.0", "0x020000", "0x15b3", "0x1021"),
    ):
        for file, text in (("class", kind), ("vendor", vendor), ("device", device)):
            machine.file(f"sys/bus/pci/devices/{address}/{file}", f"{text}\n")
    machine.card("eth0", W3)
    machine.card("eth1", "52:54:00:aa:00:f3", speed="-1")
    machine.card("usb0", "52:54:00:aa:00:f4", bus="usb")
    machine.card("ib0", "00:00:00:48:fe:80:00:00:00:00:00:00:00:02:c9:03:00:00:00:01", kind="32")
    machine.file("sys/class/tpm/tpm0/tpm_version_major", "2\n")
    machine.file("sys/firmware/efi/efivars/SecureBoot-8be4df61", bytes([6, 0, 0, 0, 1]))
    machine.file("sys/firmware/dmi/entries/42-0/raw", HOST_INTERFACE)
    for name, text in (("sys_vendor", "Maker"), ("product_uuid", "4c4c4544-0051-3310-8051-b4c04f4a4d32")):
        machine.file(f"sys/class/dmi/id/{name}", f"{text}\n")


def test_it_tells_what_is_in_it(machine: Machine) -> None:
    hardware(machine)
    process = machine.boot()
    found = until(machine.inventory)
    process.terminate()
    process.communicate()

    said = found.model_dump(exclude_defaults=True)
    assert [node["memory"] for node in said["nodes"]] == [1 << 20, 1 << 20]
    assert [(gpu["vendor"], gpu["device"]) for gpu in said["gpus"]] == [("1a03", "2000"), ("10de", "2330")]
    assert found.nvidia_gpus == 1
    assert [(card.name, card.speed, card.bus) for card in found.cards] == [
        ("eth0", 25000, "pci"),
        ("eth1", None, "pci"),
        ("usb0", 25000, "usb"),
    ]
    assert found.own_cards == (W3, "52:54:00:aa:00:f3")
    assert (said["bmc"], said["tpm"]) == ({"present": True, "address": "169.254.3.254"}, "2")
    assert (said["firmware"]["kind"], said["firmware"]["secure_boot"]) == ("uefi", True)
    (disk,) = found.disks
    assert (disk.serial, disk.size, disk.signatures) == ("S1", 1 << 30, ("LVM2_member", "gpt", "partition"))
    assert (found.vendor, found.cpus) == ("Maker", os.cpu_count())


@pytest.mark.parametrize("sector", [2040, (64 << 20) // 512 - 2048])
def test_a_disk_that_holds_a_system_of_ours_is_named_with_it(machine: Machine, sector: int) -> None:
    """A maker's installer that was cut leaves our word at the end of the disk alone."""
    disk = machine.folder / "vda"
    line = b"firstlight-marker v1 cluster=lab machine=w9 arm=a-1 image=ab state=installing\n"
    disk.write_bytes(bytes(64 << 20))
    with disk.open("r+b") as file:
        file.seek(sector * 512)
        file.write(line)
    row = LSBLK["blockdevices"][0] | {"path": str(disk), "size": 64 << 20}
    machine.file("lsblk.json", json.dumps({"blockdevices": [row]}))
    process = machine.boot()
    found = until(machine.inventory)
    process.terminate()
    process.communicate()

    assert [one.system for one in found.disks] == ["installing: w9 of cluster lab"]


def test_a_machine_of_which_little_can_be_known_tells_that(machine: Machine) -> None:
    process = machine.boot()
    found = until(machine.inventory)
    process.terminate()
    process.communicate()

    assert (found.cards, found.gpus, found.nodes, found.bmc.present) == ((), (), (), False)
    assert found.memory


def test_it_waits_and_goes_on_to_the_installer_when_it_is_accepted(machine: Machine) -> None:
    machine.empty_disks()
    process = machine.boot()
    until(machine.inventory)
    assert process.poll() is None
    accepted = machine.rack.accept(pool="workers", name="w7")
    assert accepted.status_code == 200, accepted.text
    out, _ = process.communicate(timeout=120)

    assert "discovered; to install it: machine accept" in out
    assert f"installer: {machine.rack.record(W3).arm} w7" in out


def test_it_restarts_if_its_pool_has_another_live_system(machine: Machine) -> None:
    machine.empty_disks()
    machine.file("cmdline", (machine.folder / "cmdline").read_text().replace("b" * 64, "e" * 64))
    process = machine.boot()
    until(machine.inventory)
    machine.rack.accept(pool="workers")
    out, _ = process.communicate(timeout=120)

    assert out.endswith("restarted\n")


def test_it_tells_again_when_the_appliance_has_forgotten_it(machine: Machine) -> None:
    machine.empty_disks()
    process = machine.boot()
    until(machine.inventory)
    machine.rack.site.store.commit(machine.rack.site.strangers.gone(W3))
    until(machine.inventory)
    process.terminate()
    out, _ = process.communicate()

    assert "NOT" not in out


def test_somebody_elses_server_is_looked_at_and_goes_on_to_its_disk(machine: Machine) -> None:
    out, _ = machine.boot().communicate(timeout=120)

    assert "its disks hold something" in out
    assert out.endswith("restarted\n")
    assert machine.rack.strangers()[0]["state"] == "discovered"


def test_a_card_of_a_listed_machine_boots_anew(machine: Machine) -> None:
    machine.card("eth0", W1)
    out, _ = machine.boot().communicate(timeout=120)

    assert "this card belongs to w1" in out
    assert out.endswith("restarted\n")


def test_an_appliance_that_is_away_is_asked_again(machine: Machine) -> None:
    machine.rack.store.writes_fail = True
    process = machine.boot()
    until((machine.folder / "run/inventory.json").exists)
    threading.Event().wait(0.5)
    assert machine.inventory() is None
    machine.rack.store.writes_fail = False
    until(machine.inventory)
    process.terminate()
    process.communicate()
