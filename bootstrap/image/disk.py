"""Assembles the raw disk image from a root tree, with no loop device and no mount.

Sector 0 is GRUB's, 1 to 33 the partition table, 34 to 2039 the BIOS boot partition; the installer keeps its
marker in the 4 KiB behind it. The ESP starts at 1 MiB; the root comes last, so that it can grow.
"""

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from bootstrap.image import gpt, grub
from bootstrap.image.command import run
from bootstrap.image.gpt import MIB, SECTOR, Partition, Table
from bootstrap.image.recipe import TEXTS

CORE_AT = gpt.FIRST_USABLE
CORE_SECTORS = 2040 - CORE_AT
ESP_AT = MIB // SECTOR
ESP_SECTORS = 64 * MIB // SECTOR
ROOT_AT = ESP_AT + ESP_SECTORS
LABEL = "firstlight-root"
# What Debian 12's tools make by default differs from 13's; GRUB must be able to read it too.
FEATURES = "^orphan_file,^metadata_csum_seed"
NAMESPACE = uuid.UUID("6d1f42a3-9a04-4bb2-8c0f-3f0d3b1f4f0e")


@dataclass(frozen=True, kw_only=True)
class Loaders:
    """The boot loaders, made inside the root they belong to."""

    boot_image: bytes
    core_image: bytes
    shim: Path
    grub_efi: Path


def identity(key: str, what: str) -> uuid.UUID:
    """Return the identity of one thing of the image called `key`: the same key gives the same identities."""
    return uuid.uuid5(NAMESPACE, f"{key}/{what}")


def table(key: str, root_bytes: int) -> Table:
    """Return the partition table of the image whose root file system has `root_bytes` bytes."""
    root_sectors = root_bytes // SECTOR
    sectors = ROOT_AT + root_sectors + MIB // SECTOR
    rows = (
        ("firstlight-bios", gpt.BIOS_BOOT, CORE_AT, CORE_SECTORS),
        ("firstlight-esp", gpt.EFI_SYSTEM, ESP_AT, ESP_SECTORS),
        (LABEL, gpt.LINUX_ROOT, ROOT_AT, root_sectors),
    )
    partitions = tuple(
        Partition(name=name, kind=kind, identity=identity(key, name), first=first, sectors=size)
        for name, kind, first, size in rows
    )
    return Table(identity=identity(key, "disk"), sectors=sectors, partitions=partitions)


def make_root(tree: Path, target: Path, key: str, epoch: int) -> int:
    """Make the smallest ext4 file system that holds `tree`; return its size in bytes."""
    content = sum(max(4096, path.lstat().st_blocks * 512) for path in tree.rglob("*"))
    with target.open("wb") as file:
        file.truncate(content * 5 // 4 + 256 * MIB)
    seed = str(identity(key, "root-hash"))
    options = ("-E", f"hash_seed={seed},lazy_itable_init=0", "-U", str(identity(key, "root-fs")))
    shape = (
        "-t",
        "ext4",
        "-b",
        "4096",
        "-I",
        "256",
        "-i",
        "16384",
        "-m",
        "1",
        "-J",
        "size=32",
        "-O",
        FEATURES,
    )
    env = {"SOURCE_DATE_EPOCH": str(epoch), "E2FSPROGS_FAKE_TIME": str(epoch)}
    run(("mke2fs", "-q", "-F", *shape, "-L", LABEL, *options, "-d", f"{tree}", f"{target}"), env=env)
    run(("resize2fs", "-M", f"{target}"), env=env)
    run(("e2fsck", "-f", "-p", f"{target}"), env=env)
    size = target.stat().st_size
    whole = -(-size // MIB) * MIB
    with target.open("r+b") as file:
        file.truncate(whole)
    return whole


def make_esp(target: Path, key: str, loaders: Loaders, epoch: int) -> None:
    """Make the FAT32 file system that UEFI firmware reads: shim where firmware looks, GRUB beside it."""
    with target.open("wb") as file:
        file.truncate(ESP_SECTORS * SECTOR)
    serial = identity(key, "esp").hex[:8]
    run(("mkfs.vfat", "-F", "32", "-s", "1", "-n", "FIRSTLIGHT", "-i", serial, "--invariant", f"{target}"))
    env = {"SOURCE_DATE_EPOCH": str(epoch), "MTOOLS_SKIP_CHECK": "1"}
    run(("mmd", "-i", f"{target}", "::/EFI", "::/EFI/BOOT", "::/EFI/debian"), env=env)
    # Debian's signed GRUB reads its configuration from /EFI/debian, wherever it was loaded from.
    files = (
        (loaders.shim, "::/EFI/BOOT/BOOTX64.EFI"),
        (loaders.grub_efi, "::/EFI/BOOT/grubx64.efi"),
        (TEXTS / "esp" / "grub.cfg", "::/EFI/debian/grub.cfg"),
    )
    for source, place in files:
        run(("mcopy", "-i", f"{target}", f"{source}", place), env=env)


def assemble(target: Path, parts: Table, loaders: Loaders, esp: Path, root: Path) -> None:
    """Write the whole disk to `target`: both tables, the boot loader, the ESP and the root."""
    mbr = gpt.protective_mbr(parts.sectors)
    pieces = (
        (0, grub.boot_sector(loaders.boot_image, mbr, CORE_AT)),
        (1, gpt.primary(parts)),
        (CORE_AT, grub.core(loaders.core_image, CORE_AT, CORE_SECTORS)),
        (parts.sectors - gpt.TABLE_SECTORS - 1, gpt.backup(parts)),
    )
    with target.open("wb") as disk:
        disk.truncate(parts.sectors * SECTOR)
        for sector, content in pieces:
            disk.seek(sector * SECTOR)
            disk.write(content)
        for sector, source in ((ESP_AT, esp), (ROOT_AT, root)):
            disk.seek(sector * SECTOR)
            with source.open("rb") as part:
                shutil.copyfileobj(part, disk, MIB)
