import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bootstrap.errors import LabError
from bootstrap.lab import qmp

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\n'
OK = b'{"return": {}}\n'

Serve = Callable[[bytes], Path]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a QEMU that says the given bytes, whatever it is asked; its path is longer than a socket's may be."""
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    closing: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(script: bytes) -> Path:
        listener = socket.socket(socket.AF_UNIX)
        closing.append(listener)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            listener.bind("qmp.sock")
        listener.listen(1)

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(script)
                connection.settimeout(5)
                while connection.recv(4096):
                    pass

        threads.append(threading.Thread(target=answer))
        threads[-1].start()
        return folder / "qmp.sock"

    yield start
    for thread in threads:
        thread.join(10)
    for listener in closing:
        listener.close()


def test_answer_is_returned_and_events_are_skipped(serve: Serve) -> None:
    event = b'{"event": "RESET", "data": {}}\n'

    with qmp.opened(serve(GREETING + OK + event + event + b'{"return": {"running": true}}\n')) as monitor:
        assert monitor.execute("query-status") == {"running": True}


def test_refusal_carries_the_reason_of_qemu(serve: Serve) -> None:
    refused = b'{"error": {"class": "CommandNotFound", "desc": "no such thing"}}\n'

    with (
        qmp.opened(serve(GREETING + OK + refused)) as monitor,
        pytest.raises(LabError, match="no such thing"),
    ):
        monitor.execute("fly")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (b'{"hello": 1}\n', "is no QEMU"),
        (b"[1]\n", "something else than an object"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "something else than JSON"),
        (GREETING, "did not answer qmp_capabilities"),
        (b"", "sent no greeting"),
    ],
)
def test_what_is_no_qemu_or_hangs_is_an_error(serve: Serve, script: bytes, message: str) -> None:
    with pytest.raises(LabError, match=message), qmp.opened(serve(script), timeout_seconds=0.2):
        pass


def test_nobody_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no QEMU listens"), qmp.opened(tmp_path / "qmp.sock"):
        pass
