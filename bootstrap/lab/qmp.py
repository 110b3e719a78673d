"""Speaks to a running QEMU: the QEMU Machine Protocol, JSON lines over a unix socket."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from socket import socket

from bootstrap.errors import LabError
from bootstrap.lab import unix

ANSWER_SECONDS = 5.0  # QEMU answers in milliseconds, unless its main loop hangs
LONGEST_LINE = 1 << 20


class Qmp:
    """A negotiated connection to one QEMU; QEMU takes one at a time."""

    def __init__(self, connection: socket, lines: BufferedReader) -> None:
        self._connection = connection
        self._lines = lines

    def execute(self, command: str, **arguments: object) -> object:
        """Send `command`, wait for its answer, and return that; events in between are skipped.

        Raises:
            LabError: QEMU refused the command, closed the connection or did not answer in time.
        """
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        try:
            self._connection.sendall(json.dumps(request).encode() + b"\n")
            while True:
                answer = self._line()
                if "error" in answer:
                    raise LabError(f"QEMU refused {command}: {answer['error']}")
                if "return" in answer:
                    return answer["return"]
        except OSError as error:
            raise LabError(f"QEMU did not answer {command}: {error}") from error

    def _line(self) -> Mapping[str, object]:
        line = self._lines.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise LabError("QEMU closed its control socket")
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise LabError(f"QEMU sent something else than JSON: {line[:80]!r}") from error
        if not isinstance(answer, dict):
            raise LabError(f"QEMU sent something else than an object: {line[:80]!r}")
        return answer

    def greet(self) -> None:
        """Take QEMU's greeting and leave negotiation mode; must be the first thing said.

        Raises:
            LabError: what answers is no QEMU, or it did not answer in time.
        """
        try:
            greeting = self._line()
        except OSError as error:
            raise LabError(f"QEMU sent no greeting: {error}") from error
        if "QMP" not in greeting:
            raise LabError("what answers at the control socket is no QEMU")
        self.execute("qmp_capabilities")


@contextlib.contextmanager
def opened(path: Path, timeout_seconds: float = ANSWER_SECONDS) -> Iterator[Qmp]:
    """Connect to the QEMU whose control socket is `path`, for the length of a `with` block.

    Raises:
        LabError: nobody listens there, or QEMU did not answer in time.
    """
    try:
        connection = unix.connect(path, timeout_seconds)
    except OSError as error:
        raise LabError(f"no QEMU listens at {path}: {error}") from error
    with connection, connection.makefile("rb") as lines:
        qmp = Qmp(connection, lines)
        qmp.greet()
        yield qmp
