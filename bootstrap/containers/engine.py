"""The one door to podman and docker: runs their command lines, and says what to do when one does not work."""

import re
import shutil
import subprocess
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from bootstrap.containers import command
from bootstrap.containers.dialect import DIALECTS, NO_BASE, Dialect, EngineName
from bootstrap.errors import ImageError, PreflightError, ServeError
from bootstrap.image.command import run as run_aloud
from bootstrap.progress import Progress

ASK_SECONDS = 60.0
LAST_LINES = 8
LONGEST_LINE, LONGEST_STEP = 200, 70
_OPTION = re.compile(r"(?<= )--\S+ +")
_ECHO = re.compile(r"-->|\[\d+/\d+\] |STEP \d|#\d+ \[")
"""Lines of a build that only repeat the Dockerfile."""


class Engine:
    """A container engine of this computer."""

    def __init__(self, name: EngineName) -> None:
        self.dialect: Dialect = DIALECTS[name]

    def check(self) -> None:
        """Ask whether it works.

        Raises:
            PreflightError: it is missing or does not; the text says what to do.
        """
        name = self.dialect.name
        if shutil.which(name) is None:
            raise PreflightError(
                f"{name} is not installed; install it: {self.dialect.install}\nor write `engine: native`"
            )
        done = self._ask(*self.dialect.works)
        if done.returncode == 0 and done.stdout.strip():
            return
        said = _last(done.stderr) or f"exit {done.returncode}"
        raise PreflightError(f"{name} does not work: {said}{_remedy(self.dialect.remedies, done.stderr)}")

    def has_image(self, image: str) -> bool:
        """Return whether an image is on this computer."""
        return self._ask("image", "inspect", "--format", "{{.Id}}", image).returncode == 0

    def size(self, image: str) -> int:
        """Return the size of an image in bytes; 0 if it is not there."""
        text = self._ask("image", "inspect", "--format", "{{.Size}}", image).stdout.strip()
        return int(text) if text.isdigit() else 0

    def build(
        self,
        *,
        file: Path,
        tag: str,
        arguments: Mapping[str, str],
        secrets: Mapping[str, Path],
        proxies: Sequence[str],
        progress: Progress,
    ) -> None:
        """Build an image, telling `progress` of each step.

        Raises:
            ImageError: it failed; the text holds its last lines and what to do.
        """

        def heard(line: str) -> None:
            if found := self.dialect.step.search(line):
                told = textwrap.shorten(f"{file.name}: {_OPTION.sub('', found['what'])}", LONGEST_STEP)
                progress(told, int(found["done"]), int(found["total"]))

        argv = command.build(
            self.dialect, file=file, tag=tag, arguments=arguments, secrets=secrets, proxies=proxies
        )
        try:
            run_aloud(argv, env=self.dialect.build_environment, on_line=heard)
        except ImageError as error:
            base = arguments.get("BASE", "")
            if not NO_BASE.search(str(error)):
                remedy = _remedy(self.dialect.build_remedies, str(error))
                raise ImageError(f"{file.name} could not be built:\n{_last(str(error))}{remedy}") from error
            raise ImageError(
                f"the base image {base} is not on this computer and could not be pulled: import one of that name"
                f" (docs/containers.md), or name another in appliance.containers.base\n{_last(str(error))}"
            ) from error

    def remove(self, *names: str) -> None:
        """Remove containers, running or not.

        Raises:
            ServeError: the engine could not.
        """
        done = self._ask(*command.remove(self.dialect, names)[1:])
        # Some versions fail for one that is not there, others do not.
        if done.returncode != 0 and not re.search(
            r"no such container|no container with", done.stderr.lower()
        ):
            raise ServeError(f"{self.dialect.name} could not remove {', '.join(names)}: {_last(done.stderr)}")

    def containers_of(self, work: Path) -> tuple[str, ...]:
        """Return the names of all containers, running or not, that belong to a work folder."""
        wanted = f"label={command.LABEL}={work}"
        done = self._ask("ps", "--all", "--filter", wanted, "--format", "{{.Names}}")
        return tuple(done.stdout.split())

    def _ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [self.dialect.name, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=ASK_SECONDS,
            )
        except FileNotFoundError as error:
            raise PreflightError(
                f"{self.dialect.name} is not installed; install it: {self.dialect.install}"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise ServeError(
                f"{self.dialect.name} {words[0]} did not end within {ASK_SECONDS:.0f} s"
            ) from error


def _last(text: str) -> str:
    """Return the last lines that say something, each cut: a failed step is repeated in full, many screens of it."""
    lines = (line for line in text.strip().splitlines() if not _ECHO.match(line))
    return "\n".join(
        textwrap.shorten(line, LONGEST_LINE, placeholder=" ...") for line in [*lines][-LAST_LINES:]
    )


def _remedy(remedies: Mapping[str, str], said: str) -> str:
    found = (what for pattern, what in remedies.items() if re.search(pattern, said, re.IGNORECASE))
    return "".join(f"\n{what}" for what in [next(found, "")] if what)
