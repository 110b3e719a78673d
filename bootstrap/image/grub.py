"""GRUB for BIOS machines, put into place by hand: what grub-install does, without a disk to do it on."""

import struct

from bootstrap.errors import ImageError

SECTOR = 512
# Offsets of GRUB 2's boot.S and diskboot.S, unchanged since 2.00 (include/grub/i386/pc/boot.h).
KERNEL_SECTOR = 0x5C
DRIVE_CHECK = 0x66
BOOT_CODE_SIZE = 440
BLOCKLIST = SECTOR - 12
LOAD_SEGMENT = 0x820
NOPS = b"\x90\x90"


def boot_sector(boot_image: bytes, protective_mbr: bytes, core_at: int) -> bytes:
    """Return sector 0: GRUB's boot code, told where its core starts, over the protective table.

    The check of the drive number is switched off as grub-install does for hard disks: some BIOSes pass a
    wrong one. Raises ImageError when `boot_image` is not GRUB's.
    """
    if len(boot_image) != SECTOR or boot_image[510:] != b"\x55\xaa":
        raise ImageError("boot.img is not a boot sector of 512 bytes")
    code = bytearray(boot_image[:BOOT_CODE_SIZE])
    struct.pack_into("<Q", code, KERNEL_SECTOR, core_at)
    code[DRIVE_CHECK : DRIVE_CHECK + 2] = NOPS
    return bytes(code) + protective_mbr[BOOT_CODE_SIZE:]


def core(core_image: bytes, core_at: int, sectors: int) -> bytes:
    """Return GRUB's core with the list of its own blocks filled in, as whole sectors.

    Its first sector loads the rest, which lies right behind it. Raises ImageError when it does not fit into
    `sectors`.
    """
    padded = core_image.ljust(-(-len(core_image) // SECTOR) * SECTOR, b"\0")
    length = len(padded) // SECTOR
    if length > sectors:
        raise ImageError(f"GRUB's core needs {length} sectors; the BIOS boot partition has {sectors}")
    blocks = struct.pack("<QHH", core_at + 1, length - 1, LOAD_SEGMENT)
    return padded[:BLOCKLIST] + blocks + padded[SECTOR:]
