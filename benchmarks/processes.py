"""Whole processes: how long one takes, how much memory, and how much processor time a tree of them has used."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")
PATIENCE_SECONDS = 600


@dataclass(frozen=True)
class Ended:
    """What a process took: seconds on the clock and of the processor, and its largest memory in MiB."""

    seconds: float
    processor: float
    mebibytes: float


def run(command: Sequence[str], *, env: Mapping[str, str] | None = None) -> Ended:
    """Run a command that must succeed.

    Raises:
        RuntimeError: it failed; the text holds what it said.
    """
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env) as process:
        said = process.stderr.read() if process.stderr else b""
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {process.returncode}: {said.decode()[-2000:]}")
    return Ended(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def quickest(command: Sequence[str], times: int) -> Ended:
    """Return the run that took the least of the processor: what others do to the machine only adds."""
    return min((run(command) for _ in range(times)), key=lambda ended: ended.processor)


def descendants(pid: int) -> list[int]:
    """Return `pid` and all that descend from it."""
    tasks = Path(f"/proc/{pid}/task")
    direct = [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
    return [pid, *(deep for child in direct for deep in descendants(child))]


def processor_seconds(pid: int) -> float:
    """Return the processor time of `pid` and all that descend from it, in steps of a clock tick."""
    return sum(_ticks(each) for each in descendants(pid)) * TICK


def _ticks(pid: int) -> int:
    # After the name in brackets, which may hold blanks: utime and stime are the 12th and 13th field (proc(5)).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
