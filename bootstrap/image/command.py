"""Runs the programs that build an image, and leaves none behind when the build is cut."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

from bootstrap.errors import ImageError

# What runs behind these words has mounts and processes of its own: they end with it, also when we are killed, and no
# mount of it (the new root's /proc, /sys, /dev) is ever seen, let alone emptied, from outside.
APART = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"),
)
# mmdebstrap unmounts and removes its folder when told to stop; slow disks need this long.
STOP_SECONDS = 30
TAIL_LINES = 15


def run(
    argv: tuple[str, ...],
    *,
    env: Mapping[str, str] | None = None,
    apart: tuple[str, ...] = (),
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Run `argv` to its end, in a process group of its own that is ended if we are interrupted.

    `apart` are the words before it, as APART; `on_line` sees each line it prints. Raises ImageError with the
    last lines when it fails.
    """
    tail: list[str] = []
    with started((*apart, *argv), env=env) as process:
        for line in process.stdout or ():
            tail = [*tail, line.rstrip()][-TAIL_LINES:]
            if on_line is not None:
                on_line(line.rstrip())
        status = process.wait()
    if status != 0:
        raise ImageError(f"{argv[0]} failed (status {status}):\n" + "\n".join(tail))


@contextlib.contextmanager
def started(
    argv: tuple[str, ...], *, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start `argv` in a process group of its own; whatever ends the block early ends the whole group."""
    try:
        process = subprocess.Popen(
            argv,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise ImageError(f"{argv[0]} is not installed") from error
    with process:
        try:
            yield process
        except BaseException:
            stop(process)
            raise


def stop(process: subprocess.Popen[str]) -> None:
    """End the process group of `process`: politely, then not."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            # What it still has to say is thrown away, so that it cannot block on a full pipe.
            process.communicate(timeout=STOP_SECONDS)
            return


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM into an exception within the block, so that what we started is ended and cleared."""

    def leave(number: int, frame: FrameType | None) -> None:
        del frame
        raise SystemExit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:
        # Only the main thread may set handlers; another thread's owner answers for signals.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
