"""The appliance in the background: started by `up`, found again by its pid file, ended by `down`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from bootstrap.environment import ROOT
from bootstrap.errors import ServeError
from bootstrap.operator import Operator
from bootstrap.processes import end, is_answering_dhcp, is_gone, running_pid, start_detached, wait_until
from bootstrap.serve import end_parts, remove_runtime
from bootstrap.workplace import Workplace

READY_SECONDS = 130.0  # web, then pxe
END_SECONDS = 90.0  # web and pxe get up to 30 seconds each from serve
LAST_LINES = 15
SERVE = ("deploy.py ", " serve ")  # with the blank: `k3s server` may have our old pid after a reboot


def pid_of(place: Workplace) -> int | None:
    """Return the pid of the running appliance, or None."""
    return running_pid(place.serve_pid, *SERVE)


def start(place: Workplace, configs: Sequence[Path]) -> None:
    """Start `serve` in the background and return when the appliance is ready.

    Raises:
        ServeError: it ended, or was not ready in time; the text holds the last lines of its log. Or the parts of
            a killed one could not be ended.
    """
    options = [word for path in configs for word in ("--config", str(path.resolve()))]
    argv = [sys.executable, str(ROOT / "deploy.py"), *options, "--deploy", str(place.deploy), "serve"]
    log_before = place.serve_log.stat().st_size if place.serve_log.exists() else 0
    # What a killed appliance has left may answer a moment longer, and is not the one that is started here.
    end_parts(place)
    pid = start_detached(argv, place.serve_log)
    place.serve_pid.write_text(str(pid))
    operator = Operator(place.work)

    def is_ready() -> bool:
        return operator.is_ready() and is_answering_dhcp(place.work)

    # Asked once: a part that dies and comes back right after the first yes is no reason to take everything down.
    if wait_until(lambda: is_gone(pid) or is_ready(), READY_SECONDS) and not is_gone(pid):
        return
    stop(place)
    raise ServeError(
        f"the appliance did not start; from {place.serve_log}:\n{last_lines(place.serve_log, start=log_before)}"
    )


def stop(place: Workplace) -> bool:
    """End the appliance and whatever a killed one left; return whether anything ran."""
    pid = pid_of(place)
    if pid is not None:
        end(pid, patience_seconds=END_SECONDS)
    place.serve_pid.unlink(missing_ok=True)
    had_parts = end_parts(place)
    remove_runtime(place.runtime)
    return pid is not None or had_parts


def last_lines(log: Path, *, start: int = 0) -> str:
    """Return the last lines of a log from byte `start` on, or why it cannot be read."""
    try:
        text = log.read_bytes()[start:].decode(errors="replace")
        return "\n".join(text.splitlines()[-LAST_LINES:])
    except OSError as error:
        return str(error)
