"""Runs the two processes of the appliance, web and pxe, and keeps them running until told to stop.

They are started, never imported: as processes of this computer, or as two containers (bootstrap/engines.py).
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Literal, Protocol

from bootstrap.disk import write_file
from bootstrap.engines import end_all
from bootstrap.environment import ROOT
from bootstrap.errors import ServeError
from bootstrap.handover import fence
from bootstrap.operator import Operator
from bootstrap.processes import is_answering_dhcp, wait_until
from bootstrap.workplace import Workplace

DHCP_SECONDS = 60.0  # pxe looks for other DHCP servers first, and tries dnsmasq several times
READY_SECONDS = 60.0  # opening the store and loading 1,000 machines' documents takes far less
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0
LONG_LIFE_SECONDS = 5.0  # a part that ran so long was on its feet: the pauses begin anew
ROUND_SECONDS = 0.2
PartName = Literal["pxe", "web"]


class Engine(Protocol):
    """How the parts run (bootstrap/native.py, bootstrap/containers/serving.py)."""

    @property
    def end_seconds(self) -> float:
        """Return how long a part may take to end once it is told to."""

    @property
    def troubles(self) -> Path:
        """Return the file in which web finds what else does not run just now, for /readyz."""

    def prepare(self) -> object:
        """Make ready what both parts need."""

    def command(self, part: PartName, *words: str) -> Sequence[str]:
        """Return the command that runs a part in the foreground until SIGTERM."""

    def before_start(self, part: PartName) -> None:
        """Clear what is left of a part that no longer runs."""

    def follow(self) -> None:
        """Bring to the parts what has changed; called all the time."""

    def close(self) -> None:
        """Clear up when both have ended."""


class Part:
    """One process of the appliance: started, watched, started again with growing pauses, ended.

    The kernel sends it SIGTERM when we die, however that happens (PR_SET_PDEATHSIG): it would keep the ports.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        before: Callable[[], None] = lambda: None,
        *,
        end_seconds: float,
    ) -> None:
        self.name = name
        self._before = before
        self._end_seconds = end_seconds
        self._command = ("setpriv", "--pdeathsig", "TERM", "--", *command)
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._quick_deaths = 0
        self._not_before = 0.0
        self.has_served = False

    def start(self) -> None:
        """Start the process from the checkout, so that `-m web` and `-m pxe` are found."""
        self._before()
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdin=subprocess.DEVNULL)
        self._began = time.monotonic()

    def watch(self) -> None:
        """Start the process again if it died; one that served once is started again for ever.

        Raises:
            ServeError: it ended by itself, or could not be started, before it ever served: a new start would change
                nothing.
        """
        if self._process is None:
            if time.monotonic() >= self._not_before:
                self._start_again()
            return
        code = self._process.poll()
        if code is None:
            return
        self._process = None
        if code >= 0 and not self.has_served:
            raise ServeError(f"{self.name} could not start (exit {code}); what it said is above")
        pause = self._pause()
        self._not_before = time.monotonic() + pause
        log(f"{self.name} ended (exit {code}); starting it again in {pause:.1f} s")

    def _start_again(self) -> None:
        try:
            self.start()
        except ServeError as error:
            if not self.has_served:
                raise
            self._not_before = time.monotonic() + LONGEST_PAUSE_SECONDS
            log(f"{self.name} could not be started ({error}); trying again in {LONGEST_PAUSE_SECONDS:.1f} s")

    def _pause(self) -> float:
        """Return the seconds until the next start, after a death that was just seen."""
        is_quick = time.monotonic() - self._began < LONG_LIFE_SECONDS
        self._quick_deaths = self._quick_deaths + 1 if is_quick else 0
        return min(FIRST_PAUSE_SECONDS * 2.0 ** min(self._quick_deaths, 16), LONGEST_PAUSE_SECONDS)

    def has_ended(self) -> bool:
        """Return whether no process of this part runs."""
        return self._process is None or self._process.poll() is not None

    def end(self) -> None:
        """Ask the process to end, and kill it if it does not."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(self._end_seconds)
        except subprocess.TimeoutExpired:
            log(f"{self.name} did not end in {self._end_seconds:.0f} s: killed")
            self._process.kill()
            self._process.wait()


def serve(place: Workplace, engine: Engine) -> None:
    """Run the appliance until SIGTERM or SIGINT; return when nothing of it runs any more.

    Raises:
        ServeError: a part did not start.
        PreflightError, ImageError: the engine cannot run them.
        UsageError: the appliance was handed over.
    """
    stop = Stop()
    place.make()
    if end_parts(place):
        log("ended what a killed appliance had left")
    web, pxe = (_part(engine, name) for name in ("web", "pxe"))
    try:
        place.serve_pid.write_text(str(os.getpid()))
        # Now, and not before: a handover that begins at this moment finds our pid, or we its fence.
        fence.refuse(place.work, place.name)
        engine.prepare()
        check_interface(engine)
        _await(web, Operator(place.work).is_ready, stop, READY_SECONDS)
        _await(pxe, lambda: is_answering_dhcp(place.work), stop, DHCP_SECONDS)
        _keep(place, engine, (web, pxe), stop)
    finally:
        pxe.end()
        web.end()
        engine.close()
        remove_runtime(place.runtime)
        for file in (place.serve_pid, engine.troubles):
            file.unlink(missing_ok=True)


def _part(engine: Engine, name: PartName) -> Part:
    return Part(name, engine.command(name), lambda: engine.before_start(name), end_seconds=engine.end_seconds)


def end_parts(place: Workplace) -> bool:
    """End the web and pxe that a killed supervisor left; return whether there was one.

    Raises:
        ServeError: they are containers, and their engine could not.
    """
    return end_all(place)


def _keep(place: Workplace, engine: Engine, parts: tuple[Part, Part], stop: "Stop") -> None:
    """Watch both parts until we are to stop; say in the engine's file what does not serve."""
    told = ""
    web, pxe = parts
    while not stop.asked:
        web.watch()
        pxe.watch()
        with suppress(OSError):  # a file that is just being replaced: the next round brings it
            engine.follow()
        trouble = "" if is_answering_dhcp(place.work) and not pxe.has_ended() else "pxe does not serve"
        if trouble != told:
            told = trouble
            _tell(engine.troubles, trouble)
        time.sleep(ROUND_SECONDS)


def _tell(file: Path, trouble: str) -> None:
    """Put `trouble` into `file`, or remove that; a full disk must not end the appliance."""
    with suppress(OSError):
        if trouble:
            write_file(file, trouble.encode())
        else:
            file.unlink(missing_ok=True)


def check_interface(engine: Engine) -> None:
    """Ask pxe whether the interface can be served on, before web tries to listen on its address.

    Raises:
        ServeError: it cannot; pxe has said why on stderr.
    """
    command = engine.command("pxe", "--check")
    engine.before_start("pxe")
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise ServeError("the appliance cannot serve there; pxe said why above")


def _await(part: Part, is_ready: Callable[[], bool], stop: "Stop", timeout_seconds: float) -> None:
    """Start a part and wait until it serves; one that is killed meanwhile is started again."""

    def is_over() -> bool:
        part.watch()
        return stop.asked or is_ready()

    if not wait_until(is_over, timeout_seconds):
        raise ServeError(f"{part.name} was not ready within {timeout_seconds:.0f} s; what it said is above")
    part.has_served = not stop.asked


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
