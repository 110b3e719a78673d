"""The root file system of a built image, unpacked into a folder of the test's, with no mount."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bootstrap import artifacts
from bootstrap.artifacts import Manifest
from bootstrap.image import disk
from tests.system.spine import CACHE

ROOT_OFFSET = disk.ROOT_AT * 512


@contextmanager
def unpacked(manifest: Manifest, folder: Path) -> Iterator[Path]:
    """Unpack the image's root below `folder`, and remove it afterwards: it is large."""
    raw, root = folder / "disk.raw", folder / "root"
    source = artifacts.artifact_path(CACHE, manifest.disk.sha256)
    root.mkdir()
    try:
        subprocess.run(["zstd", "-q", "-d", "--sparse", str(source), "-o", str(raw)], check=True)
        argv = ["debugfs", "-R", f"rdump / {root}", f"{raw}?offset={ROOT_OFFSET}"]
        subprocess.run(argv, check=True, capture_output=True)
        raw.unlink()
        yield root
    finally:
        raw.unlink(missing_ok=True)
        shutil.rmtree(root)


def within(root: Path, *argv: str, check: bool = True) -> str:
    """Run a program of the image in its root, and return what it printed."""
    done = subprocess.run(
        ["chroot", str(root), *argv],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/sbin:/usr/bin"},
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout
