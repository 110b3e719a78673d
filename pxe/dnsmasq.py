"""One dnsmasq as a child process: started in the foreground, read, ended, and never left behind."""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bootstrap.errors import PreflightError
from pxe import ports, urgent
from pxe.guard import guard
from pxe.pipe import Pipe

CONF = "bundle/pxe/dnsmasq.conf"  # below the work folder
LONGEST_LINE_BYTES = 4096
END_SECONDS = 3.0
POLL_SECONDS = 0.05


def hosts_file(runtime: Path) -> Path:
    """Return the file from which dnsmasq learns, as it starts, which addresses unlisted machines hold."""
    return runtime / "dnsmasq.hosts"


def hosts_argument(runtime: Path) -> str:
    """Return the argument that tells this cluster's dnsmasq from all others."""
    return f"--dhcp-hostsfile={hosts_file(runtime)}"


def command(runtime: Path) -> tuple[str, ...]:
    """Return the command line of dnsmasq; it wants the work folder as its current folder.

    Raises:
        PreflightError: dnsmasq is not installed.
    """
    binary = shutil.which("dnsmasq", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if binary is None:
        raise PreflightError("dnsmasq is not installed; install it: apt-get install dnsmasq-base")
    return (
        binary,
        "--keep-in-foreground",
        f"--conf-file={CONF}",
        f"--tftp-root={runtime}/tftp",
        hosts_argument(runtime),
        "--log-facility=-",
        "--pid-file=",
    )


def end_leftovers(runtime: Path) -> tuple[int, ...]:
    """End the dnsmasq processes that a killed predecessor left for this runtime folder; return their pids."""
    pids = ports.processes_with(hosts_argument(runtime))
    end_all(pids)
    return pids


def end_all(pids: Sequence[int]) -> None:
    """End these processes, by SIGKILL if SIGTERM does not do it; one that is gone is fine."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + END_SECONDS
        while time.monotonic() < deadline and _any_lives(pids):
            time.sleep(POLL_SECONDS)
        if not _any_lives(pids):
            break


def _any_lives(pids: Sequence[int]) -> bool:
    return any(ports.arguments_of(pid) for pid in pids)


class Dnsmasq:
    """A running dnsmasq; `output` and `ended` are descriptors to poll (its log; its end)."""

    def __init__(
        self, argv: Sequence[str], work: Path, first: Callable[[bytes], None] = lambda _: None
    ) -> None:
        self._pipe = Pipe(first)
        self.output = self._pipe.output
        try:
            # A session of its own: Ctrl-C in a terminal is for us, who then end dnsmasq in order.
            self._process = subprocess.Popen(
                argv,
                cwd=work,
                stdin=subprocess.DEVNULL,
                stdout=self._pipe.writer,
                stderr=self._pipe.writer,
                start_new_session=True,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            )
        finally:
            self._pipe.start()
        self.ended = os.pidfd_open(self._process.pid)
        self._guard = guard(self._process.pid)
        urgent.prefer(self._process.pid)
        urgent.prefer_session(self._process.pid)  # its own: start_new_session
        self._began = time.monotonic()
        self._rest = b""

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    def lines(self) -> Iterator[str]:
        """Yield the lines that it has written since the last call; an overlong one is cut."""
        if self._is_gone():
            self._pipe.wait_for_end()
        while chunk := self._pipe.take():
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            self._rest = self._rest[:LONGEST_LINE_BYTES]
            for line in lines:
                yield line[:LONGEST_LINE_BYTES].decode(errors="replace")

    def _is_gone(self) -> bool:
        return bool(select.select([self.ended], [], [], 0)[0])

    def read_hosts(self) -> None:
        """Have it read `hosts_file` again. It survives this (SIGHUP) as long as no line there sets a tag."""
        self._process.send_signal(signal.SIGHUP)

    def ask_to_end(self) -> None:
        """Send SIGTERM; one that is gone is fine."""
        self._process.terminate()

    def reap(self) -> tuple[int, float]:
        """Kill what still runs; return the exit status (negative: the signal) and how many seconds it ran."""
        self._process.kill()
        # Before dnsmasq's number is free for others, so that the guard can never mean someone else.
        self._guard.kill()
        self._guard.communicate()  # closes its pipe and waits
        code = self._process.wait()
        self._pipe.wait_for_end()
        self._pipe.close()
        os.close(self.ended)
        return code, time.monotonic() - self._began
