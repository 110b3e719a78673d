"""Disks that belong to somebody else: each kind of content that the installer must find and spare.

Made with the real tools where they work on a plain file. LVM, md, ZFS and Ceph write through the kernel or need a
cluster, so their labels are written byte by byte from the documents of their formats; `named_by` is what util-linux
calls each, and `wipefs` on this computer must say so before a test relies on it.
"""

import os
import struct
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
SIZE = 320 * MIB  # the smallest XFS has 300 MiB
SECTOR = 512
PASSPHRASE = b"not ours"


def run(*argv: str, said: bytes = b"") -> str:
    """Run a tool that must succeed; return what it printed."""
    done = subprocess.run(argv, input=said, check=False, capture_output=True, timeout=120)
    assert done.returncode == 0, f"{argv}: {done.stderr.decode()}"
    return done.stdout.decode()


def put(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as disk:
        disk.seek(at)
        disk.write(content)


def lvm(path: Path, at: int = 0) -> None:
    """The label of a physical volume (lvm2, lib/label/label.h): sector 1, with its own CRC."""
    label = bytearray(SECTOR)
    label[:8] = b"LABELONE"
    struct.pack_into("<QII", label, 8, 1, 0, 32)
    label[24:32] = b"LVM2 001"
    label[32:64] = os.urandom(16).hex().encode()
    crc = zlib.crc32(bytes(label[20:]), 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    struct.pack_into("<I", label, 16, crc)
    put(path, at + SECTOR, bytes(label))


def md1(path: Path, at: int) -> None:
    """The superblock of a RAID member, version 1 (linux/raid/md_p.h), at its 1.0, 1.1 or 1.2 place."""
    block = bytearray(1024)
    struct.pack_into("<IIII", block, 0, 0xA92B4EFC, 1, 0, 0)
    block[16:32] = os.urandom(16)
    struct.pack_into("<Q", block, 144, at // SECTOR)
    total = sum(struct.unpack("<64I", bytes(block[:256])))
    struct.pack_into("<I", block, 216, ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)
    put(path, at, bytes(block))


def md0(path: Path) -> None:
    """The superblock of a RAID member, version 0.90: 64 KiB before the end, on a 64 KiB boundary."""
    block = bytearray(4096)
    struct.pack_into("<IIII", block, 0, 0xA92B4EFC, 0, 90, 0)
    block[20:24] = os.urandom(4)
    total = sum(struct.unpack("<1024I", bytes(block)))
    struct.pack_into("<I", block, 152, ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)
    put(path, (path.stat().st_size & ~0xFFFF) - 0x10000, bytes(block))


def zfs(path: Path, at: int = 0) -> None:
    """The first two labels of a pool: what it is called, and its uberblocks (ZFS on-disk specification, 1.2).

    util-linux 2.41 believes uberblocks only behind a list of names and values (XDR, RFC 4506) with the pool's guid.
    """
    numbers = {"version": 5000, "state": 0, "txg": 4, "pool_guid": 0x5A46_5321, "guid": 0x5A46_5322}
    values = {name: struct.pack(">IIQ", 8, 1, value) for name, value in numbers.items()}
    values["name"] = struct.pack(">III4s", 9, 1, 4, b"tank")
    pairs = b"".join(_named_value(name, value) for name, value in values.items())
    for label in (0, 256 * 1024):
        put(path, at + label + 16 * 1024, struct.pack(">BBHII", 1, 1, 0, 0, 1) + pairs + bytes(8))
        for slot in range(128):
            ring = at + label + 128 * 1024 + slot * 1024
            put(path, ring, struct.pack("<QQQ", 0x00BAB10C, 5000, slot))


def _named_value(name: str, value: bytes) -> bytes:
    text = name.encode()
    padded = text + bytes(-len(text) % 4)
    size = 12 + len(padded) + len(value)
    return struct.pack(">III", size, size, len(text)) + padded + value


def bluestore(path: Path) -> None:
    """The label of a Ceph OSD (ceph, BlueStore.cc: the text and the OSD's UUID)."""
    put(path, 0, b"bluestore block device\n" + os.urandom(16).hex().encode() + b"\n")


def luks(path: Path, version: int) -> None:
    fast = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--batch-mode", "--key-file", "-")
    run("cryptsetup", "luksFormat", "--type", f"luks{version}", *fast, str(path), said=PASSPHRASE)


def table(path: Path, kind: str, *parts: str) -> None:
    run("sfdisk", "--quiet", str(path), said="\n".join((f"label: {kind}", *parts, "")).encode())


def tool(*argv: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        run(*argv, str(path))

    return make


def inside(make: Callable[[Path, int], None]) -> Callable[[Path], None]:
    """Put a label into the only partition of a GPT."""

    def both(path: Path) -> None:
        table(path, "gpt", "start=2048, size=400000")
        make(path, MIB)

    return both


def marked(path: Path, cluster: str, label: str) -> None:
    """A GPT that looks like ours, with our marker as the installer writes it."""
    table(path, "gpt", f"start=2048, size=400000, name={label}")
    fields = f"cluster={cluster} machine=w9 arm={'0' * 8} image={'e' * 64} state=installed\n"
    put(path, MIB - 4096, f"firstlight-marker v1 {fields}".encode().ljust(SECTOR, b"\0"))


def stale(path: Path) -> None:
    """A disk of ours on which somebody made a volume group since: the marker is still there."""
    marked(path, CLUSTER, "firstlight-root")
    lvm(path, MIB)


def reused(path: Path) -> None:
    """A disk of ours whose table was replaced: a partition without a signature, and the marker still there."""
    marked(path, CLUSTER, "theirs")


CLUSTER = "labodd"


@dataclass(frozen=True)
class Kind:
    """One kind of foreign content: how it is made, what the refusal must name, and what wipefs calls it."""

    make: Callable[[Path], None]
    named: str
    named_by: str = ""

    @property
    def wipefs(self) -> str:
        return self.named_by or self.named


KINDS = {
    "gpt": Kind(lambda path: table(path, "gpt", ",8M", ",8M"), "partition", "gpt"),
    "mbr": Kind(lambda path: table(path, "dos", ",8M", ",8M", ",8M", ",8M"), "partition", "dos"),
    "ext4": Kind(tool("mke2fs", "-q", "-F", "-t", "ext4"), "ext4"),
    "xfs": Kind(tool("mkfs.xfs", "-q", "-f"), "xfs"),
    "btrfs": Kind(tool("mkfs.btrfs", "-q", "-f"), "btrfs"),
    "vfat": Kind(tool("mkfs.vfat", "-F", "32"), "vfat"),
    "swap": Kind(tool("mkswap", "-q"), "swap"),
    "lvm": Kind(lvm, "LVM2_member"),
    "md12": Kind(lambda path: md1(path, 4096), "linux_raid_member"),
    "md11": Kind(lambda path: md1(path, 0), "linux_raid_member"),
    "md10": Kind(lambda path: md1(path, SIZE - 8192), "linux_raid_member"),
    "md09": Kind(md0, "linux_raid_member"),
    "zfs": Kind(zfs, "zfs_member"),
    "ceph": Kind(bluestore, "ceph_bluestore"),
    "luks1": Kind(lambda path: luks(path, 1), "crypto_LUKS"),
    "luks2": Kind(lambda path: luks(path, 2), "crypto_LUKS"),
    "lvmpart": Kind(inside(lvm), "LVM2_member", "gpt"),
    "zfspart": Kind(inside(zfs), "zfs_member", "gpt"),
    "stale": Kind(stale, "LVM2_member", "gpt"),
    "reused": Kind(reused, "partition", "gpt"),
    "other": Kind(lambda path: marked(path, "rack2", "firstlight-root"), "gpt"),
}


def make(kind: str, path: Path) -> None:
    """Make `path` a disk of this kind, and have wipefs confirm it."""
    path.write_bytes(b"")
    os.truncate(path, SIZE)
    KINDS[kind].make(path)
    assert path.stat().st_size == SIZE, kind
    found = run("wipefs", "--noheadings", "--output", "TYPE", str(path)).split()
    assert KINDS[kind].wipefs in found, f"{kind}: wipefs finds {found}"
