"""What the disk can do by itself."""

import json
import os
import subprocess
import time
from pathlib import Path

BLOCK = 4096
# As etcd's documentation has a disk judged for its log (etcd.io, "Hardware recommendations"), with blocks of the size
# that SQLite's log has.
_FIO = (
    "fio",
    "--name=log",
    "--rw=write",
    "--ioengine=sync",
    "--fdatasync=1",
    "--size=40m",
    f"--bs={BLOCK}",
    "--output-format=json",
)


def log_writes_per_second(folder: Path) -> float:
    """Return how often per second a file in `folder` can be continued by a block and brought to the disk, says fio.

    Raises:
        FileNotFoundError: there is no fio.
        subprocess.CalledProcessError: it failed.
    """
    place = folder / "fio"
    place.mkdir()
    try:
        done = subprocess.run([*_FIO, f"--directory={place}"], capture_output=True, check=True, timeout=300)
    finally:
        for path in place.iterdir():
            path.unlink()
        place.rmdir()
    rate: float = json.loads(done.stdout)["jobs"][0]["write"]["iops"]
    return rate


def overwrites_per_second(folder: Path, seconds: float) -> float:
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
