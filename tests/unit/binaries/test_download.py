"""Downloads from a real HTTP server on loopback that cuts, restarts, lies and refuses."""

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bootstrap import download
from bootstrap.errors import PreflightError
from bootstrap.progress import silent

CONTENT = bytes(range(256)) * 4096
SUM = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT as told: `cuts` holds after how many bytes each coming answer ends."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cuts: list[int] = []
        self.asked: list[str] = []
        self.ranges = True
        self.status = 200
        self.drops = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/kubelet"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        begin = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        at = int(begin[1]) if begin and self.server.ranges else 0
        self.server.asked.append(self.headers.get("Range", ""))
        if at >= len(CONTENT):
            return self.send_error(416)
        if self.server.status != 200:
            return self.send_error(self.server.status)
        body = CONTENT[at:]
        self.send_response(206 if at else 200)
        if at:
            self.send_header("Content-Range", f"bytes {at}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.drops:
            return self.drip(body)
        self.wfile.write(body[: self.server.cuts.pop(0)] if self.server.cuts else body)
        return None

    def drip(self, body: bytes) -> None:
        """Send a byte now and then, as long as somebody listens and the test wants it."""
        for _ in range(self.server.drops):
            try:
                self.wfile.write(body[:1])
            except OSError:
                return
            time.sleep(0.02)

    def log_message(self, *_: object) -> None:
        """Say nothing on the test's stderr."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def fetch(server: Server, target: Path, sha256: str = SUM) -> list[float]:
    pauses: list[float] = []
    download.fetch(server.url, target, sha256, silent, pause=pauses.append)
    return pauses


def test_a_file_comes_whole_and_says_how_far_it_is(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int | None, int | None]] = []

    def progress(what: str, done: int | None = None, total: int | None = None) -> None:
        seen.append((what, done, total))

    download.fetch(server.url, tmp_path / "new" / "kubelet", SUM, progress)

    assert (tmp_path / "new" / "kubelet").read_bytes() == CONTENT
    assert seen[-1] == ("fetching kubelet", len(CONTENT), len(CONTENT))


def test_what_was_cut_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 0, 300_000]

    pauses = fetch(server, tmp_path / "kubelet")

    assert (tmp_path / "kubelet").read_bytes() == CONTENT
    assert server.asked == ["", "bytes=100000-", "bytes=100000-", "bytes=400000-"]
    assert pauses == [1.0, 2.0, 4.0]


def test_a_later_call_goes_on_with_what_an_earlier_one_left(server: Server, tmp_path: Path) -> None:
    server.cuts = [1000] * download.TRIES
    with pytest.raises(
        PreflightError, match=r"cannot be fetched: .*; what came so far is kept, so try again"
    ):
        fetch(server, tmp_path / "kubelet")
    assert (tmp_path / "kubelet").read_bytes() == CONTENT[: 1000 * download.TRIES]

    assert fetch(server, tmp_path / "kubelet") == []
    assert (tmp_path / "kubelet").read_bytes() == CONTENT
    assert fetch(server, tmp_path / "kubelet") == [], "a whole file is asked about and kept"


def test_a_server_without_ranges_begins_anew(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "kubelet").write_bytes(b"something else")

    fetch(server, tmp_path / "kubelet")

    assert (tmp_path / "kubelet").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"", b"damaged", CONTENT + b"more"], ids=["nothing", "a begin", "more"])
def test_what_has_another_sum_is_thrown_away(server: Server, tmp_path: Path, left: bytes) -> None:
    (tmp_path / "kubelet").write_bytes(left)

    with pytest.raises(
        PreflightError, match=r"has sha256 [0-9a-f]{64}, not [0-9a-f]{64}; it was thrown away"
    ):
        fetch(server, tmp_path / "kubelet", SUM if left else "0" * 64)

    assert not (tmp_path / "kubelet").exists()


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_is_said_and_not_tried_again(server: Server, tmp_path: Path, status: int) -> None:
    server.status = status

    with pytest.raises(PreflightError, match=f"{server.url} answers {status} "):
        fetch(server, tmp_path / "kubelet")

    assert len(server.asked) == 1


def test_a_server_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with Server() as gone:
        url = gone.url
    with pytest.raises(PreflightError, match="cannot be fetched"):
        download.fetch(url, tmp_path / "kubelet", SUM, silent, pause=lambda _: None)
    with pytest.raises(PreflightError, match="cannot be fetched"):
        download.fetch_text(url)


def test_a_short_text_is_read_and_a_long_one_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PreflightError, match="is longer than 4096 bytes"):
        download.fetch_text(server.url)
    monkeypatch.setattr(download, "LONGEST_TEXT", len(CONTENT))
    assert len(download.fetch_text(server.url)) > len(CONTENT) // 2
    server.status = 404
    with pytest.raises(PreflightError, match="answers 404"):
        download.fetch_text(server.url)


def test_a_server_that_drips_is_left(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "READ_SECONDS", 0.1)
    server.drops = 1000

    with pytest.raises(
        PreflightError, match=r"cannot be fetched: only \d+ bytes came in \d+ seconds; what came so"
    ):
        fetch(server, tmp_path / "kubelet")
    with pytest.raises(PreflightError, match=r"cannot be fetched: only \d+ bytes came"):
        download.fetch_text(server.url)
    server.drops = 0


def test_a_file_that_does_not_end_is_thrown_away(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "LARGEST_FILE", 1000)

    with pytest.raises(PreflightError, match="does not end; it was thrown away"):
        fetch(server, tmp_path / "kubelet")

    assert (tmp_path / "kubelet").stat().st_size == 0


def test_a_size_is_asked_for_without_the_file(server: Server) -> None:
    assert download.size_of(server.url) is None, "this server answers no HEAD"
