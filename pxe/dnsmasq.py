"""One dnsmasq as a child process: started in the foreground, read, ended, and never left behind."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bootstrap.errors import PreflightError
from pxe import ports, urgent

CONF = "bundle/pxe/dnsmasq.conf"  # below the work folder
# dnsmasq waits for a reader of its log, and loses lines: the first has room for the 8,000 packets of 4,000 machines;
# one that may not have it (no CAP_SYS_RESOURCE) takes what /proc/sys/fs/pipe-max-size usually allows.
PIPE_BYTES = (16 << 20, 1 << 20)
GATHER_SECONDS = 0.02  # a reader that is woken by each line would cost dnsmasq the processor
LONGEST_LINE_BYTES = 4096
END_SECONDS = 3.0
POLL_SECONDS = 0.05
_READ_BYTES = 1 << 14  # what is read and not yet in the journal of leases is lost when we are killed


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
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + END_SECONDS
        while time.monotonic() < deadline and _any_lives(pids):
            time.sleep(POLL_SECONDS)
        if not _any_lives(pids):
            break
    return pids


def _any_lives(pids: Sequence[int]) -> bool:
    return any(ports.arguments_of(pid) for pid in pids)


class Dnsmasq:
    """A running dnsmasq; `output` and `ended` are descriptors to poll (its log; its end)."""

    def __init__(self, argv: Sequence[str], work: Path) -> None:
        self.output, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.output, False)
        _widen(self.output)
        try:
            # A session of its own: Ctrl-C in a terminal is for us, who then end dnsmasq in order.
            self._process = subprocess.Popen(
                argv,
                cwd=work,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                start_new_session=True,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            )
        finally:
            os.close(writer)
        self.ended = os.pidfd_open(self._process.pid)
        self._guard = _guard(self._process.pid)
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
        time.sleep(GATHER_SECONDS)
        while chunk := self._read():
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            self._rest = self._rest[:LONGEST_LINE_BYTES]
            for line in lines:
                yield line[:LONGEST_LINE_BYTES].decode(errors="replace")

    def _read(self) -> bytes:
        try:
            return os.read(self.output, _READ_BYTES)
        except BlockingIOError:
            return b""

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
        for descriptor in (self.output, self.ended):
            os.close(descriptor)
        return code, time.monotonic() - self._began


def _widen(pipe: int) -> None:
    for size in PIPE_BYTES:
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, size)
            return


def _guard(pid: int) -> subprocess.Popen[bytes]:
    """Start a shell that ends `pid` when this process is gone, however it went.

    The kernel's own way, PR_SET_PDEATHSIG, is cleared when dnsmasq gives up root. The shell reads a pipe that
    only we hold open: it ends with us.
    """
    return subprocess.Popen(
        ("/bin/sh", "-c", 'read -r _; kill -TERM "$1"', "firstlight-pxe-guard", str(pid)),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
