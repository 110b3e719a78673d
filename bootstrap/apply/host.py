"""One control-plane host at the other end of an SSH connection, asked and changed by `configs/hosts/apply`."""

import secrets
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bootstrap import host_errors
from bootstrap.apply.diffs import is_shown
from bootstrap.apply.facts import Facts, Said, facts_from, lines_of
from bootstrap.apply.manifest import FILE, JOURNAL, sha256_of
from bootstrap.apply.plan import Put
from bootstrap.apply.tar import size_of, tar
from bootstrap.environment import ROOT
from bootstrap.errors import HostError, printable
from bootstrap.host_errors import AGAIN, StepFailed
from bootstrap.kubernetes.tree import HostFile, HostTree
from bootstrap.model.kubernetes import Host
from bootstrap.ssh import Connections, Result

SCRIPT = ROOT / "configs" / "hosts" / "apply"
SIGN_SECONDS = 5.0  # how often a host hears that we still live; it gives up a run after 30 without
END_SECONDS = 5.0
REFUSED = 10
SLOWEST_BYTES = 1024 * 1024  # per second


@dataclass(frozen=True)
class Deadlines:
    """How long a host may take, in seconds: to look (it reads every file of ours), to put files, to turn units."""

    look: float = 120.0
    put: float = 120.0
    units: float = 300.0


@cache
def script() -> bytes:
    """Return the script that every call streams."""
    return SCRIPT.read_bytes()


class RemoteHost:
    """A host; `identity` is the same for all runs of one work folder, and no other's."""

    def __init__(
        self, connections: Connections, host: Host, identity: str, deadlines: Deadlines | None = None
    ) -> None:
        self._connections = connections
        self._host = host
        self._token = f"{identity}.{secrets.token_hex(8)}"
        self._deadlines = deadlines or Deadlines()

    @property
    def name(self) -> str:
        """Return the host's name."""
        return self._host.name

    def look(self, tree: HostTree) -> Facts:
        """Return what is there of `tree`, and the host's own facts.

        Raises:
            HostError: it cannot be reached, or its answer is none.
        """
        lines = [*map(_look_line, tree.files.items()), *(f"unit {unit.name} - -" for unit in tree.units)]
        lines += ["node - - -"] if tree.is_node else []
        stdin = "".join(f"{line}\n" for line in lines).encode()
        result = self._call(("look",), "looking at it", self._deadlines.look, [stdin])
        if result.code:
            raise self._failed(result)
        return facts_from(self.name, result.stdout)

    @contextmanager
    def held(self, who: str) -> Iterator[None]:
        """Hold the host for this run; it is free again when the connection ends, however that comes.

        Raises:
            Locked: somebody else holds it; the text says who, from where, since when.
            HostError: it cannot be reached.
        """
        errors = self._connections.folder / f"{self.name}.held"
        process = self._connections.start(self._host, _argv("hold", self._token, who), errors)
        over = threading.Event()
        try:
            self._wait_held(process, errors)
            thread = threading.Thread(target=_give_signs, args=(process, over), daemon=True)
            thread.start()
            yield
        finally:
            over.set()
            _close(process)

    def put(self, step: Put, progress: Callable[[int, int], None]) -> None:
        """Put the files of `step` in their places; `progress` hears bytes done and to do.

        Raises:
            HostError: they could not be put; what is there is old or new file by file, and the next run goes on.
        """
        files = {**step.sent, FILE: HostFile(step.manifest), JOURNAL: HostFile(step.journal)}
        listed = "".join(f"{line}\n" for line in _put_lines(step)).encode()
        size = sum(map(size_of, files.values()))
        stdin = _counted([listed], tar(files), size, progress)
        seconds = self._deadlines.put + size / SLOWEST_BYTES
        self._do(("put", self._token, str(len(listed))), "putting files there", seconds, stdin)

    def units(self, lines: Sequence[str]) -> None:
        """Have the lines done, in order (`configs/hosts/apply units`).

        Raises:
            HostError: one could not be done; of a unit that does not start, with its last words.
        """
        stdin = "".join(f"{line}\n" for line in lines).encode()
        self._do(("units", self._token), f"{lines[-1].split()[0]} there", self._deadlines.units, [stdin])

    def request(self) -> bytes:
        """Return the host's request (a CSR in PEM) for its node's certificate; its key is made if there is none.

        Raises:
            HostError: it could not be made.
        """
        answer = self._do(
            ("request", self._token, self.name), "making its node's key", self._deadlines.put, ()
        )
        return next((line.content for line in answer if line.name == "csr"), b"")

    def certify(self, certificate: bytes) -> None:
        """Put the certificate (PEM) of the host's node beside its key; raises HostError if it is for another key."""
        self._do(
            ("certify", self._token), "putting its certificate there", self._deadlines.put, [certificate]
        )

    def forget(self) -> None:
        """Remove what the host's kubelet left there that is no file of ours; raises HostError."""
        self._do(("forget", self._token), "removing what kubelet left there", self._deadlines.units, ())

    def _do(
        self, words: Sequence[str], what: str, seconds: float, stdin: Iterable[bytes]
    ) -> tuple[Said, ...]:
        result = self._call(words, what, seconds, stdin)
        if result.code:
            raise self._failed(result)
        answer = lines_of(self.name, result.stdout)
        if not any(line.name == words[0] for line in answer):
            raise StepFailed(self.name, f"host {self.name}: {what} was cut off; look at the host, {AGAIN}")
        return answer

    def _call(self, words: Sequence[str], what: str, seconds: float, stdin: Iterable[bytes]) -> Result:
        stream = _after(script(), stdin)
        return self._connections.run(self._host, _argv(*words), what=what, timeout=seconds, stdin=stream)

    def _wait_held(self, process: "subprocess.Popen[bytes]", errors: Path) -> None:
        assert process.stdin is not None  # noqa: S101  # opened as pipes
        assert process.stdout is not None  # noqa: S101
        timer = threading.Timer(self._deadlines.look, process.kill)
        timer.start()
        try:
            process.stdin.write(script())
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        finally:
            timer.cancel()
        if any(line.name == "held" for line in lines_of(self.name, answer)):
            return
        code = process.wait()
        if code == REFUSED or answer:
            raise self._failed(Result(code, answer, ""))
        text = errors.read_text(errors="replace")
        raise host_errors.from_sudo(self._host, code, text) or self._connections.failure(self._host, errors)

    def _failed(self, result: Result) -> HostError:
        """Return the error that a script which did not get done tells of."""
        sudo = host_errors.from_sudo(self._host, result.code, result.stderr)
        if sudo is not None:
            return sudo
        for line in lines_of(self.name, result.stdout):
            if line.fact == "refused":
                return _refusal(self.name, line)
            if line.fact == "unit":
                return _unit_failed(self.name, line)
        words = result.stderr.strip().splitlines()
        return StepFailed(
            self.name,
            f"host {self.name}: its shell ended with code {result.code} ({words[-1] if words else 'no message'}); "
            f"look at the host, {AGAIN}",
        )


def _argv(*words: str) -> tuple[str, ...]:
    """Return the command that reads our script from its stdin, runs it with `words`, and leaves it the rest of stdin.

    `dd bs=1` takes exactly so many bytes from a pipe, which `head -c` need not.
    """
    take = f'eval "$(dd bs=1 count={len(script())} 2>/dev/null)"'
    return ("sh", "-c", take, "firstlight", *words)


def _look_line(item: tuple[str, HostFile]) -> str:
    path, file = item
    return f"file {sha256_of(file)} {'yes' if is_shown(file) else 'no'} {path}"


def _put_lines(step: Put) -> Iterator[str]:
    for path, file in step.sent.items():
        yield f"put {sha256_of(file)} {file.mode:04o} {file.owner} {file.group} {path}"
    for path in step.removed:
        yield f"remove {path}"
    for unit in step.unstamp:
        yield f"unstamp {unit}"


def _after(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _counted(
    head: Iterable[bytes], chunks: Iterable[bytes], size: int, progress: Callable[[int, int], None]
) -> Iterator[bytes]:
    yield from head
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        progress(min(done, size), size)


def _give_signs(process: "subprocess.Popen[bytes]", over: threading.Event) -> None:
    assert process.stdin is not None  # noqa: S101  # opened as a pipe
    while not over.wait(SIGN_SECONDS):
        try:
            process.stdin.write(b"\n")
            process.stdin.flush()
        except (BrokenPipeError, ValueError):
            return


def _close(process: "subprocess.Popen[bytes]") -> None:
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None  # noqa: S101  # opened as pipes
        try:
            pipe.close()
        except BrokenPipeError:
            continue
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _refusal(host: str, line: Said) -> HostError:
    value = line.content.decode(errors="replace").strip()
    kind, text = _REFUSALS.get(line.name, (StepFailed, f"{{value}}; look at the host, {AGAIN}"))
    return kind(host, f"host {host}: " + text.format(value=" ".join(value.split()), host=host))


def _unit_failed(host: str, line: Said) -> HostError:
    words = line.content.decode(errors="replace").strip().splitlines()
    last = printable(words[-1]) if words else "it said nothing"
    return StepFailed(
        host,
        f"host {host}: {line.name} does not start: {last}; all of it: `journalctl -u {line.name}` there",
    )


_REFUSALS: dict[str, tuple[type[HostError], str]] = {
    "full": (host_errors.DiskFull, f"its disk is full ({{value}}); make room there, {AGAIN}"),
    "foreign": (
        host_errors.Foreign,
        (
            "{value} is there already and not ours; nothing was touched. If nobody needs it, move it away "
            "(`mv {value} {value}.old`), then run this again"
        ),
    ),
    "locked": (
        host_errors.Locked,
        "{value} works on it; wait until that is done (one that has died is forgotten after 30 s)",
    ),
    "busy": (
        host_errors.Locked,
        "a step of an earlier run does not end there ({value}); look at the host, then again",
    ),
    "lost": (host_errors.Locked, f"it is no longer held by this run: {{value}}; {AGAIN}"),
    "damaged": (StepFailed, f"{{value}} arrived damaged; {AGAIN}"),
}
