"""Fetches files over HTTP: goes on where it was cut, and keeps only what has the sum that was asked for.

No answer leads from https to anything else, and none is waited for that hardly comes.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from io import FileIO
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from bootstrap.artifacts import BLOCK
from bootstrap.disk import naming
from bootstrap.errors import PreflightError, printable
from bootstrap.progress import Progress, silent

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
SLOWEST = 64 * 1024
"""Bytes that come in READ_SECONDS at least: a server that sends one byte a minute holds nobody for ever."""
TRIES = 5
PAUSE_SECONDS = 1.0
REDIRECTS = 5
"""As many a client follows at least (RFC 9110, section 15.4 leaves it open; RFC 2068 said five)."""
LONGEST_TEXT = 4096
LARGEST_FILE = 32 << 30
"""Bytes; more than any release of anything, and less than endless."""

_AGAIN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
"""What may be otherwise in a moment."""


def fetch(
    url: str,
    target: Path,
    sum_: str,
    progress: Progress = silent,
    *,
    algorithm: str = "sha256",
    ca: Path | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Bring `url` to the file `target`, whose bytes have the sum `sum_` in the end, or which is not there.

    What an earlier call left in `target` is not fetched again (RFC 9110, section 14). `algorithm` is sha256 or
    sha512; `ca` is the file of the authority to check an https server with, in place of those of this computer.

    Raises:
        PreflightError: the server refuses, cannot be reached in several tries, leads astray, or sends something
            else.
        OSError: the disk does not take it; what came so far is kept.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    trouble: Exception | None = None
    for number in range(TRIES):
        if number:
            pause(PAUSE_SECONDS * 2 ** (number - 1))
        try:
            _fetch_rest(url, target, progress, ca)
        except requests.exceptions.SSLError as error:
            raise _untrusted(url, error) from error
        except _AGAIN as error:
            trouble = error
        except requests.RequestException as error:
            raise PreflightError(f"{url} cannot be fetched: {error}") from error
        else:
            return _check(url, target, sum_, algorithm)
    raise PreflightError(f"{url} cannot be fetched: {trouble}; what came so far is kept, so try again")


def _fetch_rest(url: str, target: Path, progress: Progress, ca: Path | None) -> None:
    have = target.stat().st_size if target.exists() else 0
    with _get(url, {"Range": f"bytes={have}-"} if have else {}, ca) as answer:
        if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # all of it is there; its sum tells
        _expect(url, answer, HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT)
        begin = have if _goes_on(answer, have) else 0
        total = begin + int(answer.headers.get("Content-Length") or 0)
        with target.open("ab", buffering=0) as file:
            file.truncate(begin)
            for block in _blocks(answer):
                with naming(target):  # around the disk alone: requests' errors are OSErrors too
                    _write(file, block)
                progress(f"fetching {url.rpartition('/')[2]}", file.tell(), total)
                if file.tell() > LARGEST_FILE:
                    file.truncate(0)
                    raise PreflightError(f"{url} does not end; it was thrown away")
            if file.tell() < total:
                raise requests.ConnectionError(f"{total - file.tell()} bytes are missing")


def _write(file: FileIO, block: bytes) -> None:
    """Write all of `block` at once: what is held back would be lost with a kill, and a full disk be told too late."""
    rest = memoryview(block)
    while rest:
        rest = rest[file.write(rest) :]


def _blocks(answer: requests.Response) -> Iterator[bytes]:
    """Yield the bytes as they come; raises requests' errors when they stop, or nearly do."""
    answer.raw.enforce_content_length = False  # counted by who asked; urllib3 would drop the last, cut block
    since, got = time.monotonic(), 0
    try:
        while block := answer.raw.read1(BLOCK):
            yield block
            got += len(block)
            if (now := time.monotonic()) - since >= READ_SECONDS:
                if got < SLOWEST:
                    raise requests.Timeout(f"only {got} bytes came in {now - since:.0f} seconds")
                since, got = now, 0
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(error) from error


def _goes_on(answer: requests.Response, have: int) -> bool:
    """Return whether the answer begins behind the `have` bytes that are there."""
    given = answer.headers.get("Content-Range", "")
    return answer.status_code == HTTPStatus.PARTIAL_CONTENT and given.startswith(f"bytes {have}-")


def _check(url: str, target: Path, sum_: str, algorithm: str) -> None:
    with target.open("rb") as content:
        found = hashlib.file_digest(content, algorithm).hexdigest()
    if found != sum_:
        target.unlink()
        raise PreflightError(
            f"{url} has {algorithm} {found}, not {sum_}; it was thrown away: try again, or ask its owner"
        )


def fetch_text(url: str, *, longest: int | None = None, ca: Path | None = None) -> str:
    """Return the text at `url` of at most `longest` bytes (4096); raises PreflightError as `fetch_bytes`."""
    return fetch_bytes(url, longest=longest, ca=ca).decode(errors="replace")


def fetch_bytes(url: str, *, longest: int | None = None, ca: Path | None = None) -> bytes:
    """Return the short file at `url`; raises PreflightError when it is not there, or is longer than `longest`."""
    limit, content = longest or LONGEST_TEXT, b""
    try:
        with _get(url, {}, ca) as answer:
            _expect(url, answer, HTTPStatus.OK)
            for block in _blocks(answer):
                content += block
                if len(content) > limit:
                    raise PreflightError(
                        f"{url} is longer than {limit} bytes, so it is not what it should be"
                    )
    except requests.exceptions.SSLError as error:
        raise _untrusted(url, error) from error
    except requests.RequestException as error:
        raise PreflightError(f"{url} cannot be fetched: {error}") from error
    return content


def size_of(url: str, *, ca: Path | None = None) -> int | None:
    """Return how many bytes the file at `url` has, or None when its server does not say."""
    try:
        with _get(url, {}, ca, method="HEAD") as answer:
            size = answer.headers.get("Content-Length", "")
            return int(size) if answer.status_code == HTTPStatus.OK and size.isdigit() else None
    except (requests.RequestException, PreflightError):
        return None


def _get(url: str, headers: dict[str, str], ca: Path | None = None, method: str = "GET") -> requests.Response:
    """Return the answer behind all redirects; raises PreflightError when they lead in a circle or astray."""
    place = url
    for _ in range(REDIRECTS + 1):
        answer = _answer(method, place, headers, ca)
        if not answer.is_redirect:
            return answer
        answer.close()
        place = _next(url, place, answer.headers["Location"])
    raise PreflightError(
        f"{url} leads from one place to the next, more than {REDIRECTS} times; ask its owner"
    )


def _answer(method: str, url: str, headers: dict[str, str], ca: Path | None) -> requests.Response:
    """Return one answer, redirect or not; raises PreflightError for an address that is none."""
    try:
        # Compressed on the way, its length would say nothing.
        return requests.request(
            method,
            url,
            headers={"Accept-Encoding": "identity", **headers},
            stream=True,
            allow_redirects=False,
            verify=str(ca) if ca is not None else True,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
        )
    except ValueError as error:  # requests looks at a redirect also where it does not follow it
        raise PreflightError(f"{url} leads to what is no address: {error}; ask its owner") from error


def _next(url: str, place: str, location: str) -> str:
    """Return where a redirect at `place` leads, if that is no worse than `url` was."""
    try:
        target = urljoin(place, location)
        parts = urlsplit(target)
    except ValueError:
        parts, target = urlsplit(""), location
    if parts.scheme in {"https", urlsplit(url).scheme} and parts.hostname:
        return target
    shown = printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
    raise PreflightError(f"{url} leads to {shown}, which is less safe than {url.partition(':')[0]}; refused")


def _untrusted(url: str, error: Exception) -> PreflightError:
    return PreflightError(
        f"{url} cannot be trusted: {error}; where its authority is your own, name its certificate in mirror.caFile"
    )


def _expect(url: str, answer: requests.Response, *wanted: HTTPStatus) -> None:
    if answer.status_code not in wanted:
        said = f"{answer.status_code} {printable(answer.reason or '')}"
        raise PreflightError(
            f"{url} answers {said}; look at the version and the address in the configuration"
        )
