"""Webhooks and programs of the user's own: what they may answer, and what becomes of it."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bootstrap.power import Deadline
from bootstrap.switching import attempt
from tests.power_targets import secret, target_of


class Server(ThreadingHTTPServer):
    """Answers every request with `answer`, and notes what was asked."""

    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\non"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:  # the name that http.server calls
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization")))
        self.wfile.write(self.server.answer)
        self.close_connection = True

    do_POST = do_GET  # noqa: N815  # the name that http.server calls

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(name="server")
def fixture_server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def hook(server: Server, base: Path, action: str, **differs: Any) -> tuple[str, str]:
    power = {
        "driver": "webhook",
        "on": f"{server.url}/on",
        "off": f"{server.url}/off",
        "status": f"{server.url}/status",
        "tokenFile": secret(base, "token", "tok-1"),
        **differs,
    }
    return attempt(target_of(power, base), action, Deadline.after(5))[:2]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 401 No\r\n\r\n", "refuses the token (401); check power.tokenFile"),
        (b"HTTP/1.1 403 No\r\n\r\n", "refuses the token (403); check power.tokenFile"),
        (b"HTTP/1.1 500 \x1b[2J\r\n\r\n", "answers 500 \\x1b[2J; see that server's log"),
        (b"HTTP/1.1 500 Oh\r\n\r\n", "answers 500 Oh; see that server's log"),
        (
            b"HTTP/1.1 302 Go\r\nLocation: http://127.0.0.1:9/\r\n\r\n",
            "answers 302 Go; see that server's log",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nmaybe", "answers 'maybe'; let it answer on or off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\non", "no whole answer from"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\non", "no whole answer from"),
        (b"HTTP/1.1 20", "no whole answer from"),
        (b"", "no whole answer from"),
    ],
)
def test_an_answer_that_is_none_is_told(server: Server, tmp_path: Path, answer: bytes, words: str) -> None:
    server.answer = answer

    for action in ("status", "on", "off", "cycle"):
        state, error = hook(server, tmp_path, action)

        assert state == "unknown"
        assert words in error
        assert "tok-1" not in error
    assert all(token == "Bearer tok-1" for _, _, token in server.asked)


def test_a_webhook_that_is_not_there_is_told(server: Server, tmp_path: Path) -> None:
    gone = "http://127.0.0.1:1/status"

    assert (
        "no whole answer from http://127.0.0.1:1/status (ConnectionError); check the URL"
        in (hook(server, tmp_path, "status", status=gone)[1])
    )
    assert server.asked == []


def test_without_status_each_order_is_sent_and_nothing_is_claimed(server: Server, tmp_path: Path) -> None:
    assert hook(server, tmp_path, "cycle", status=None) == ("unknown", "")

    assert [(method, path) for method, path, _ in server.asked] == [("POST", "/off"), ("POST", "/on")]


def test_netboot_needs_its_url(server: Server, tmp_path: Path) -> None:
    assert "its webhook has no URL for that; write power.netboot" in hook(server, tmp_path, "netboot")[1]
    assert hook(server, tmp_path, "netboot", netboot=f"{server.url}/next") == ("on", "")
    assert ("POST", "/next", "Bearer tok-1") in server.asked


def programs(base: Path, action: str, **words: list[str]) -> tuple[str, str]:
    power = {"driver": "command", "on": ["true"], "off": ["true"], **words}
    return attempt(target_of(power, base), action, Deadline.after(5))[:2]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (["/nonexistent/program"], "cannot run /nonexistent/program: No such file or directory; check power"),
        (["sh", "-c", "echo half; exit 3"], "sh exits 3 and says: half; see to that program"),
        (
            ["sh", "-c", "echo out; printf 'a\\nb\\033[2J' >&2; exit 1"],
            "says: b\\x1b[2J; see to that program",
        ),
        (["false"], "false exits 1 and says: nothing; see to that program"),
        (["echo", "perhaps"], "echo answers 'perhaps'; let it answer on or off"),
        (["true"], "true answers ''; let it answer on or off"),
    ],
)
def test_a_program_that_fails_is_told(tmp_path: Path, status: list[str], words: str) -> None:
    for action in ("status", "on", "cycle"):
        state, error = programs(tmp_path, action, status=status)

        assert state == "unknown"
        assert words in error


def test_programs_run_in_the_configurations_folder_and_without_a_shell(tmp_path: Path) -> None:
    (tmp_path / "state.sh").write_text('#!/bin/sh\ntest "$1" = "a b; c" && echo on\n')
    (tmp_path / "state.sh").chmod(0o700)

    assert programs(tmp_path, "status", status=["./state.sh", "a b; c"]) == ("on", "")


def test_programs_see_nothing_of_our_environment_but_what_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token in our environment is not handed to whatever is configured there."""
    monkeypatch.setenv("SOME_TOKEN", "tok-1")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("LANG", "C.UTF-8")
    (tmp_path / "state.sh").write_text("#!/bin/sh\nenv >seen\necho on\n")
    (tmp_path / "state.sh").chmod(0o700)

    def seen(**differs: list[str]) -> dict[str, str]:
        assert programs(tmp_path, "status", status=["./state.sh"], **differs) == ("on", "")
        pairs = (line.partition("=") for line in (tmp_path / "seen").read_text().splitlines())
        shells_own = {"PWD", "OLDPWD", "SHLVL", "_"}
        return {name: value for name, _, value in pairs if name not in shells_own}

    plain = seen()
    assert set(plain) == {"PATH", "LANG", "FIRSTLIGHT_MACHINE", "FIRSTLIGHT_MAC"}
    assert (plain["FIRSTLIGHT_MACHINE"], plain["LANG"]) == ("w1", "C.UTF-8")
    assert seen(passEnvironment=["HOME", "NOT_SET"]) == {**plain, "HOME": "/home/me"}


def test_netboot_needs_its_program(tmp_path: Path) -> None:
    assert "there is no program for that; write power.netboot" in programs(tmp_path, "netboot")[1]
