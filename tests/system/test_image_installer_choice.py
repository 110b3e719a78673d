"""The installer's choice of a disk: what its rule selects, what is no choice, and what it reports."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.system.installer_shell import GIB, MIB, SHELLS, SIZE, Sandbox, row

pytestmark = pytest.mark.system

RACK = (
    row("/dev/sda", 120 * GIB, serial="S-SSD  ", tran="sata", model="Boot SSD  "),
    row("/dev/sdb", 8000 * GIB, serial="S-HDD1", wwn="0x5000c500a", rota=True, tran="sas"),
    row("/dev/sdc", 8000 * GIB, serial="S-HDD1", wwn="0x5000c500a", rota=True, tran="sas"),
    row("/dev/sdd", 16 * GIB, serial="USB1", rm=True, tran="usb"),
    row("/dev/nvme0n1", 960 * GIB, serial="N1", wwn="eui.01", tran="nvme"),
    row("/dev/nvme0n2", 400 * GIB, serial="N1", wwn="eui.02", tran="nvme"),
    row("/dev/vda", 8 * GIB, serial="w1-root", rota=True, tran="virtio"),
    row("/dev/sr0", 1 * GIB, type="rom"),
    row("/dev/sde", 0, serial="EMPTY"),
    row("/dev/loop0", 1 * GIB, type="loop"),
    row("/dev/sdf", 100 * GIB, serial="RO", ro=True),
)

RULES = [
    ({"serial": "w1-root"}, ["/dev/vda"]),
    ({"serial": "S-SSD"}, ["/dev/sda"]),
    ({"serial": "N1"}, ["/dev/nvme0n1", "/dev/nvme0n2"]),
    ({"serial": "USB1"}, ["/dev/sdd"]),
    ({"serial": "RO"}, []),
    ({"serial": "nobody"}, []),
    ({"wwn": "0x5000c500a"}, ["/dev/sdb"]),
    ({"wwn": "eui.02"}, ["/dev/nvme0n2"]),
    ({"type": "nvme"}, ["/dev/nvme0n1", "/dev/nvme0n2"]),
    ({"type": "nvme", "minSize": 500 * GIB}, ["/dev/nvme0n1"]),
    ({"type": "nvme", "maxSize": 400 * GIB}, ["/dev/nvme0n2"]),
    ({"type": "ssd"}, ["/dev/sda"]),
    ({"type": "hdd"}, ["/dev/sdb"]),
    ({"type": "virtio"}, ["/dev/vda"]),
    ({"minSize": 8000 * GIB}, ["/dev/sdb"]),
    ({"maxSize": 8 * GIB}, ["/dev/vda"]),
    ({"maxSize": 1 * GIB}, []),
    ({"byPath": "pci-0000:00:04.0-ata-1"}, ["/dev/sda"]),
    ({"byPath": "/dev/disk/by-path/pci-0000:00:04.0-ata-1"}, ["/dev/sda"]),
    ({}, ["/dev/nvme0n1", "/dev/nvme0n2", "/dev/sda", "/dev/sdb", "/dev/vda"]),
]


@pytest.fixture
def box(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path, "dash")


@pytest.fixture(params=SHELLS)
def any_box(tmp_path: Path, request: pytest.FixtureRequest) -> Sandbox:
    return Sandbox(tmp_path, request.param)


@pytest.mark.parametrize(("rule", "expected"), RULES, ids=[json.dumps(rule) for rule, _ in RULES])
def test_the_rule_selects(box: Sandbox, rule: dict[str, Any], expected: list[str]) -> None:
    box.disks(*RACK)
    box.settings(rule)
    (box.folder / "by-path" / "pci-0000:00:04.0-ata-1").symlink_to("/dev/sda")
    # The links lead to devices that this computer may not have.
    done = box.sh(
        "readlink() { echo /dev/sda; }\ninventory && candidates && jq -r '.[].path' $FL_RUN/candidates.json"
    )

    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == expected


def test_disks_that_all_carry_one_wwn_are_not_one_disk(box: Sandbox) -> None:
    box.disks(*(row(f"/dev/nvme{n}n1", serial=f"N{n}", wwn="eui.00", tran="nvme") for n in range(2)))
    box.settings({"type": "nvme"})
    done = box.sh("inventory; facts; choose_disk; exit 0")

    assert done.returncode == 9
    assert "2 disks match the rule" in box.reports()


def test_a_disk_that_is_found_late_takes_part_in_the_choice(box: Sandbox) -> None:
    """The first look sees one that matches, a later one two: that is no choice."""
    box.disks(row(str(box.disk), SIZE, serial="A", tran="nvme"))
    box.settings({"type": "nvme"})
    late = json.dumps({"blockdevices": [row(f"/dev/nvme{n}n1", serial=f"N{n}", tran="nvme") for n in "01"]})
    done = box.sh(f"inventory; facts; sleep() {{ echo '{late}' >$FL_FAKE/lsblk.json; }}; choose_disk; exit 0")

    assert done.returncode == 9
    assert "2 disks match the rule" in box.reports()


def test_a_disk_that_is_found_late_is_waited_for(box: Sandbox) -> None:
    box.disks(row("/dev/vdz", serial="other"))
    box.settings({"serial": "late"})
    late = json.dumps({"blockdevices": [row(str(box.disk), SIZE, serial="late")]})
    done = box.sh(
        f"FL_LOOKS=4\ninventory; facts; sleep() {{ echo '{late}' >$FL_FAKE/lsblk.json; }}\n"
        "choose_disk; echo chosen $disk"
    )

    assert f"chosen {box.disk}" in done.stdout, box.reports()


def test_disks_that_come_and_go_are_no_choice(box: Sandbox) -> None:
    box.disks(row(str(box.disk), SIZE, serial="s1"))
    box.settings({"serial": "s1"})
    done = box.sh(
        "inventory; facts\n"
        """sleep() { sed -i 's/"size": /&1/' $FL_FAKE/lsblk.json; }\n"""
        "choose_disk; exit 0"
    )

    assert done.returncode == 9
    assert "the disks come and go" in box.reports()


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"serial": "nobody"}, "no disk matches the rule"),
        ({"type": "nvme"}, "3 disks match the rule"),
        ({"serial": "4k"}, "logical sectors of 4096 bytes"),
    ],
)
def test_what_is_not_one_usable_disk_is_a_failure(box: Sandbox, rule: dict[str, Any], reason: str) -> None:
    box.disks(*RACK, row("/dev/nvme1n1", serial="4k", **{"log-sec": 4096}))
    box.settings(rule)
    done = box.sh("inventory; facts; choose_disk; exit 0")

    assert done.returncode == 9
    assert reason in box.reports()
    assert "/dev/nvme0n2  nvme" in done.stderr
    if "match" in reason:
        assert "nothing was touched; found: /dev/nvme0n1 nvme 983040 MiB serial N1, " in box.reports()


def test_the_inventory_is_the_facts_of_the_report(any_box: Sandbox) -> None:
    any_box.disks(*RACK)
    done = any_box.sh("inventory && facts")

    assert done.returncode == 0, done.stderr
    facts = json.loads((any_box.run_folder / "facts.json").read_text())
    assert facts["cpus"] >= 1
    assert facts["memory"] > MIB
    assert [disk["path"] for disk in facts["disks"]].count("/dev/sdc") == 0
    assert {disk["serial"] for disk in facts["disks"]} >= {"S-SSD", "N1", "w1-root"}
