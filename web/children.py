"""Child processes that live exactly as long as we do: watched, started again, ended with their group."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
LONG_LIFE_SECONDS = 5.0  # a child that lived this long gets a short pause again
END_SECONDS = 5.0
POLL_SECONDS = 0.02


class Child:
    """One command in a session of its own.

    The kernel sends it SIGTERM when we die, however that happens (PR_SET_PDEATHSIG, which looks at the thread
    that started it: that must be the main one). Its own children share its process group: none survives it.
    `note` is the file that holds its number, for `end_leftovers` of the next one of us.
    """

    def __init__(self, name: str, command: Sequence[str], before: Callable[[], None], note: Path) -> None:
        self._name = name
        self._note = note
        self._command = ("setpriv", "--pdeathsig", "TERM", "--", *command)
        self._before = before
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._pause = FIRST_PAUSE_SECONDS
        self._not_before = 0.0

    @property
    def pid(self) -> int | None:
        """Return its process id, or None while it does not run."""
        return self._process.pid if self._process else None

    def keep(self) -> None:
        """Start it if it does not run and its pause is over; call this often."""
        if self._process is None:
            if time.monotonic() >= self._not_before:
                self._start()
            return
        code = self._process.poll()
        if code is not None:
            self._mourn(code)

    def signal(self, number: int) -> None:
        """Send it a signal if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def end(self) -> None:
        """Ask it to end, then end its whole group."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("%s did not end in %.0f s: killed", self._name, END_SECONDS)
        self._kill_group()

    def _start(self) -> None:
        self._before()
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, start_new_session=True)
        self._began = time.monotonic()
        self._note.write_text(str(self._process.pid))

    def _mourn(self, code: int) -> None:
        """Clear up after a child that died by itself, and set when it is started again."""
        self._kill_group()
        lived = time.monotonic() - self._began
        self._pause = FIRST_PAUSE_SECONDS if lived > LONG_LIFE_SECONDS else self._pause
        log.warning("%s ended (exit %d) after %.1f s; again in %.1f s", self._name, code, lived, self._pause)
        self._not_before = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)

    def _kill_group(self) -> None:
        """Kill what is left of the group: nginx's workers outlive a killed master and keep its ports."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None


def end_leftovers(note: Path) -> tuple[int, ...]:
    """Kill what is left of the child noted in `note`, and return the process ids.

    A killed web leaves its children a moment: the kernel has asked them to end, but a server that ends in order
    removes its socket on the way, which may be the new one's by then. Only processes that work in our own
    current folder are ours: the number may be another's by now.
    """
    try:
        session = int(note.read_text())
    except (OSError, ValueError):
        return ()
    found = _members(session)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + END_SECONDS
    while _members(session) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    note.unlink(missing_ok=True)
    return found


def _members(session: int) -> tuple[int, ...]:
    """Return the processes of a session that work in our current folder."""
    numbers = (int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit())
    return tuple(pid for pid in numbers if _is_member(pid, session))


def _is_member(pid: int, session: int) -> bool:
    try:
        state, _, _, its, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(its) == session and state != "Z" and Path(f"/proc/{pid}/cwd").samefile(".")
    except OSError:
        return False
