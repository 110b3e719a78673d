"""Reads what is in an initrd and in a file system image, with no mount."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

MAGIC = b"070701"
ZSTD = b"\x28\xb5\x2f\xfd"


def names_in_initrd(path: Path) -> set[str]:
    """Return all file names: of the uncompressed archives in front, and of the zstd one behind them."""
    content = path.read_bytes()
    found: set[str] = set()
    at = 0
    while content[at : at + 6] == MAGIC:
        for name, end in entries(content, at):
            found.add(name)
            at = end
        while content[at : at + 1] == b"\0":
            at += 1
    if content[at : at + 4] == ZSTD:
        packed = content[at:]
        plain = subprocess.run(["zstd", "-dc"], input=packed, check=True, capture_output=True).stdout
        found |= {name for name, _ in entries(plain, 0)}
    return found


def entries(content: bytes, at: int) -> Iterator[tuple[str, int]]:
    """Yield name and end of each entry of a newc archive (kernel: early-userspace/buffer-format)."""
    name = ""
    while name != "TRAILER!!!" and content[at : at + 6] == MAGIC:
        size, name_size = (int(content[at + place : at + place + 8], 16) for place in (54, 94))
        name = content[at + 110 : at + 110 + name_size - 1].decode()
        body = -(-(at + 110 + name_size) // 4) * 4
        at = -(-(body + size) // 4) * 4
        yield name, at


def read_ext4(image: Path, offset: int, path: str) -> str:
    """Return the text of one file of the ext4 file system at `offset`; empty if it is not there."""
    argv = ["debugfs", "-R", f"cat {path}", f"{image}?offset={offset}"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def list_ext4(image: Path, offset: int, path: str) -> str:
    """Return the listing of one folder of it."""
    argv = ["debugfs", "-R", f"ls -l {path}", f"{image}?offset={offset}"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
