"""One pxe per work folder: the kernel holds the lock, so that a killed process leaves none behind."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bootstrap.errors import ServeError


class Ready:
    """A file with our pid in it while we serve; a killed pxe leaves it, but then the pid is not that of pxe.pid."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.withdraw()

    def say(self) -> None:
        """Say that we serve."""
        self._path.write_text(f"{os.getpid()}\n")

    def withdraw(self) -> None:
        """Say so no more."""
        self._path.unlink(missing_ok=True)


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold `path`, with our pid in it, while the block runs; then remove it.

    Raises:
        ServeError: another process holds it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise ServeError(
                f"pxe runs already for {path.parent.parent} (pid {file.read().strip()})"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
