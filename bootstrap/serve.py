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

DHCP_SECONDS = 60.0  # pxe looks for other DHCP servers first, and tries dnsmasq several times
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
    stop = Stop()
    place.make()
    web = Part("web", wrap(web_command(place)))
    pxe = Part("pxe", wrap(pxe_command(place)))
    try:
        place.runtime.mkdir(parents=True, exist_ok=True)
        place.serve_pid.write_text(str(os.getpid()))
        make_localboot(place.work)
        check_interface(place, wrap)
        web.start()
        _await(web, Operator(place.work).is_ready, stop, READY_SECONDS)
        if not stop.asked:
            pxe.start()
            _await(pxe, lambda: is_answering_dhcp(place), stop, DHCP_SECONDS)
        while not stop.asked:
            web.watch()
            pxe.watch()
            time.sleep(0.2)
    finally:
        pxe.end()
        web.end()
        remove_runtime(place.runtime)
        place.serve_pid.unlink(missing_ok=True)


def check_interface(place: Workplace, wrap: Wrap) -> None:
    """Ask pxe whether the interface can be served on, before web tries to listen on its address.

    Raises:
        ServeError: it cannot; pxe has said why on stderr.
    """
    done = subprocess.run(
        [*wrap(pxe_command(place)), "--check"], cwd=ROOT, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode != 0:
        raise ServeError("the appliance cannot serve there; pxe said why above")


def _await(part: Part, is_ready: Callable[[], bool], stop: "Stop", timeout_seconds: float) -> None:
    wait_until(lambda: stop.asked or part.has_ended() or is_ready(), timeout_seconds)
    if stop.asked or is_ready():
        return
    if part.has_ended():
        raise ServeError(f"{part.name} could not start; what it said is above")
    raise ServeError(f"{part.name} was not ready within {timeout_seconds:.0f} s; what it said is above")


def is_answering_dhcp(place: Workplace) -> bool:
    """Return whether a pxe that lives says that its dnsmasq serves: a killed one leaves `pxe.ready`, not `pxe.pid`."""
    try:
        owner, ready = ((place.work / "run" / name).read_text() for name in ("pxe.pid", "pxe.ready"))
    except OSError:
        return False
    return owner == ready


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
