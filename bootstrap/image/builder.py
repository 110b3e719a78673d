"""What every build of Debian needs of this computer: its programs, room, a folder, and mmdebstrap's command."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootstrap.errors import ImageError

CLEAR_TRIES = 25
LEFT_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*")
KEPT = ("/usr/share/doc/*/copyright",)


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What one kind of build asks of the building computer."""

    what: str
    """As in "an image can only be built by root"."""
    packages: Sequence[str]
    tools: Sequence[str]
    free_bytes: int


def check(cache: Path, needs: Needs) -> None:
    """Raise ImageError, with the remedy, when this computer cannot do a build."""
    if os.geteuid() != 0:
        raise ImageError(f"{needs.what} can only be built by root: start this again with sudo")
    missing = [tool for tool in needs.tools if shutil.which(tool) is None]
    if missing:
        raise ImageError(f"{', '.join(missing)} missing: apt-get install {' '.join(needs.packages)}")
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if free < needs.free_bytes:
        raise ImageError(f"{cache} has {free >> 20} MiB free; a build needs {needs.free_bytes >> 20} MiB")


@contextlib.contextmanager
def work_folder(cache: Path) -> Iterator[Path]:
    """Make a folder for the build and remove it afterwards; also those of builds that were killed."""
    folder = cache / "building"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ImageError(f"another build is using {cache}: wait for it") from error
        for leftover in folder.glob("debian-*"):
            clear(leftover)
        work = Path(tempfile.mkdtemp(prefix="debian-", dir=folder))
        work.chmod(0o755)
        try:
            yield work
        finally:
            clear(work)


def clear(folder: Path) -> None:
    """Remove `folder`; what was killed a moment ago may still be writing into it."""
    for _ in range(CLEAR_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.2)
    shutil.rmtree(folder)


def mmdebstrap_argv(
    suite: str,
    target: Path,
    *,
    packages: Sequence[str],
    components: str,
    hook: Path | None,
    mirror: str | None,
    form: str,
    simulate: bool = False,
) -> tuple[str, ...]:
    """Return the command that makes a root at `target` in mmdebstrap's format `form`.

    Without a mirror, mmdebstrap asks Debian's own. With `simulate` it makes none, and says what would be in it.
    """
    return (
        "mmdebstrap",
        "--verbose",
        "--mode=root",
        f"--format={form}",
        *(("--simulate", "--variant=custom") if simulate else ("--variant=minbase",)),
        f"--components={components}",
        "--include=" + ",".join(packages),
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=Acquire::Retries "3"',
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
        *(f"--dpkgopt=path-include={pattern}" for pattern in KEPT),
        *((f"--customize-hook={hook}",) if hook else ()),
        suite,
        f"{target}",
        *((mirror,) if mirror else ()),
    )
