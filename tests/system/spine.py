"""Runs deploy.py as a person does, in a folder of the test's own, and looks at what it leaves."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootstrap.lab.console import plain
from bootstrap.operator import Operator
from bootstrap.status import stranger

ROOT = Path(__file__).parents[2]
LAB = "configs/lab.yaml"
BARE = "tests/system/bare.yaml"
"""The same rack without a control plane."""
CACHE = Path(os.environ.get("FIRSTLIGHT_CACHE") or ROOT / "deploy" / "cache")
"""Images and Kubernetes are slow to build: what is there already is used."""
LONGEST_RUN_SECONDS = 1500.0  # two emulated machines install in about five minutes on two idle cores
END_SECONDS = 90.0
# A job that a script put into the background ignores SIGINT, and so do all its children unless told otherwise.
HEARS_CTRL_C = ("env", "--default-signal=INT")


@dataclass
class Outcome:
    """How a run of deploy.py ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Site:
    """A folder for everything generated, with the image cache of `cache`, and the configuration files to use."""

    deploy: Path
    cache: Path
    configs: tuple[str, ...] = (LAB,)
    name: str = "lab"
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.deploy / self.name

    @property
    def namespace(self) -> str:
        return f"fl-{self.name}"

    @property
    def environment(self) -> dict[str, str]:
        mine = {"FIRSTLIGHT_DEPLOY": str(self.deploy), "FIRSTLIGHT_CACHE": str(self.cache)}
        return {**os.environ, **mine, **self.extra}

    def argv(self, *arguments: str) -> list[str]:
        options = [word for path in self.configs for word in ("--config", path)]
        return [sys.executable, "deploy.py", *options, *arguments]

    def run(self, *arguments: str, timeout: float = LONGEST_RUN_SECONDS) -> Outcome:
        done = subprocess.run(
            self.argv(*arguments),
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        sys.stderr.write(f"$ deploy.py {' '.join(arguments)} -> {done.returncode}\n{done.stderr[-6000:]}\n")
        return Outcome(done.returncode, done.stdout, done.stderr)

    def machines(self) -> dict[str, dict[str, Any]]:
        """Return what `machine list` shows, asked without a process: polls must not take time from the machines."""
        asked = Operator(self.work)
        shown = [*asked.machines(), *map(stranger, asked.strangers())]
        return {machine["name"] or machine["mac"]: machine for machine in shown}

    def machine(self, name: str) -> dict[str, Any]:
        return self.machines()[name]

    def events(self, name: str) -> list[dict[str, Any]]:
        return Operator(self.work).events(machine=name)

    def console(self, name: str) -> str:
        """Return what a machine's console ever said, as plain text."""
        return plain((self.work / "lab" / name / "console.log").read_bytes())

    def in_machine(self, name: str, *command: str) -> str:
        done = self.run("lab", "exec", name, "--", *command, timeout=120)
        assert done.code == 0, f"{command} on {name}: {done.out}{done.err}"
        return done.out.strip()


def show_logs(site: Site) -> None:
    """Write the ends of the consoles and logs to stderr: a test has failed, and the folder is soon gone."""
    for log in (*site.work.glob("lab/*/console.log"), *site.work.glob("log/*.log")):
        sys.stderr.write(f"--- {log}\n{log.read_text(errors='replace')[-4000:]}\n")


def wait_for(question: Callable[[], bool], what: str, *, timeout: float, every: float = 2.0) -> None:
    """Ask `question` until it says yes; fail with `what` when the time is over."""
    deadline = time.monotonic() + timeout
    while not question():
        assert time.monotonic() < deadline, f"not within {timeout:.0f} s: {what}"
        time.sleep(every)


@contextmanager
def running(site: Site, *arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run deploy.py in the background, as a terminal's foreground job would be; it is ended afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*HEARS_CTRL_C, *site.argv(*arguments)],
            cwd=ROOT,
            env=site.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(END_SECONDS)


def interrupt(process: subprocess.Popen[bytes]) -> int:
    """Send what Ctrl-C sends, to the whole foreground group, and return the exit code."""
    os.killpg(process.pid, signal.SIGINT)
    return process.wait(END_SECONDS)


def leftovers(site: Site) -> list[str]:
    """Return every process, namespace, mount and file that a run left outside its folder."""
    return [*processes_of(site), *mounts_of(site), *files_of(site)]


def processes_of(site: Site) -> Iterator[str]:
    """Yield the processes whose command line or folder lies in the site's folder or in its namespace."""
    mark, namespace = str(site.deploy), _named(site)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            where = str((folder / "cwd").readlink())
        except OSError:
            continue
        own = int(folder.name) == os.getpid() or "pytest" in command
        if not own and (mark in command or where.startswith(mark) or namespace.search(command)):
            yield f"process {folder.name}: {command}"


def mounts_of(site: Site) -> Iterator[str]:
    """Yield the mounts below the site's folder, the cache, and those of namespaces."""
    for line in Path("/proc/mounts").read_text().splitlines():
        target = line.split()[1]
        if any(mark in target for mark in (str(site.deploy), f"{site.cache}/")) or _named(site).search(
            target
        ):
            yield f"mount {line}"


def _named(site: Site) -> re.Pattern[str]:
    """Return what finds the site's namespace, and no other whose name goes on."""
    return re.compile(rf"{re.escape(site.namespace)}(?![\w-])")


def files_of(site: Site) -> Iterator[str]:
    """Yield what is left in the folders of the system that firstlight uses."""
    for folder, pattern in (
        (Path("/run/netns"), site.namespace),
        (Path("/run/firstlight"), f"{site.name}-*"),
    ):
        for path in folder.glob(pattern):
            yield f"file {path}"
