"""The one door to etcd: its members, their health, a probe that writes and reads, and snapshots; all with deadlines.

`connected` gives bootstrap/state/etcd.py the client on which the appliance's state goes.

`python -m bootstrap.etcd` does one of these for a question in JSON on stdin, so that it can be run on a network that
this process is not on (the lab's namespace).
"""

import contextlib
import json
import os
import secrets
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar

from bootstrap.errors import EtcdError
from bootstrap.memory import in_memory
from certs.secret import Secret

PORT = 2379
ANSWER_SECONDS = 3.0
POLL_SECONDS = 0.25
SHARED_NAME = "localhost"
"""A name that every member's certificate has: one connection goes to whichever of them answers."""
PROBE_PREFIX = "/firstlight/probe/"
"""Outside of /registry/, where Kubernetes keeps its objects."""

T = TypeVar("T")


@dataclass(frozen=True)
class Credentials:
    """What a client shows: PEM of the etcd authority, of its certificate, and of its key; without the two, nothing."""

    authority: bytes
    certificate: bytes | None = None
    key: Secret | None = None


@dataclass(frozen=True)
class Member:
    """A member of the cluster; `name` is empty for one that was added and has never been up."""

    number: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Health:
    """How one member is: healthy is one that answers a read which a majority agreed to. Sizes are bytes."""

    is_healthy: bool
    version: str = ""
    leader: str = ""
    db_size: int = 0
    error: str = ""


class Etcd:
    """The cluster whose members' client addresses (`10.0.0.1:2379`) are given by name.

    Nothing here waits longer than `answer_seconds` for one answer.
    """

    def __init__(
        self,
        addresses: Mapping[str, str],
        credentials: Credentials,
        *,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._addresses = dict(addresses)
        self._credentials = credentials
        self._seconds = answer_seconds

    def members(self) -> tuple[Member, ...]:
        """Return the members as the cluster knows them.

        Raises:
            EtcdError: no member answered in time.
        """
        with self._cluster() as client:
            found = _told("list its members", lambda: list(client.members))
        return tuple(
            Member(int(each.id), str(each.name), tuple(each.peer_urls), tuple(each.client_urls))
            for each in found
        )

    def health(self) -> dict[str, Health]:
        """Return of each member whether it is healthy; one that does not answer is not."""
        return {name: self._health(name) for name in self._addresses}

    def wait_healthy(self, names: Mapping[str, object] | tuple[str, ...], seconds: float) -> dict[str, str]:
        """Wait until all members called `names` are healthy; return why those are not that were not in time."""
        deadline = time.monotonic() + seconds
        while True:
            unwell = {name: self._health(name) for name in names}
            errors = {name: each.error for name, each in unwell.items() if not each.is_healthy}
            if not errors or time.monotonic() > deadline:
                return errors
            time.sleep(POLL_SECONDS)

    def write_read_probe(self) -> None:
        """Write a key, read it back through each member, and remove it.

        Raises:
            EtcdError: it was not written, or a member gave something else back.
        """
        key, value = f"{PROBE_PREFIX}{secrets.token_hex(8)}", secrets.token_hex(16)
        with self._cluster() as client:
            _told("write a key", lambda: client.put(key, value))
            try:
                for name in self._addresses:
                    self._compare(name, key, value.encode())
            finally:
                _told("remove a key", lambda: client.delete(key))

    def snapshot(self, file: IO[bytes]) -> None:
        """Write a snapshot of all data into `file`, as `etcdctl snapshot restore` reads it.

        Raises:
            EtcdError: no member answered in time, or the connection broke on the way.
        """
        with self._cluster(seconds=None) as client:
            _told("take a snapshot", lambda: client.snapshot(file))

    def _compare(self, name: str, key: str, value: bytes) -> None:
        with self._member(name) as client:
            found, _ = _told(f"read a key through {name}", lambda: client.get(key))
        if found != value:
            raise EtcdError(f"etcd member {name} gave back {found!r} for a key that was written as {value!r}")

    def _health(self, name: str) -> Health:
        try:
            with self._member(name) as client:
                status = _told(f"ask {name}", client.status)
                _told(f"read through {name}", lambda: client.get(f"{PROBE_PREFIX}health"))
                leader = getattr(status.leader, "name", "") if status.leader else ""
                return Health(
                    is_healthy=True, version=status.version, leader=leader, db_size=int(status.db_size)
                )
        except EtcdError as error:
            return Health(is_healthy=False, error=str(error))

    def _member(self, name: str) -> "contextlib.AbstractContextManager[Any]":
        host, _, port = self._addresses[name].rpartition(":")
        return self._client(host, int(port), self._seconds, ())

    def _cluster(self, seconds: float | None = ANSWER_SECONDS) -> "contextlib.AbstractContextManager[Any]":
        # gRPC takes several addresses as one target; etcd3 puts host and port together with a colon.
        targets = ",".join(self._addresses.values())
        host, _, port = targets.rpartition(":")
        options = (("grpc.lb_policy_name", "round_robin"), ("grpc.ssl_target_name_override", SHARED_NAME))
        return self._client(f"ipv4:{host}", int(port), seconds and self._seconds, options)

    @contextlib.contextmanager
    def _client(
        self, host: str, port: int, seconds: float | None, options: tuple[tuple[str, str], ...]
    ) -> Iterator[Any]:
        client = connected(host, port, self._credentials, seconds=seconds, options=options)
        try:
            yield client
        finally:
            client.close()


def connected(
    host: str,
    port: int,
    credentials: Credentials,
    *,
    seconds: float | None,
    options: Sequence[tuple[str, str | int]] = (),
) -> Any:
    """Return a client of etcd3, which connects when it is used; the key passes through memory, never through a disk.

    `options` are gRPC's. Its calls take no longer than `seconds`, but for those on its stubs, which take their own.
    """
    with contextlib.ExitStack() as stack:

        def file(content: bytes | None) -> str | None:
            return None if content is None else stack.enter_context(in_memory(content))

        key = credentials.key.reveal() if credentials.key else None
        return library().client(
            host=host,
            port=port,
            ca_cert=file(credentials.authority),
            cert_cert=file(credentials.certificate),
            cert_key=file(key),
            timeout=seconds,
            grpc_options=tuple(options),
        )


@cache
def library() -> Any:
    """Return etcd3; it is slow to import, and whoever asks through a process of its own never needs it here.

    Its stubs are of 2020: only the pure-Python protobuf takes them, and that is chosen at the first import.

    Raises:
        EtcdError: something has imported the other protobuf before.
    """
    os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # theirs, about each other
        try:
            import etcd3  # noqa: PLC0415  # see above
        except TypeError as error:
            raise EtcdError(
                "etcd3 cannot be used: set PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python before the start"
            ) from error
        return etcd3


def _told(what: str, act: Callable[[], T]) -> T:
    """Return what `act` returns; say in our own error what etcd could not do."""
    try:
        return act()
    except Exception as error:
        if isinstance(error, library().Etcd3Exception):
            reason = str(error) or type(error).__name__.removesuffix("Error")
            raise EtcdError(f"etcd could not {what}: {reason}") from error
        code = getattr(error, "code", None)  # an error of gRPC that etcd3 has no class for
        if not callable(code):
            raise
        raise EtcdError(f"etcd could not {what}: {code()}") from error


@dataclass(frozen=True)
class Question:
    """What `python -m bootstrap.etcd` is asked: `ask` is members, health, healthy, probe or snapshot (into `file`)."""

    ask: str
    addresses: Mapping[str, str]
    credentials: Credentials
    names: tuple[str, ...] = ()
    seconds: float = ANSWER_SECONDS
    file: str = ""

    def to_json(self) -> bytes:
        """Return the question as it goes to the other process's stdin, the key in it: never to a file or argv."""
        parts = self.credentials
        assert parts.certificate and parts.key  # noqa: S101, PT018  # for the type checker: our members want both
        pem = [parts.authority.decode(), parts.certificate.decode(), parts.key.reveal().decode()]
        values = {
            "ask": self.ask,
            "addresses": dict(self.addresses),
            "names": list(self.names),
            "file": self.file,
        }
        return json.dumps({**values, "pem": pem, "seconds": self.seconds}).encode()


def argv() -> tuple[str, ...]:
    """Return the command that answers a `Question` on its stdin."""
    return (sys.executable, "-m", "bootstrap.etcd")


def root() -> Path:
    """Return the folder in which that command must be started."""
    return Path(__file__).parents[1]


def main() -> None:
    """Answer one question in JSON: `{"answer": ...}` or `{"error": "..."}`."""
    asked = json.load(sys.stdin)
    authority, certificate, key = (text.encode() for text in asked["pem"])
    etcd = Etcd(asked["addresses"], Credentials(authority, certificate, Secret(key)))
    try:
        answer = {"answer": _answer(etcd, asked)}
    except EtcdError as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")


def _answer(etcd: Etcd, asked: Mapping[str, Any]) -> object:
    match asked["ask"]:
        case "members":
            return [asdict(member) for member in etcd.members()]
        case "health":
            return {name: asdict(health) for name, health in etcd.health().items()}
        case "healthy":
            return etcd.wait_healthy(tuple(asked["names"]), float(asked["seconds"]))
        case "snapshot":
            with Path(asked["file"]).open("xb") as file:
                etcd.snapshot(file)
            return True
        case _:
            etcd.write_read_probe()
            return True


if __name__ == "__main__":
    main()
