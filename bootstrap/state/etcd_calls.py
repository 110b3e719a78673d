"""Calls to one of several members of etcd, whichever answers: each with a deadline, and all with one plain error.

A member that is gone refuses at once; a frozen one, or one behind a cut cable, says nothing. So each try has a time
of its own, and the next one goes to the next member, where all calls stay from then on. Once nobody has answered in
time, one call at a time goes on trying, and all others fail at once: dozens of requests that each wait their full time
would stop the appliance.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from bootstrap.errors import StateError
from bootstrap.etcd import PORT, Credentials, connected

TRY_SECONDS = 1.5  # a loaded member on a slow disk answers in 0.1 s; one that leads no more, never
CALL_SECONDS = 6.0  # an election takes up to 2 s with etcd's own times, and may have to be held twice
SHORTEST_SECONDS = 0.1
PAUSE_SECONDS = 0.1  # after a refusal, which comes at once
GRPC_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.max_receive_message_length", -1),  # ours is 4 MiB, and a page of documents may be larger
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),  # else it grows to two minutes
    ("grpc.enable_http_proxy", 0),  # a proxy of the environment is for downloads
)
PASSING = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN", "INTERNAL"})
"""What another member, or a later moment, may do better."""
REMEDIES = {
    "RESOURCE_EXHAUSTED": "its space is used up: compact and defragment it, then `etcdctl alarm disarm`",
    "PERMISSION_DENIED": "give the user of the client certificate access to /firstlight/",
    "UNAUTHENTICATED": "set appliance.etcd.certFile and keyFile to a certificate that it trusts",
    "INVALID_ARGUMENT": "it takes no commit of this size: raise its --max-request-bytes and --max-txn-ops",
}
LOOK = "look whether it runs (`etcdctl endpoint health`) and at appliance.etcd in the configuration"

Result = TypeVar("Result")
Act = Callable[[Any, float], Result]
"""Takes a client of etcd3 and the seconds that the call may take."""


class Refused(Exception):  # noqa: N818  # reads as a sentence where it is raised
    """Etcd answered, and will answer the same again: `code` is gRPC's name of the reason."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def opened(url: str, credentials: Credentials) -> Any:
    """Return a client of the member at `url`."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return connected(host, parts.port or PORT, credentials, seconds=TRY_SECONDS, options=GRPC_OPTIONS)


class Calls:
    """The members at `urls`; `open_` makes a client of one. May be used by many threads at once."""

    def __init__(
        self,
        urls: Sequence[str],
        open_: Callable[[str], Any],
        *,
        try_seconds: float = TRY_SECONDS,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        self._urls = tuple(urls)
        self._open = open_
        self._try_seconds = try_seconds
        self.seconds = call_seconds
        self._clients: list[Any] = [None] * len(self._urls)
        self._lock = threading.Lock()
        self._at = 0
        self._why = ""  # what is said while nobody answers
        self._probing = threading.Lock()

    def call(self, verb: str, act: Act[Result], *, try_seconds: float | None = None) -> Result:
        """Return what `act` returns with the first member that answers; it may be done more than once.

        Raises:
            StateError: nobody answered in time, or etcd refuses for good; the text says what to do.
        """
        try:
            return self.tried(act, try_seconds=try_seconds)
        except Refused as error:
            # gRPC's own bound on a message has the code of a database that is full.
            code = "INVALID_ARGUMENT" if "larger than max" in str(error) else error.code
            remedy = REMEDIES.get(code, LOOK)
            raise StateError(f"etcd ({self}): cannot {verb}: {error}; {remedy}") from error

    def tried(self, act: Act[Result], *, try_seconds: float | None = None) -> Result:
        """Return what `act` returns, as `call` does.

        Raises:
            Refused: etcd refuses for good.
            StateError: nobody answered in time.
        """
        if not self._why:
            return self._tried(act, try_seconds or self._try_seconds)
        if not self._probing.acquire(blocking=False):
            raise StateError(self._why)
        try:
            return self._tried(act, try_seconds or self._try_seconds)
        finally:
            self._probing.release()

    def _tried(self, act: Act[Result], try_seconds: float) -> Result:
        deadline = time.monotonic() + self.seconds
        while True:
            at = self._at
            left = deadline - time.monotonic()
            try:
                result = act(self._client(at), max(SHORTEST_SECONDS, min(try_seconds, left)))
            except Exception as error:  # noqa: BLE001  # what is none of gRPC's is raised again
                reason = _passing(error)
            else:
                self._why = ""
                return result
            self._leave(at)
            if time.monotonic() + PAUSE_SECONDS >= deadline:
                self._why = f"etcd ({self}): no answer within {self.seconds:.0f} s ({reason}); {LOOK}"
                raise StateError(self._why)
            time.sleep(PAUSE_SECONDS)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            clients, self._clients = self._clients, [None] * len(self._urls)
        for client in clients:
            if client is not None:
                client.close()

    def _client(self, at: int) -> Any:
        with self._lock:
            if self._clients[at] is None:
                self._clients[at] = self._open(self._urls[at])
            return self._clients[at]

    def _leave(self, at: int) -> None:
        """Go to the next member, unless another thread has done so."""
        with self._lock:
            if self._at == at:
                self._at = (at + 1) % len(self._urls)

    def __str__(self) -> str:
        return ", ".join(self._urls)


def _passing(error: Exception) -> str:
    """Return what gRPC says of an error that may pass; raise Refused for another, and what is none of gRPC's."""
    code = getattr(error, "code", None)
    if not callable(code):
        raise error
    name = str(getattr(code(), "name", code()))
    details = getattr(error, "details", None)
    text = " ".join(str(details() if callable(details) else "").split())[:200] or name
    if name not in PASSING:
        raise Refused(name, text) from error
    return text
