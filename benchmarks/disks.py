"""What the disk can do by itself."""

import os
import time
from pathlib import Path

BLOCK = 4096


def syncs_per_second(folder: Path, seconds: float) -> float:
    """Return how often per second a block of a file in `folder` can be written over and brought to the disk."""
    path = folder / "block"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, os.urandom(BLOCK), 0)
        os.fsync(descriptor)
        return _rate(descriptor, os.urandom(BLOCK), seconds)
    finally:
        os.close(descriptor)
        path.unlink()


def _rate(descriptor: int, block: bytes, seconds: float) -> float:
    done, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        os.pwrite(descriptor, block, 0)
        os.fdatasync(descriptor)
        done += 1
    return done / passed
