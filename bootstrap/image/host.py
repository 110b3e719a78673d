"""Builds the root file system that the lab's control-plane hosts start from: a plain Debian that answers SSH."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from bootstrap import packages
from bootstrap.errors import ImageError
from bootstrap.image import recipe
from bootstrap.image.command import APART, run, terminable
from bootstrap.image.debian import KEPT, LEFT_OUT, work_folder
from bootstrap.model import Cluster
from bootstrap.progress import Progress

HOST_PACKAGES = ("debian-archive-keyring", "mmdebstrap", "zstd")
HOST_TOOLS = ("mmdebstrap", "zstd")
SUITE = "trixie"
MIN_FREE_BYTES = 2 << 30
STEPS = (
    ("downloading packages", 10, "downloading packages"),
    ("extracting archives", 30, "unpacking packages"),
    ("installing remaining", 50, "installing packages"),
    ("firstlight-step: clearing", 80, "clearing what must differ between hosts"),
    ("creating tarball", 90, "compressing the root"),
)


def archive(cache: Path, mirror: str | None = None) -> Path:
    """Return where the root for `mirror` (None: mmdebstrap's own) lies, as a tar archive; it may not be there."""
    return cache / "hosts" / f"{recipe.host_key(mirror)}.tar.zst"


def for_lab(cluster: Cluster, cache: Path, progress: Progress) -> Path | None:
    """Return what the hosts of the cluster's lab start from, built if need be; None if it has none.

    Raises as `build`; PreflightError if a Debian package is missing that cannot be installed.
    """
    if cluster.lab is None or not cluster.lab.hosts:
        return None
    packages.ensure(HOST_PACKAGES, progress)
    return build(cache, progress, cluster.images.debian.mirror)


def build(cache: Path, progress: Progress, mirror: str | None = None) -> Path:
    """Return the root as a tar archive, building it unless the cache holds it already; about a minute.

    Needs root and the programs of HOST_PACKAGES. Raises ImageError with what to install or which step failed.
    """
    final = archive(cache, mirror)
    if final.is_file():
        progress("root of the lab's hosts is already built", 100, 100)
        return final
    check(cache)
    with terminable(), work_folder(cache) as work:
        partial = work / final.name
        env = {"TMPDIR": f"{work}", "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": f"{int(time.time())}"}
        run(argv(partial, mirror), env=env, apart=APART, on_line=steps(progress))
        keep(partial, final)
    progress("root of the lab's hosts is built", 100, 100)
    return final


def check(cache: Path) -> None:
    """Raise ImageError, with the remedy, when this computer cannot build the root."""
    if os.geteuid() != 0:
        raise ImageError("the root of the lab's hosts can only be built by root: start this again with sudo")
    missing = [tool for tool in HOST_TOOLS if shutil.which(tool) is None]
    if missing:
        raise ImageError(f"{', '.join(missing)} missing: apt-get install {' '.join(HOST_PACKAGES)}")
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if free < MIN_FREE_BYTES:
        raise ImageError(f"{cache} has {free >> 20} MiB free; a build needs {MIN_FREE_BYTES >> 20} MiB")


def argv(target: Path, mirror: str | None) -> tuple[str, ...]:
    """Return the command that makes the root and packs it into `target`."""
    texts = recipe.TEXTS / "host"
    return (
        "mmdebstrap",
        "--verbose",
        "--mode=root",
        "--variant=minbase",
        "--components=main",
        "--include=" + ",".join(recipe.listed(texts / "packages")),
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=Acquire::Retries "3"',
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
        *(f"--dpkgopt=path-include={pattern}" for pattern in KEPT),
        f"--customize-hook={texts / 'customize'}",
        SUITE,
        f"{target}",
        *((mirror,) if mirror else ()),
    )


def steps(progress: Progress) -> Callable[[str], None]:
    """Return what turns the lines of mmdebstrap into progress."""

    def see(line: str) -> None:
        for text, percent, what in STEPS:
            if text in line:
                progress(f"root of the lab's hosts: {what}", percent, 100)

    return see


def keep(partial: Path, final: Path) -> None:
    """Put the archive under its name, whole and on the disk."""
    partial.chmod(0o444)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    final.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(final)
