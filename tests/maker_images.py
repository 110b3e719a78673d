"""Releases of Flatcar and Fedora CoreOS in small, with their makers' names and shapes, and a mirror that has them."""

import bz2
import hashlib
import lzma
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from bootstrap import families, rooms
from bootstrap.families import Maker, OSFamily
from bootstrap.image import gpt
from bootstrap.mirror import lock
from bootstrap.mirror.lock import Entry, Lock

SECTOR, MIB = 512, 1 << 20
RAW = 24 * MIB
ESP = uuid.UUID("C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
BIOS = uuid.UUID("21686148-6449-6E6F-744E-656564454649")
LINUX = uuid.UUID("0FC63DAF-8483-4772-8E79-3D69D8477DE4")
RELEASES = {"flatcar": "4593.2.5", "fedora-coreos": "44.20260707.3.1"}
# The labels, kinds and order of the makers' own disks; sectors are ours, as their images have gigabytes.
PARTITIONS = {
    "flatcar": (("EFI-SYSTEM", ESP, 4096, 8192), ("BIOS-BOOT", BIOS, 12288, 4096), ("USR-A", LINUX, 16384, 8192),
                ("USR-B", LINUX, 24576, 4096), ("OEM", LINUX, 28672, 2048), ("OEM-CONFIG", LINUX, 30720, 2048),
                ("ROOT", LINUX, 32768, 8192)),
    "fedora-coreos": (("BIOS-BOOT", BIOS, 2048, 2048), ("EFI-SYSTEM", ESP, 4096, 8192),
                      ("boot", LINUX, 12288, 8192), ("root", LINUX, 20480, 8192)),
}  # fmt: skip


def maker(family: str) -> Maker:
    found = rooms.load(families, family, OSFamily, where="test").maker
    assert found is not None
    return found


def kernel(version: str, magic: bytes = b"HdrS") -> bytes:
    """A kernel as its boot protocol sees it; for arm64 there are other bytes in that place."""
    return b"MZ".ljust(514, b"\0") + magic + f" kernel {version}".encode() * 100


@cache
def raw_disk(family: str, version: str) -> bytes:
    """A disk with the family's partition table, a boot sector, and known bytes in each partition."""
    rows = tuple(
        gpt.Partition(name=name, kind=kind, identity=uuid.uuid5(kind, name), first=first, sectors=count)
        for name, kind, first, count in PARTITIONS[family]
    )
    table = gpt.Table(identity=uuid.uuid5(ESP, family + version), sectors=RAW // SECTOR, partitions=rows)
    raw = bytearray(RAW)
    raw[:SECTOR] = gpt.protective_mbr(RAW // SECTOR)
    raw[:8] = b"\xeb\x63BOOTME"
    head, tail = gpt.primary(table), gpt.backup(table)
    raw[SECTOR : SECTOR + len(head)] = head
    raw[-len(tail) :] = tail
    for name, _, first, _ in PARTITIONS[family]:
        word = f"{family} {version} {name} ".encode()
        raw[first * SECTOR : first * SECTOR + len(word)] = word
    return bytes(raw)


@cache
def release(family: str, version: str = "") -> Mapping[str, bytes]:
    """The files of a release by name."""
    version = version or RELEASES[family]
    raw = raw_disk(family, version)
    if family == "flatcar":
        return {
            "flatcar_production_pxe.vmlinuz": kernel(version),
            "flatcar_production_pxe_image.cpio.gz": f"initrd {version}".encode() * 100,
            "flatcar_production_image.bin.bz2": bz2.compress(raw),
        }
    return {
        f"fedora-coreos-{version}-live-kernel.x86_64": kernel(version),
        f"fedora-coreos-{version}-live-initramfs.x86_64.img": f"initramfs {version}".encode() * 100,
        f"fedora-coreos-{version}-live-rootfs.x86_64.img": f"rootfs {version}".encode() * 100,
        f"fedora-coreos-{version}-metal.x86_64.raw.xz": lzma.compress(raw),
    }


def mirrored(
    folder: Path, family: str, version: str = "", files: Mapping[str, bytes] | None = None, channel: str = ""
) -> None:
    """Put a release into the mirror in `folder`, as a pull leaves it."""
    version = version or RELEASES[family]
    board = {"flatcar": "amd64-usr", "fedora-coreos": "x86_64"}[family]
    entries = []
    for name, content in (files or release(family, version)).items():
        path = f"{family}/{board}/{version}/{name}"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        sum_, key = hashlib.sha256(content).hexdigest(), f"{family}/{family}/{version}"
        entries.append(
            Entry(
                path=path, key=key, url="https://x", sha256=sum_, size=len(content), fetched="t", signer="F"
            )
        )
    known: Lock = lock.read(folder)
    channels = {f"{family}/{family}/{channel}": version} if channel else {}
    lock.write(folder, known.with_(entries, channels))
