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
from contextlib import suppress
from pathlib import Path
from types import FrameType

from bootstrap.environment import ROOT
from bootstrap.errors import ServeError
from bootstrap.localboot import make_localboot
from bootstrap.operator import Operator
from bootstrap.processes import end, running_pid, wait_until
from bootstrap.workplace import Workplace

DHCP_SECONDS = 60.0  # pxe looks for other DHCP servers first, and tries dnsmasq several times
READY_SECONDS = 60.0  # opening the store and loading 1,000 machines' documents takes far less
END_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0
LONG_LIFE_SECONDS = 5.0  # a part that ran so long was on its feet: the pauses begin anew
ROUND_SECONDS = 0.2
TROUBLES = Path("run/troubles")
"""Below the work folder: what does not run just now, for /readyz."""

Wrap = Callable[[Sequence[str]], Sequence[str]]  # puts a command into the lab's network namespace, or nothing


def web_command(place: Workplace) -> tuple[str, ...]:
    """Return the command of the web process."""
    return (sys.executable, "-m", "web", "--work", str(place.work), "--cache", str(place.cache))


def pxe_command(place: Workplace) -> tuple[str, ...]:
    """Return the command of the pxe process."""
    return (sys.executable, "-m", "pxe", "--work", str(place.work), "--runtime", str(place.runtime))


class Part:
    """One process of the appliance: started, watched, started again with growing pauses, ended.

    The kernel sends it SIGTERM when we die, however that happens (PR_SET_PDEATHSIG): it would keep the ports.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._command = ("setpriv", "--pdeathsig", "TERM", "--", *command)
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._quick_deaths = 0
        self._not_before = 0.0
        self.has_served = False

    def start(self) -> None:
        """Start the process from the checkout, so that `-m web` and `-m pxe` are found."""
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdin=subprocess.DEVNULL)
        self._began = time.monotonic()

    def watch(self) -> None:
        """Start the process again if it died; one that served once is started again for ever.

        Raises:
            ServeError: it ended by itself before it ever served: a new start would change nothing.
        """
        if self._process is None:
            if time.monotonic() >= self._not_before:
                self.start()
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
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            log(f"{self.name} did not end in {END_SECONDS:.0f} s: killed")
            self._process.kill()
            self._process.wait()


def serve(place: Workplace, *, wrap: Wrap = tuple) -> None:
    """Run the appliance until SIGTERM or SIGINT; return when nothing of it runs any more.

    Raises:
        ServeError: a part did not start.
    """
    stop = Stop()
    place.make()
    if end_parts(place):
        log("ended what a killed appliance had left")
    web = Part("web", wrap(web_command(place)))
    pxe = Part("pxe", wrap(pxe_command(place)))
    try:
        place.runtime.mkdir(parents=True, exist_ok=True)
        place.serve_pid.write_text(str(os.getpid()))
        make_localboot(place.work)
        check_interface(place, wrap)
        _await(web, Operator(place.work).is_ready, stop, READY_SECONDS)
        _await(pxe, lambda: is_answering_dhcp(place), stop, DHCP_SECONDS)
        _keep(place, web, pxe, stop)
    finally:
        pxe.end()
        web.end()
        remove_runtime(place.runtime)
        for file in (place.serve_pid, place.work / TROUBLES):
            file.unlink(missing_ok=True)


def end_parts(place: Workplace) -> bool:
    """End the web and pxe that a killed supervisor left; return whether there was one."""
    found = False
    for name in ("pxe", "web"):
        file = place.work / "run" / f"{name}.pid"
        pid = running_pid(file, f" -m {name} ", f" --work {place.work} ")
        if pid is not None:
            found = True
            end(pid, patience_seconds=3 * END_SECONDS)
        file.unlink(missing_ok=True)
    (place.work / TROUBLES).unlink(missing_ok=True)
    return found


def _keep(place: Workplace, web: Part, pxe: Part, stop: "Stop") -> None:
    """Watch both parts until we are to stop; say in TROUBLES what does not serve."""
    told = ""
    while not stop.asked:
        web.watch()
        pxe.watch()
        trouble = "" if is_answering_dhcp(place) and not pxe.has_ended() else "pxe does not serve"
        if trouble != told:
            told = trouble
            _tell(place.work / TROUBLES, trouble)
        time.sleep(ROUND_SECONDS)


def _tell(file: Path, trouble: str) -> None:
    """Put `trouble` into `file`, or remove that; a full disk must not end the appliance."""
    with suppress(OSError):
        if trouble:
            file.write_text(trouble)
        else:
            file.unlink(missing_ok=True)


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
    """Start a part and wait until it serves; one that is killed meanwhile is started again."""

    def is_over() -> bool:
        part.watch()
        return stop.asked or is_ready()

    if not wait_until(is_over, timeout_seconds):
        raise ServeError(f"{part.name} was not ready within {timeout_seconds:.0f} s; what it said is above")
    part.has_served = not stop.asked


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
