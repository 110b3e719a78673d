"""A client that keeps many connections to a Unix socket busy: as soon as one is answered it asks again."""

import os
import re
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
PATIENCE_SECONDS = 30.0


@dataclass
class Answers:
    """Bodies of good answers, the number of bad ones, and the seconds that each took."""

    bodies: list[bytes] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    passed: float = 0.0

    def percentile(self, percent: float) -> float:
        """Return the milliseconds under which `percent` of the answers came."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@dataclass
class _Connection:
    speaker: socket.socket
    asked: float = 0.0
    received: bytes = b""


def load(path: Path, request: Callable[[], bytes], *, connections: int, seconds: float) -> Answers:
    """Ask for `seconds` and return the answers; `request` gives the bytes of the next request.

    Raises:
        TimeoutError: nothing at all was answered for PATIENCE_SECONDS.
    """
    answers = Answers()
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(connections):
            connection = _Connection(stack.enter_context(_connected(path)))
            selector.register(connection.speaker, selectors.EVENT_READ, connection)
            _ask(connection, request)
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            ready = selector.select(PATIENCE_SECONDS)
            if not ready:
                raise TimeoutError(f"{path}: nothing was answered for {PATIENCE_SECONDS:.0f} s")
            for key, _ in ready:
                _hear(key.data, answers, request)
        answers.passed = time.perf_counter() - began
    return answers


def _connected(path: Path) -> socket.socket:
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)  # a socket's path ends at 107 bytes
    try:
        speaker = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        speaker.connect(f"/proc/self/fd/{folder}/{path.name}")
        return speaker
    finally:
        os.close(folder)


def _ask(connection: _Connection, request: Callable[[], bytes]) -> None:
    connection.received = b""
    connection.asked = time.perf_counter()
    connection.speaker.sendall(request())


def _hear(connection: _Connection, answers: Answers, request: Callable[[], bytes]) -> None:
    """Take what came; a whole answer is counted, and the next question asked."""
    heard = connection.speaker.recv(65536)
    if not heard:
        raise ConnectionError("the server closed a connection that it should keep")
    connection.received += heard
    head, end, body = connection.received.partition(_HEAD_END)
    length = _LENGTH.search(head)
    if not end or len(body) < int(length[1] if length else 0):
        return
    answers.seconds.append(time.perf_counter() - connection.asked)
    if head.startswith(b"HTTP/1.1 200"):
        answers.bodies.append(body)
    else:
        answers.failed += 1
    _ask(connection, request)
