"""The second TFTP server, in.tftpd of tftp-hpa: one process for each way of speaking TFTP that dnsmasq has not.

It takes requests as root and reads none as root: each one is a process of its own, which becomes nobody first. It
writes to syslog alone; what it sends is seen on the wire (pxe/transfers.py).
"""

import contextlib
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from bootstrap.errors import PreflightError
from bootstrap.model import MachineTftp
from pxe import ports
from pxe.dnsmasq import end_all
from pxe.guard import guard_session
from pxe.transfers import OWN_PORTS, PLAIN_BLOCK

log = logging.getLogger("pxe")

PROGRAM = "in.tftpd"
USER = "nobody"
FIRST_PORT = 20_000
SINGLE_MORE = 2_000
USUAL_PORTS, SINGLE_PORTS = (OWN_PORTS[0], 24_499), (24_500, OWN_PORTS[1])
START_SECONDS, END_SECONDS, POLL_SECONDS = 3.0, 2.0, 0.05
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 10.0
_QUESTION = b"\0\1firstlight-are-you-there\0octet\0"
_BLOCK_OPTIONS = ("blksize", "blksize2")
_OPTIONS = (*_BLOCK_OPTIONS, "tsize", "timeout", "utimeout", "rollover")
_NEWER_OPTIONS = ("windowsize",)  # tftp-hpa of 2024 and later; RFC 7440


@dataclass(frozen=True, order=True, kw_only=True)
class Way:
    """A way of speaking TFTP: blocks of at most so many bytes (0: no option is answered), all by port 69 or not."""

    block: int = 0
    is_single: bool = False

    @property
    def port(self) -> int:
        """Return the port on which requests for it are taken."""
        return FIRST_PORT + self.block + SINGLE_MORE * self.is_single

    def __str__(self) -> str:
        """Return it for people, after the name of a file."""
        blocks = f"in blocks of at most {self.block} bytes" if self.block else "without options"
        return f"{blocks}, from port 69" if self.is_single else blocks


NO_OPTIONS = Way()


def way_of(tftp: MachineTftp, usual_block: int) -> Way | None:
    """Return the way that the configuration asks for, None if it is dnsmasq's own; pure."""
    if tftp.options == "none":
        return Way(is_single=tftp.single_port)
    block = tftp.max_block_size or usual_block
    is_usual = block == usual_block and not tftp.single_port
    return None if is_usual else Way(block=block, is_single=tftp.single_port)


def arguments(
    way: Way, address: IPv4Address, root: Path, rules: Path, refusable: Sequence[str]
) -> tuple[str, ...]:
    """Return the arguments of an in.tftpd that sends the files below `root` in this `way`; pure.

    `refusable` are the options that it knows how to refuse; `rules` is the file with `rules_text`.
    """
    first, last = SINGLE_PORTS if way.is_single else USUAL_PORTS
    refused = refusable if not way.block else _BLOCK_OPTIONS if way.block == PLAIN_BLOCK else ()
    return (
        "--foreground",
        "--ipv4",
        f"--address={address}:{way.port}",
        f"--user={USER}",
        f"--map-file={rules}",
        f"--port-range={first}:{last}",
        *(f"--refuse={option}" for option in refused),
        *((f"--blocksize={way.block}",) if way.block else ()),
        f"{root}/",
    )


def rules_text(root: Path) -> str:
    """Return the one rule for names: all of them are below `root`, as dnsmasq takes them; pure.

    Its own way to do so is chroot(2), a right that the container has not.
    """
    escaped = re.sub(r"([\\#\s])", r"\\\1", str(root))
    return f"r ^/* {escaped}/\n"


def program() -> str | None:
    """Return where in.tftpd is, or None."""
    return shutil.which(PROGRAM, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def refusable_by(binary: str) -> tuple[str, ...]:
    """Return the TFTP options that this in.tftpd knows how to refuse."""
    asked = [binary, *(f"--refuse={option}" for option in _NEWER_OPTIONS), "--version"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            asked, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=START_SECONDS
        )
        if done.returncode == 0:  # else sysexits.h's EX_USAGE: it does not know an option by that name
            return (*_OPTIONS, *_NEWER_OPTIONS)
    return _OPTIONS


class Servers:
    """The processes of in.tftpd, each started again when it ends."""

    def __init__(self, address: IPv4Address, runtime: Path) -> None:
        self._address = address
        self._root, self._rules = runtime / "tftp", runtime / "tftp.rules"
        self._keepers: list[_Keeper] = []

    def end_leftovers(self) -> None:
        """End those that a killed pxe left behind."""
        end_all(ports.processes_with(f"--map-file={self._rules}", PROGRAM))

    def start(self, ways: Iterable[Way]) -> None:
        """Start one for each of `ways` and wait until they serve.

        Raises:
            PreflightError: in.tftpd is not installed, or one does not serve.
        """
        binary = program()
        if binary is None:
            raise PreflightError("in.tftpd is not installed; install it: apt-get install tftpd-hpa")
        self._rules.write_text(rules_text(self._root))
        self._rules.chmod(0o644)
        refusable = refusable_by(binary)
        for way in sorted(set(ways)):
            argv = (binary, *arguments(way, self._address, self._root, self._rules, refusable))
            self._keepers.append(_Keeper(argv, way.port))
        for keeper in self._keepers:
            keeper.await_port()
        for way in sorted(set(ways)):
            if not _answers(self._address, way.port):
                raise PreflightError(
                    f"in.tftpd on UDP port {way.port} answers nobody; that of Debian 13 does not"
                )

    def stop(self) -> None:
        """End all of them, with the transfers under way."""
        for keeper in self._keepers:
            keeper.stop()
        self._keepers.clear()


class _Keeper:
    """Keeps one in.tftpd running on `port`, from a thread of its own, until `stop`."""

    def __init__(self, argv: Sequence[str], port: int) -> None:
        self._argv, self._port = argv, port
        self._end = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"tftpd-{port}", daemon=True)
        self._thread.start()

    def await_port(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not _is_bound(self._port):
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise PreflightError(
                    f"in.tftpd does not serve on UDP port {self._port}: journalctl -t in.tftpd"
                )
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        self._end.set()
        with self._lock:
            if self._process is not None:
                _end_group(self._process.pid, signal.SIGTERM)
        self._thread.join(END_SECONDS)

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._end.is_set():
            begun = time.monotonic()
            try:
                code = self._run_once()
            except OSError as error:
                code = error.errno or 1
            if self._end.is_set():
                return
            pause = FIRST_PAUSE_SECONDS if time.monotonic() - begun > LONGEST_PAUSE_SECONDS else 2 * pause
            log.warning("%s on port %d ended with status %d; starting it again", PROGRAM, self._port, code)
            self._end.wait(min(pause, LONGEST_PAUSE_SECONDS))

    def _run_once(self) -> int:
        with self._lock:
            if self._end.is_set():
                return 0
            self._process = process = _started(self._argv)
        watcher = guard_session(process.pid)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        # Before its number is free for others: its transfers, of which a new one would not know, and the guard.
        with self._lock:
            self._process = None
            _end_group(process.pid, signal.SIGKILL)
        watcher.kill()
        watcher.communicate()
        return process.wait()


def _started(argv: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
    )


def _end_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _answers(address: IPv4Address, port: int) -> bool:
    """Return whether a request gets any answer: in.tftpd 5.2+20240610-3 of Debian 13 takes them and gives none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(START_SECONDS)
        try:
            sock.bind((str(address), 0))
            sock.sendto(_QUESTION, (str(address), port))
            return bool(sock.recv(PLAIN_BLOCK))
        except OSError:  # a timeout is one
            return False


def _is_bound(port: int) -> bool:
    table = ports.PROC / "self" / "net" / "udp"
    return table.exists() and bool(ports.inodes_of(table.read_text(), (port,)))
