"""The appliance in the background: started by `up`, found again by its pid file, ended by `down`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from bootstrap.environment import ROOT
from bootstrap.errors import ServeError
from bootstrap.operator import Operator
from bootstrap.processes import end, is_gone, running_pid, start_detached, wait_until
from bootstrap.serve import remove_runtime
from bootstrap.workplace import Workplace

READY_SECONDS = 90.0
END_SECONDS = 30.0  # web and pxe get 10 seconds each from serve
LAST_LINES = 15
SERVE = ("deploy.py ", " serve ")  # with the blank: `k3s server` may have our old pid after a reboot


def pid_of(place: Workplace) -> int | None:
    """Return the pid of the running appliance, or None."""
    return running_pid(place.serve_pid, *SERVE)


def start(place: Workplace, configs: Sequence[Path]) -> None:
    """Start `serve` in the background and return when the appliance is ready.

    Raises:
        ServeError: it ended, or was not ready in time; the text holds the last lines of its log.
    """
    options = [word for path in configs for word in ("--config", str(path.resolve()))]
    argv = [sys.executable, str(ROOT / "deploy.py"), *options, "--deploy", str(place.deploy), "serve"]
    pid = start_detached(argv, place.serve_log)
    place.serve_pid.write_text(str(pid))
    operator = Operator(place.work)
    if wait_until(lambda: operator.is_ready() or is_gone(pid), READY_SECONDS) and operator.is_ready():
        return
    stop(place)
    raise ServeError(
        f"the appliance did not start; the end of {place.serve_log}:\n{last_lines(place.serve_log)}"
    )


def stop(place: Workplace) -> bool:
    """End the appliance and whatever a killed one left; return whether anything ran."""
    found = False
    folder = f" --work {place.work} "
    parts = (("serve", SERVE), ("pxe", (" -m pxe ", folder)), ("web", (" -m web ", folder)))
    for name, needles in parts:
        pid_file = place.work / "run" / f"{name}.pid"
        pid = running_pid(pid_file, *needles)
        if pid is not None:
            found = True
            end(pid, patience_seconds=END_SECONDS)
        pid_file.unlink(missing_ok=True)
    remove_runtime(place.runtime)
    return found


def last_lines(log: Path) -> str:
    """Return the end of a log, or why it cannot be read."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-LAST_LINES:])
    except OSError as error:
        return str(error)
