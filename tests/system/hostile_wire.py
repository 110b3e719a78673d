"""Raw bytes to the listeners of a real appliance, and files around its store that nobody may ever see."""

import contextlib
import secrets
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.system.web_bench import ADDRESS, Appliance

LISTENERS = ("plain", "tls", "operator")
PATIENCE_SECONDS = 20.0
MARKERS = (b"PRIVATE KEY", b"SQLite format 3", b"root:x:0:0", b"worker_processes")


@dataclass(frozen=True)
class Answer:
    """What came back: the status (None: the connection was closed without one) and everything behind the head."""

    status: int | None
    head: bytes
    body: bytes


@contextlib.contextmanager
def connection(web: Appliance, listener: str) -> Iterator[socket.socket]:
    """Connect to one of LISTENERS."""
    with contextlib.ExitStack() as stack:
        if listener == "operator":
            raw = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            raw.settimeout(PATIENCE_SECONDS)
            with contextlib.chdir(web.work):  # a socket's path ends at 107 bytes
                raw.connect("run/operator.sock")
        else:
            port = web.http_port if listener == "plain" else web.https_port
            raw = stack.enter_context(socket.create_connection((ADDRESS, port), timeout=PATIENCE_SECONDS))
        if listener == "tls":
            raw = stack.enter_context(web.context().wrap_socket(raw, server_hostname=ADDRESS))
        yield raw


def tell(web: Appliance, listener: str, request: bytes) -> bytes:
    """Send `request` as it is, end our side, and return everything that comes back."""
    pieces = []
    with connection(web, listener) as wire, contextlib.suppress(ConnectionError, ssl.SSLError):
        wire.sendall(request)
        while piece := wire.recv(1 << 20):
            pieces.append(piece)
    return b"".join(pieces)


def answer_from(data: bytes) -> Answer:
    """Take an answer apart; one without a head (HTTP/0.9) is all body."""
    if not data.startswith(b"HTTP/1."):
        return Answer(None, b"", data)
    head, _, body = data.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100 "):
        return answer_from(body)
    return Answer(int(head.split(b" ", 2)[1]), head, body)


@dataclass(frozen=True)
class Canaries:
    """Files outside the store, each with the same secret word, and links in the store that lead to them."""

    word: bytes
    paths: tuple[Path, ...]
    links: tuple[str, ...]


@contextlib.contextmanager
def canaries(web: Appliance) -> Iterator[Canaries]:
    """Put canaries around the store and links into it; take them away again."""
    word = b"canary-" + secrets.token_hex(16).encode()
    places = (
        web.work / "canary", web.work / "pki/canary", web.work / "state/canary", web.work / "bundle/canary",
        web.work / "run/canary", web.cache / "canary", web.cache / "images/canary", web.cache.parent / "canary",
        Path("/etc") / f"firstlight-{word.decode()}",
    )  # fmt: skip
    links = {
        "1" * 64: places[0],
        "2" * 64: web.cache / "images",
        "3" * 64: Path("/etc/passwd"),
        "4" * 64: Path("../canary"),
        "link": places[1],
    }
    made: list[Path] = []
    try:
        for path in places:
            path.write_bytes(word + b"\n")
            made.append(path)
        for name, target in links.items():
            (web.cache / "sha256" / name).symlink_to(target)
            made.append(web.cache / "sha256" / name)
        folder = web.cache / "sha256" / ("5" * 64)
        folder.mkdir()
        (folder / "canary").write_bytes(word)
        yield Canaries(word, places, tuple(links))
    finally:
        for path in made:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (web.cache / "sha256" / ("5" * 64) / "canary").unlink()
            (web.cache / "sha256" / ("5" * 64)).rmdir()


def leaks(data: bytes, canary: Canaries) -> list[bytes]:
    """Return which words of files outside the store are in `data`."""
    return [word for word in (canary.word, *MARKERS) if word in data]
