"""What the installer spares on files in place of disks, and whose a disk is by its marker."""

import os
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.system.installer_shell import ARM, MIB, SHELLS, SIZE, Sandbox, disk_image, put, row

pytestmark = pytest.mark.system


@pytest.fixture
def box(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path, "dash")


@pytest.fixture(params=SHELLS)
def any_box(tmp_path: Path, request: pytest.FixtureRequest) -> Sandbox:
    return Sandbox(tmp_path, request.param)


@pytest.fixture
def image(tmp_path: Path) -> bytes:
    return disk_image(tmp_path)


def lvm(path: Path) -> None:
    label = bytearray(512)
    label[:8] = b"LABELONE"
    struct.pack_into("<Q", label, 8, 1)
    struct.pack_into("<I", label, 20, 32)
    label[24:32] = b"LVM2 001"
    label[32:64] = b"a" * 32
    crc = 0xF597A6CF
    crc = zlib.crc32(bytes(label[20:]), crc ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    struct.pack_into("<I", label, 16, crc)
    put(path, 512, bytes(label))


def zfs(path: Path) -> None:
    for label in (0, 256 * 1024):
        for slot in range(128):
            put(path, label + 128 * 1024 + slot * 1024, struct.pack("<QQQ", 0x00BAB10C, 5000, slot))


def md(path: Path) -> None:
    block = bytearray(1024)
    struct.pack_into("<IIII", block, 0, 0xA92B4EFC, 1, 0, 0)
    struct.pack_into("<Q", block, 144, 8)
    total = sum(struct.unpack("<64I", bytes(block[:256])))
    struct.pack_into("<I", block, 216, ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)
    put(path, 4096, bytes(block))


def tool(*argv: str) -> Any:
    def make(path: Path) -> None:
        subprocess.run([*argv, str(path)], check=True, capture_output=True)

    return make


def table(path: Path) -> None:
    subprocess.run(
        ["sfdisk", str(path)], input="label: gpt\n,8M\n", text=True, check=True, capture_output=True
    )


FOREIGN = {
    "LVM2_member": lvm,
    "zfs_member": zfs,
    "linux_raid_member": md,
    "crypto_LUKS": lambda path: put(path, 0, b"LUKS\xba\xbe\x00\x01"),
    "ceph_bluestore": lambda path: put(path, 0, b"bluestore block device\n" + bytes(40)),
    "ext4": tool("mke2fs", "-q", "-F", "-t", "ext4"),
    "vfat": tool("mkfs.vfat", "-F", "32"),
    "swap": tool("mkswap"),
    "gpt": table,
}


@pytest.mark.parametrize("kind", sorted(FOREIGN))
def test_foreign_contents_are_spared(box: Sandbox, kind: str) -> None:
    FOREIGN[kind](box.disk)
    before = box.disk.read_bytes()
    box.disks(row("/dev/vda", serial="s1"))
    done = box.sh("inventory; facts; jq '.[0]' $FL_RUN/disks.json >$FL_RUN/disk.json; check_contents; exit 0")

    assert done.returncode == 9, done.stderr
    assert "not ours" in box.reports()
    assert kind in box.reports()
    assert box.disk.read_bytes() == before


@pytest.mark.parametrize("tool", ["wipefs", "lsblk", "dd"])
def test_a_disk_that_cannot_be_looked_at_is_not_taken_for_empty(box: Sandbox, tool: str) -> None:
    box.disks(row("/dev/vda", serial="s1"))
    assert box.sh("inventory; facts").returncode == 0
    box.tool(tool, "#!/bin/sh\necho 'Input/output error' >&2\nexit 1\n")
    done = box.sh("check_contents; exit 0")

    assert done.returncode == 9
    assert "cannot be read, so nobody knows what is on it" in box.reports()


@pytest.mark.parametrize("user", ["md127 raid1", "sda1 part /media"])
def test_a_disk_that_the_live_system_uses_is_refused_also_on_the_wipe_list(box: Sandbox, user: str) -> None:
    box.disks(row("/dev/vda", serial="s1"))
    box.settings({}, wipe=["s1"])
    (box.fake / "users").write_text(f"sda1 part\n{user}\n")
    done = box.sh("inventory; facts; jq '.[0]' $FL_RUN/disks.json >$FL_RUN/disk.json; check_contents; exit 0")

    assert done.returncode == 9
    assert f"is in use ({user.split(maxsplit=1)[0]})" in box.reports()


def test_a_disk_that_is_gone_is_not_made_anew_as_a_file(box: Sandbox, image: bytes) -> None:
    (box.run_folder / "head").write_bytes(image[:MIB])
    box.disk.unlink()
    done = box.sh("clear_disk && exit 1; land_image </dev/null && exit 1; commit && exit 1; exit 0")

    assert done.returncode == 0, done.stderr
    assert not box.disk.exists()


def test_an_empty_disk_is_free(any_box: Sandbox) -> None:
    done = any_box.sh("check_contents")

    assert (done.returncode, any_box.reports()) == (0, "")


def test_a_partition_without_a_signature_is_foreign_too(box: Sandbox) -> None:
    part = box.folder / "part"
    part.write_bytes(bytes(MIB))
    (box.fake / "partitions").write_text(f"{part} \n")
    done = box.sh("foreign")

    assert done.stdout == f"{part}\tpartition\n"


@pytest.mark.parametrize(("serial", "status"), [("s1", 0), ("other", 9)])
def test_only_the_listed_serial_may_be_wiped(box: Sandbox, serial: str, status: int) -> None:
    FOREIGN["ext4"](box.disk)
    box.settings({}, wipe=[serial])
    box.disks(row("/dev/vda", serial="s1"))
    done = box.sh("inventory; facts; jq '.[0]' $FL_RUN/disks.json >$FL_RUN/disk.json; check_contents")

    assert done.returncode == status


def test_a_disk_without_serial_is_never_on_the_list(box: Sandbox) -> None:
    box.settings({}, wipe=["null", "None"])
    (box.run_folder / "disk.json").write_text('{"serial": null}')

    assert box.sh("may_wipe").returncode != 0


def test_the_marker_makes_a_table_ours_but_not_what_came_later(box: Sandbox) -> None:
    table(box.disk)
    assert "gpt" in box.sh("foreign").stdout

    assert box.sh("put_marker installed && foreign").stdout == ""
    lvm(box.disk)
    # LVM's label takes sector 1, so the table behind it is gone as well.
    assert "LVM2_member" in box.sh("foreign").stdout


def test_a_marker_of_another_cluster_makes_nothing_ours(box: Sandbox) -> None:
    table(box.disk)
    done = box.sh("cluster=c2; put_marker installed; cluster=c1; foreign")

    assert "gpt" in done.stdout


def test_the_marker_says_what_was_written(box: Sandbox) -> None:
    done = box.sh(
        "put_marker installing; marker; already_installed; echo $?; put_marker installed; already_installed; echo $?"
    )

    first, installing, installed = done.stdout.splitlines()
    assert first == f"firstlight-marker v1 cluster=c1 machine=w1 arm={ARM} image={'e' * 64} state=installing"
    assert (installing, installed) == ("1", "0")


@pytest.mark.parametrize("change", ["arm=other", "machine=w2", "cluster=c2"])
def test_only_this_arm_of_this_machine_is_already_installed(box: Sandbox, change: str) -> None:
    done = box.sh(f"put_marker installed; {change}; already_installed")

    assert done.returncode == 1


def test_random_bytes_are_no_marker(box: Sandbox) -> None:
    put(box.disk, MIB - 4096, os.urandom(512))

    assert box.sh("marker").stdout == ""


def test_clearing_marks_first_and_leaves_the_rest(any_box: Sandbox) -> None:
    put(any_box.disk, 0, os.urandom(MIB - 4096))
    put(any_box.disk, MIB, b"data")
    put(any_box.disk, SIZE - MIB, os.urandom(MIB))
    done = any_box.sh("clear_disk && marker_value state")

    content = any_box.disk.read_bytes()
    assert done.stdout == "installing\n"
    assert content[: MIB - 4096] == bytes(MIB - 4096)
    assert content[MIB : MIB + 4] == b"data"
    assert content[-MIB:] == bytes(MIB)
