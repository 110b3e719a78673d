import struct

import pytest

from bootstrap.errors import ImageError
from bootstrap.image import gpt, grub

BOOT = bytes(range(256)) + bytes(254) + b"\x55\xaa"
MBR = gpt.protective_mbr(4096)


def test_the_boot_sector_names_the_first_sector_of_the_core() -> None:
    assert struct.unpack_from("<Q", grub.boot_sector(BOOT, MBR, 34), 0x5C) == (34,)


def test_the_boot_sector_does_not_check_the_drive_number() -> None:
    assert grub.boot_sector(BOOT, MBR, 34)[0x66:0x68] == b"\x90\x90"


def test_the_boot_sector_keeps_the_protective_table() -> None:
    made = grub.boot_sector(BOOT, MBR, 34)

    assert len(made) == 512
    assert made[440:] == MBR[440:]


@pytest.mark.parametrize("wrong", [b"", BOOT[:-2], BOOT[:-1] + b"\0"])
def test_what_is_no_boot_sector_is_refused(wrong: bytes) -> None:
    with pytest.raises(ImageError, match="not a boot sector"):
        grub.boot_sector(wrong, MBR, 34)


def test_the_core_loads_the_sectors_behind_its_first() -> None:
    made = grub.core(bytes(512 * 3 + 1), 34, 100)

    assert len(made) == 4 * 512
    assert struct.unpack_from("<QHH", made, 500) == (35, 3, 0x820)


def test_a_core_that_does_not_fit_is_refused() -> None:
    assert len(grub.core(bytes(512 * 4), 34, 4)) == 4 * 512
    with pytest.raises(ImageError, match="needs 5 sectors; the BIOS boot partition has 4"):
        grub.core(bytes(512 * 4 + 1), 34, 4)
