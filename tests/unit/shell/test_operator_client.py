import json
import os
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from bootstrap.errors import FirstlightError, PreflightError, ServeError, UsageError
from bootstrap.operator import NotRunning, Operator

Answer = tuple[int, bytes]
Appliance = Callable[..., list[str]]


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    answer: Answer
    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    server: UnixServer

    def do_GET(self) -> None:
        status, body = self.server.answer
        self.server.asked.append(f"{self.command} {self.path}")
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  # the standard library's name

    def address_string(self) -> str:
        return "operator"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the standard library's name
        del format, args


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A work folder whose socket has a path longer than the 107 bytes that fit into an address."""
    folder = tmp_path / ("long-" * 25)
    (folder / "run").mkdir(parents=True)
    assert len(str(folder / "run" / "operator.sock")) > 108
    return folder


@pytest.fixture
def appliance(work: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Appliance]:
    """Start an appliance that gives one answer to everything; return what it was asked."""
    servers: list[UnixServer] = []

    def begin(status: int, body: object) -> list[str]:
        with monkeypatch.context() as patch:
            patch.chdir(work / "run")
            server = UnixServer("operator.sock", Handler)
        server.answer = (status, body if isinstance(body, bytes) else json.dumps(body).encode())
        server.asked = []
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server.asked

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def test_machines_are_read_through_a_socket_with_a_long_path(appliance: Appliance, work: Path) -> None:
    asked = appliance(200, {"machines": [{"name": "w1"}], "strangers": [{"mac": "02:00:00:00:00:01"}]})

    assert Operator(work).machines() == [{"name": "w1"}]
    assert Operator(work).strangers() == [{"mac": "02:00:00:00:00:01"}]
    assert asked == ["GET /v1/machines"] * 2


def test_orders_and_questions_name_the_machine(appliance: Appliance, work: Path) -> None:
    asked = appliance(200, {"events": [], "state": "armed"})
    operator = Operator(work)

    operator.act("w1", "arm")
    operator.machine("w1")
    operator.events(after=7, machine="w1")
    operator.events()
    operator.reload()

    assert asked == [
        "POST /v1/machines/w1/arm",
        "GET /v1/machines/w1",
        "GET /v1/events?after=7&machine=w1",
        "GET /v1/events?after=0",
        "POST /v1/reload",
    ]


@pytest.mark.parametrize("name", ["../events", "a b", "wörker", "w1?x=1", "w1\r\nX-Evil: 1"])
def test_a_name_that_is_no_url_is_asked_for_as_it_is(appliance: Appliance, work: Path, name: str) -> None:
    asked = appliance(404, {"reason": "no machine is called so"})

    with pytest.raises(UsageError, match="no machine is called so"):
        Operator(work).machine(name)

    assert asked[0].count("/") == 3
    assert "?" not in asked[0]


def test_a_refusal_is_a_usage_error_with_its_reason(appliance: Appliance, work: Path) -> None:
    appliance(409, {"reason": "w1 is installing: retire it first"})

    with pytest.raises(UsageError, match="w1 is installing: retire it first"):
        Operator(work).act("w1", "arm")


@pytest.mark.parametrize("body", [b"<html>414 Too Long</html>", b"", b"[]", b'{"other": 1}', b"\xff"])
def test_a_refusal_by_nginx_is_no_bug(appliance: Appliance, work: Path, body: bytes) -> None:
    appliance(414, body)

    with pytest.raises(UsageError, match="the appliance answered 414 to GET /v1/machines"):
        Operator(work).machines()


def test_a_failure_names_the_log(appliance: Appliance, work: Path) -> None:
    appliance(500, b"<html>oops</html>")

    with pytest.raises(ServeError, match=r"answered 500 to GET /v1/machines; see log/serve\.log") as caught:
        Operator(work).machines()

    assert not isinstance(caught.value, NotRunning)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_nginx_without_web_behind_it_is_not_running(appliance: Appliance, work: Path, status: int) -> None:
    appliance(status, b"<html>Bad Gateway</html>")

    with pytest.raises(NotRunning, match=f"answered {status}"):
        Operator(work).machines()
    assert not Operator(work).is_ready()


def test_ready_is_what_says_so(appliance: Appliance, work: Path) -> None:
    asked = appliance(200, {"ready": True})

    assert Operator(work).is_ready()
    assert asked == ["GET /readyz"]


def test_no_socket_is_not_running(work: Path) -> None:
    with pytest.raises(NotRunning, match="start it: up"):
        Operator(work).machines()
    with pytest.raises(NotRunning, match="start it: up"):
        Operator(work / "none").machines()
    assert not Operator(work).is_ready()


def test_a_socket_that_a_killed_appliance_left_is_not_running(appliance: Appliance, work: Path) -> None:
    appliance(200, {})
    stale = work / "run" / "stale"
    (work / "run" / "operator.sock").rename(stale)
    (work / "run" / "operator.sock").touch()

    with pytest.raises(NotRunning):
        Operator(work).machines()


def test_another_user_is_told_whose_appliance_it_is(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, flags: int) -> int:
        raise PermissionError(13, f"Permission denied: {path} {flags}")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(PreflightError) as caught:
            Operator(work).machines()

    assert "run this as that user, usually root" in str(caught.value)
    assert isinstance(caught.value, FirstlightError)
