"""The native engine: web and pxe as processes of this computer, from this checkout."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bootstrap import packages
from bootstrap.localboot import make_localboot
from bootstrap.processes import end, running_pid
from bootstrap.progress import Progress
from bootstrap.workplace import Workplace

END_SECONDS = 30.0  # for what a killed serve has left
PART_SECONDS = 10.0  # for a part that serve tells to end
TROUBLES = Path("run/troubles")
"""Below the work folder: what web is told of the rest."""

Wrap = Callable[[Sequence[str]], Sequence[str]]  # puts a command into the lab's network namespace, or nothing


class Native:
    """Runs both parts without any container; `wrap` puts their commands into the lab's network."""

    def __init__(self, place: Workplace, wrap: Wrap = tuple) -> None:
        self._place = place
        self._wrap = wrap

    def ensure(self, progress: Progress) -> tuple[str, ...]:
        """Install the Debian packages that are missing; return nothing, as it is no news.

        Raises:
            PreflightError: they cannot be installed.
        """
        packages.ensure(packages.SERVE, progress)
        return ()

    def prepare(self) -> None:
        """Make the loaders that lead a machine to its disk.

        Raises:
            ServeError: GRUB is missing or failed.
        """
        self._place.runtime.mkdir(parents=True, exist_ok=True)
        make_localboot(self._place.work)

    def command(self, part: str, *words: str) -> Sequence[str]:
        """Return the command of a part."""
        place = self._place
        where = ("--cache", f"{place.cache}") if part == "web" else ("--runtime", f"{place.runtime}")
        return self._wrap((sys.executable, "-m", part, "--work", f"{place.work}", *where, *words))

    def before_start(self, part: str) -> None:
        """Do nothing: each part clears up after its predecessor itself."""

    def follow(self) -> None:
        """Do nothing: both parts see the files of the work folder."""

    @property
    def end_seconds(self) -> float:
        """Return how long a part may take to end."""
        return PART_SECONDS

    @property
    def troubles(self) -> Path:
        """Return where web looks for what else does not run."""
        return self._place.work / TROUBLES

    def close(self) -> None:
        """Do nothing: what has ended leaves nothing."""


def end_processes(place: Workplace) -> bool:
    """End the web and pxe that a killed supervisor left; return whether there was one."""
    found = False
    for name in ("pxe", "web"):
        file = place.work / "run" / f"{name}.pid"
        pid = running_pid(file, f" -m {name} ", f" --work {place.work} ")
        if pid is not None:
            found = True
            end(pid, patience_seconds=END_SECONDS)
        file.unlink(missing_ok=True)
    (place.work / TROUBLES).unlink(missing_ok=True)
    return found
