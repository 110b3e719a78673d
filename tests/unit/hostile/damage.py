"""One flipped bit in a file, and back."""

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path


def flip(path: Path, bit: int) -> None:
    """Flip one bit of the file at `path`, counted from its first byte's lowest."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


@contextlib.contextmanager
def flipped(path: Path, dice: random.Random) -> Iterator[int]:
    """Have one random bit of the file flipped meanwhile; then put the whole file back, wherever it went."""
    content, mode = path.read_bytes(), path.stat().st_mode & 0o7777
    bit = dice.randrange(8 * len(content))
    flip(path, bit)
    try:
        yield bit
    finally:
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
