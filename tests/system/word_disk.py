"""Disks that say a word when a firmware starts them, and then stay there: what a system is to its loader."""

import subprocess
import tempfile
import uuid
from pathlib import Path

from bootstrap.image import gpt
from bootstrap.image.gpt import MIB, SECTOR, Partition, Table
from tests.system.disk_rack import DECOY_CODE, DECOY_WORD

FIRST = MIB // SECTOR
SAME = uuid.UUID("3b0d5a2e-6a1f-4f0e-9b7c-2f4c1d8e7a90")


def say(disk: Path, word: str) -> None:
    """Make `disk`, a file with its size, one that says `word` on the console: to a BIOS, and to UEFI firmware."""
    sectors = disk.stat().st_size // SECTOR
    esp = Partition(name="word", kind=gpt.EFI_SYSTEM, identity=SAME, first=FIRST, sectors=sectors - 2 * FIRST)
    table = Table(identity=SAME, sectors=sectors, partitions=(esp,))
    code = DECOY_CODE.replace(DECOY_WORD, word.encode())
    assert len(code) < 446, word
    pieces = {
        0: code.ljust(446, b"\0") + gpt.protective_mbr(sectors)[446:],
        1: gpt.primary(table),
        FIRST: _esp(word, esp.sectors * SECTOR),
        sectors - gpt.TABLE_SECTORS - 1: gpt.backup(table),
    }
    with disk.open("r+b") as file:
        for sector, content in pieces.items():
            file.seek(sector * SECTOR)
            file.write(content)


def _esp(word: str, size: int) -> bytes:
    """Return a FAT file system whose loader, a GRUB, says `word`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "grub.cfg").write_text(f"echo {word}\n")
        with (folder / "esp").open("wb") as file:
            file.truncate(size)
        for command in (
            "grub-mkimage --format=x86_64-efi --prefix=/ --config=grub.cfg --output=BOOTX64.EFI echo",
            "mkfs.vfat --invariant esp",
            "mmd -i esp ::/EFI ::/EFI/BOOT",
            "mcopy -i esp BOOTX64.EFI ::/EFI/BOOT/BOOTX64.EFI",
        ):
            subprocess.run(command.split(), cwd=folder, check=True, capture_output=True, timeout=60)
        return (folder / "esp").read_bytes()
