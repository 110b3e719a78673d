"""The one door to the OpenSSH client: known hosts only, one connection per host, errors that say what to do.

In a real rack the operator's own ~/.ssh/config, keys and agent are used, so that jump hosts and hardware keys work.
In the lab, where `Way.key` is set, they are not: they lead out of it.
"""

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from bootstrap import host_errors
from bootstrap.disk import write_file
from bootstrap.errors import HostError, PreflightError
from bootstrap.host_errors import UnknownKey, fingerprint
from bootstrap.model.kubernetes import Host
from bootstrap.processes import is_gone

CONNECT_SECONDS = 10
ALIVE_SECONDS = 5  # asked this often whether the other side is still there ...
ALIVE_COUNT = 3  # ... and given up after so many questions without an answer
IDLE_SECONDS = 15  # a connection that nobody uses ends after this: also that of a deploy.py that was killed
END_SECONDS = 5.0
SSH_FAILED = 255  # ssh(1), EXIT STATUS
LONGEST_RUN_FOLDER = 60  # bytes; a socket below it, with the suffix ssh gives it, must fit in 108 (unix(7))

_KEY = re.compile(r"(ssh-[a-z0-9-]+|ecdsa-sha2-[a-z0-9-]+|sk-[a-z0-9@.-]+) [A-Za-z0-9+/=]+")


@dataclass(frozen=True)
class Way:
    """How hosts are reached.

    `known` is the folder where host keys are written down (`<host>.pub`). `wrap` puts a command onto the hosts'
    network. `key` is the one private key to use; without it the operator's own SSH configuration decides.
    """

    known: Path
    wrap: Callable[[Sequence[str]], Sequence[str]] = tuple
    key: Path | None = None


@dataclass(frozen=True)
class Result:
    """How a remote command ended: its exit code, all of its stdout, and its stderr as text."""

    code: int
    stdout: bytes
    stderr: str


def key_file(way: Way, host: Host) -> Path:
    """Return where the host key of `host` is written down when the configuration has none."""
    return way.known / f"{host.name}.pub"


def known_key(way: Way, host: Host) -> str | None:
    """Return type and key of `host` in one line: the configuration's, else the one written down; None if neither."""
    text = host.host_key or ""
    if not text and key_file(way, host).is_file():
        text = key_file(way, host).read_text()
    match = _KEY.match(text.strip())
    return match[0] if match else None


def remember(way: Way, host: Host, key: str) -> None:
    """Write down the key of `host`, for all runs to come."""
    way.known.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(key_file(way, host), f"{key}\n".encode(), 0o600)


class Connections:
    """One connection to each host for the time of a `with`; nothing of it is left afterwards."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._folder = Path()
        self._used: set[str] = set()

    def __enter__(self) -> Self:
        self._folder = _run_folder()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in sorted(self._used):
            self._end(name)
        shutil.rmtree(self._folder, ignore_errors=True)

    def first_use(self, host: Host, ask: Callable[[str], bool] | None) -> None:
        """Have the key of `host` known: asked for with `ask` (none: there is nobody to ask), and written down.

        Raises:
            UnknownKey: it is not known and nobody said yes; the text holds the line for config.yaml.
            HostError: the host cannot be reached.
        """
        if known_key(self._way, host) is not None:
            return
        offered = self._offered_key(host)
        question = f"host {host.name} ({host.address}) shows the key {fingerprint(offered)}; is that its own?"
        if ask is None or not ask(question):
            raise UnknownKey(host.name, host_errors.unknown_key(host, offered))
        remember(self._way, host, offered)

    def run(
        self,
        host: Host,
        argv: Sequence[str],
        *,
        what: str,
        timeout: float,
        stdin: Iterable[bytes] = (),
    ) -> Result:
        """Run `argv` on `host` with the bytes of `stdin`, and return how it ended, well or not.

        `what` says in an error what was being done; `timeout` is in seconds, for all of it.

        Raises:
            HostError: the connection could not be made or broke, or the time was over.
        """
        with (
            tempfile.TemporaryFile(dir=self._folder) as out,
            tempfile.TemporaryFile(dir=self._folder) as err,
            self._popen(host, argv, stdin=subprocess.PIPE, stdout=out, stderr=err) as process,
            _Deadline(process, timeout) as deadline,
        ):
            _feed(process, stdin)
            code = process.wait()
            result = Result(code, _all_of(out), _all_of(err).decode(errors="replace"))
        if deadline.is_over:
            raise host_errors.TimedOut(host.name, host_errors.timed_out(host, what, timeout))
        if code == SSH_FAILED:
            raise self._why(host, result.stderr)
        return result

    def start(self, host: Host, argv: Sequence[str], errors: Path) -> "subprocess.Popen[bytes]":
        """Start `argv` on `host` with pipes for stdin and stdout; what goes wrong is written to `errors`.

        Whoever calls ends it, by closing its stdin.
        """
        with errors.open("wb") as stderr:
            return self._popen(host, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)

    def failure(self, host: Host, errors: Path) -> HostError:
        """Return why a command that `start` began has no connection."""
        return self._why(host, errors.read_text(errors="replace"))

    def dial(self, host: Host, address: str, port: int) -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
        """Return a connection to `address`:`port` as seen from `host`, and the process that carries it.

        The address may be one that only `host` itself can reach, such as 127.0.0.1. Ended by closing the socket.
        """
        ours, theirs = socket.socketpair()
        argv = (*self._argv(host), "-W", f"{address}:{port}", _login(host))
        with theirs:
            process = subprocess.Popen(
                self._way.wrap(argv), stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL
            )
        return ours, process

    @property
    def folder(self) -> Path:
        """Return the private folder of this run; it goes away with it."""
        return self._folder

    def _popen(
        self, host: Host, argv: Sequence[str], *, stdin: int, stdout: int | IO[bytes], stderr: IO[bytes]
    ) -> "subprocess.Popen[bytes]":
        command = ("LC_ALL=C sudo -n -- " if host.user != "root" else "") + shlex.join(argv)
        full = self._way.wrap((*self._argv(host), _login(host), "--", command))
        try:
            return subprocess.Popen(full, stdin=stdin, stdout=stdout, stderr=stderr)
        except FileNotFoundError as error:
            raise PreflightError(
                f"{error.filename} is not installed; as root: apt-get install openssh-client"
            ) from error

    def _argv(self, host: Host) -> tuple[str, ...]:
        """Return the client with all that is ours to decide; the rest is the operator's own configuration."""
        known = self._folder / f"{host.name}.known"
        key = known_key(self._way, host)
        known.write_text(f"{host.name} {key}\n" if key else "")
        self._used.add(host.name)
        return (
            *_client(self._way, host),
            *_options(StrictHostKeyChecking="yes", UserKnownHostsFile=f'"{known}"'),
            *(_options(HostKeyAlgorithms=_algorithms(key)) if key else ()),
            *_options(ControlMaster="auto", ControlPersist=str(IDLE_SECONDS)),
            *_options(ControlPath=f'"{self._socket(host.name)}"'),
        )  # fmt: skip

    def _offered_key(self, host: Host) -> str:
        """Return the key that `host` shows to a stranger; nobody logs in for it."""
        found = self._folder / f"{host.name}.offered"
        argv = (
            *_client(self._way, host),
            *_options(StrictHostKeyChecking="accept-new", UserKnownHostsFile=f'"{found}"', HashKnownHosts="no"),
            *_options(PreferredAuthentications="none", ControlPath="none"),
            _login(host),
            "true",
        )  # fmt: skip
        done = subprocess.run(
            self._way.wrap(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=6 * CONNECT_SECONDS,
            check=False,
        )
        line = found.read_text().strip() if found.exists() else ""
        match = _KEY.search(line)
        if match is None:
            raise host_errors.from_ssh(host, done.stderr.decode(errors="replace"))
        return match[0]

    def _why(self, host: Host, stderr: str) -> HostError:
        """Return the error that the client's `stderr` tells of; of a changed key with both fingerprints."""
        key = known_key(self._way, host)
        if key is None or not host_errors.is_key_trouble(stderr):
            return host_errors.from_ssh(host, stderr)
        known = host_errors.Known(key, None if host.host_key else key_file(self._way, host))
        try:
            return host_errors.key_changed(host, known, self._offered_key(host))
        except HostError:
            return host_errors.key_changed(host, known, None)

    def _socket(self, name: str) -> Path:
        return self._folder / hashlib.sha256(name.encode()).hexdigest()[:8]

    def _end(self, name: str) -> None:
        if not self._socket(name).exists():
            return
        argv = ("ssh", "-F", "none", "-o", f'ControlPath="{self._socket(name)}"', "-O", "exit", name)
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=END_SECONDS, check=False
            )


def _client(way: Way, host: Host) -> tuple[str, ...]:
    own = ("-F", "none", "-i", str(way.key), *_options(IdentitiesOnly="yes")) if way.key else ()
    return (
        "ssh",
        *own,
        "-T",
        *("-p", str(host.port)),
        *_options(
            BatchMode="yes",
            CheckHostIP="no",
            ConnectTimeout=str(CONNECT_SECONDS),
            ConnectionAttempts="1",
            ForwardAgent="no",
            ForwardX11="no",
            GlobalKnownHostsFile="/dev/null",
            HostKeyAlias=host.name,
            LogLevel="ERROR",
            PermitLocalCommand="no",
            RemoteCommand="none",
            RequestTTY="no",
            ServerAliveCountMax=str(ALIVE_COUNT),
            ServerAliveInterval=str(ALIVE_SECONDS),
            UpdateHostKeys="no",
            VerifyHostKeyDNS="no",
        ),
    )


def _options(**options: str) -> tuple[str, ...]:
    return tuple(word for name, value in options.items() for word in ("-o", f"{name}={value}"))


def _login(host: Host) -> str:
    return f"{host.user}@{host.address}"


def _algorithms(key: str) -> str:
    """Return the algorithms of the known key alone: a host that has it must show it (RFC 8332 for RSA)."""
    kind = key.split(maxsplit=1)[0]
    return "rsa-sha2-512,rsa-sha2-256" if kind == "ssh-rsa" else kind


def _run_folder() -> Path:
    """Make a folder for sockets, for its owner alone, with a name that is short enough."""
    places = (Path(os.environ.get("XDG_RUNTIME_DIR") or "/run"), Path(tempfile.gettempdir()), Path("/tmp"))  # noqa: S108  # mkdtemp makes it private
    for place in places:
        if len(bytes(place)) < LONGEST_RUN_FOLDER and os.access(place, os.W_OK):
            _sweep(place)
            return Path(tempfile.mkdtemp(prefix=f"fl-{os.getpid()}-", dir=place))
    raise PreflightError(
        f"no folder for sockets: none of {', '.join(map(str, places))} is writable and short"
    )


def _sweep(place: Path) -> None:
    """Remove the folders of our runs that were killed; their connections end by themselves (IDLE_SECONDS)."""
    for folder in place.glob("fl-*-*"):
        pid = folder.name.split("-")[1]
        with contextlib.suppress(OSError):
            if pid.isdigit() and folder.stat().st_uid == os.getuid() and is_gone(int(pid)):
                shutil.rmtree(folder)


class _Deadline:
    """Kills a process when its time is over; `is_over` says whether it had to."""

    def __init__(self, process: "subprocess.Popen[bytes]", seconds: float) -> None:
        self._process = process
        self._timer = threading.Timer(seconds, self._kill)
        self.is_over = False

    def __enter__(self) -> Self:
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._process.poll() is None:
            self._process.kill()

    def _kill(self) -> None:
        self.is_over = True
        self._process.kill()


def _feed(process: "subprocess.Popen[bytes]", chunks: Iterable[bytes]) -> None:
    """Write everything to the command's stdin; one that ends early has said why on its stdout."""
    assert process.stdin is not None  # noqa: S101  # it was opened as a pipe
    with contextlib.suppress(BrokenPipeError):
        try:
            for chunk in chunks:
                process.stdin.write(chunk)
        finally:
            process.stdin.close()


def _all_of(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()
