"""Runs the two processes of the appliance, web and pxe, and keeps them running until told to stop.

They are started as processes, never imported: in containers they are two images. This supervisor is the
native engine (`appliance.engine: native`).
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from bootstrap.environment import ROOT
from bootstrap.errors import ServeError
from bootstrap.localboot import make_localboot
from bootstrap.operator import Operator
from bootstrap.processes import wait_until
from bootstrap.workplace import Workplace

READY_SECONDS = 60.0  # opening the store and loading 1,000 machines' documents takes far less
END_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
QUICK_DEATH_SECONDS = 20.0  # pxe needs up to 15 to find out that it must refuse
MOST_QUICK_DEATHS = 5

Wrap = Callable[[Sequence[str]], Sequence[str]]  # puts a command into the lab's network namespace, or nothing


def web_command(place: Workplace) -> tuple[str, ...]:
    """Return the command of the web process."""
    return (sys.executable, "-m", "web", "--work", str(place.work), "--cache", str(place.cache))


def pxe_command(place: Workplace) -> tuple[str, ...]:
    """Return the command of the pxe process."""
    return (sys.executable, "-m", "pxe", "--work", str(place.work), "--runtime", str(place.runtime))


class Part:
    """One process of the appliance: started, watched, started again with growing pauses, ended."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._quick_deaths = 0
        self._not_before = 0.0

    def start(self) -> None:
        """Start the process from the checkout, so that `-m web` and `-m pxe` are found."""
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdin=subprocess.DEVNULL)
        self._began = time.monotonic()

    def watch(self) -> None:
        """Start the process again if it died.

        Raises:
            ServeError: it keeps dying right after its start.
        """
        if self._process is None:
            if time.monotonic() >= self._not_before:
                self.start()
            return
        code = self._process.poll()
        if code is None:
            return
        self._process = None
        is_quick = time.monotonic() - self._began < QUICK_DEATH_SECONDS
        self._quick_deaths = self._quick_deaths + 1 if is_quick else 0
        if self._quick_deaths >= MOST_QUICK_DEATHS:
            raise ServeError(
                f"{self.name} ended {self._quick_deaths} times right after its start (exit {code})"
            )
        pause = min(FIRST_PAUSE_SECONDS * 2**self._quick_deaths, LONGEST_PAUSE_SECONDS)
        self._not_before = time.monotonic() + pause
        log(f"{self.name} ended (exit {code}); starting it again in {pause:.1f} s")

    def has_ended(self) -> bool:
        """Return whether no process of this part runs."""
        return self._process is None or self._process.poll() is not None

    def end(self) -> None:
        """Ask the process to end, and kill it if it does not."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            log(f"{self.name} did not end in {END_SECONDS:.0f} s: killed")
            self._process.kill()
            self._process.wait()


def serve(place: Workplace, *, wrap: Wrap = tuple) -> None:
    """Run the appliance until SIGTERM or SIGINT; return when nothing of it runs any more.

    Raises:
        ServeError: a part did not start, or kept dying.
    """
    place.make()
    place.runtime.mkdir(parents=True, exist_ok=True)
    place.serve_pid.write_text(str(os.getpid()))
    make_localboot(place.work)
    stop = Stop()
    web = Part("web", wrap(web_command(place)))
    pxe = Part("pxe", wrap(pxe_command(place)))
    try:
        web.start()
        _await_ready(place, web, stop)
        if not stop.asked:
            pxe.start()
        while not stop.asked:
            web.watch()
            pxe.watch()
            time.sleep(0.2)
    finally:
        pxe.end()
        web.end()
        remove_runtime(place.runtime)
        place.serve_pid.unlink(missing_ok=True)


def _await_ready(place: Workplace, web: Part, stop: "Stop") -> None:
    operator = Operator(place.work)
    wait_until(lambda: stop.asked or web.has_ended() or operator.is_ready(), READY_SECONDS)
    if not stop.asked and not operator.is_ready():
        raise ServeError(f"web was not ready within {READY_SECONDS:.0f} s; its messages are above")


def remove_runtime(runtime: Path) -> None:
    """Remove the cluster's folder under /run, and the parent if no other cluster uses it."""
    shutil.rmtree(runtime, ignore_errors=True)
    try:
        runtime.parent.rmdir()
    except OSError:
        return


class Stop:
    """Remembers that SIGTERM or SIGINT came, so that the loop can end in order."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.asked = True


def log(text: str) -> None:
    """Write a line to the appliance's log (stderr)."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stderr.write(f"{stamp} serve: {text}\n")
    sys.stderr.flush()
