"""Long-running processes known by a pid file: started, found again, and ended by pid, never by name."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

POLL_SECONDS = 0.1


def running_pid(pid_file: Path, *needles: str) -> int | None:
    """Return the pid in `pid_file` if that process lives and has all `needles` in its command line.

    The words of the command line are joined, and ended, by a blank. A pid file survives its process, and the
    kernel hands the number to someone else: hence the needles.
    """
    try:
        pid = int(pid_file.read_text())
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (OSError, ValueError):
        return None
    return pid if status != "Z" and all(needle in command for needle in needles) else None


def is_answering_dhcp(work: Path) -> bool:
    """Return whether a pxe that lives says that its dnsmasq serves: a killed one leaves `pxe.ready`, not `pxe.pid`."""
    try:
        owner, ready = ((work / "run" / name).read_text() for name in ("pxe.pid", "pxe.ready"))
    except OSError:
        return False
    return owner == ready


def start_detached(argv: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> int:
    """Start `argv` in a session of its own with its output appended to `log`; return its pid."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    return process.pid


def end(pid: int, *, patience_seconds: float) -> None:
    """Ask `pid` to end; kill it if it has not after `patience_seconds`. One that is gone is fine."""
    try:
        os.kill(pid, signal.SIGTERM)
        if not wait_until(lambda: is_gone(pid), patience_seconds):
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: is_gone(pid), patience_seconds)
    except ProcessLookupError:
        return


def is_gone(pid: int) -> bool:
    """Return whether no process has this pid (our own ended children are reaped on the way)."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return status == "Z"


def wait_until(question: Callable[[], bool], timeout_seconds: float) -> bool:
    """Ask `question` until it says yes or the time is over; return its last answer."""
    deadline = time.monotonic() + timeout_seconds
    while not question():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
