"""Fetches files over HTTP: goes on where it was cut, and keeps only what has the sum that was asked for."""

import hashlib
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import requests

from bootstrap.artifacts import BLOCK
from bootstrap.errors import PreflightError
from bootstrap.progress import Progress, silent

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
TRIES = 5
PAUSE_SECONDS = 1.0
LONGEST_TEXT = 4096


def fetch(
    url: str,
    target: Path,
    sha256: str,
    progress: Progress = silent,
    *,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Bring `url` to the file `target`, whose bytes have the sum `sha256` in the end, or which is not there.

    What an earlier call left in `target` is not fetched again (RFC 9110, section 14).

    Raises:
        PreflightError: the server refuses, cannot be reached in several tries, or sends something else.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    trouble: Exception | None = None
    for number in range(TRIES):
        if number:
            pause(PAUSE_SECONDS * 2 ** (number - 1))
        try:
            _fetch_rest(url, target, progress)
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            trouble = error
        else:
            return _check(url, target, sha256)
    raise PreflightError(f"{url} cannot be fetched: {trouble}; what came so far is kept, so try again")


def _fetch_rest(url: str, target: Path, progress: Progress) -> None:
    have = target.stat().st_size if target.exists() else 0
    with _get(url, {"Range": f"bytes={have}-"} if have else {}) as answer:
        if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # all of it is there; its sum tells
        _expect(url, answer, HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT)
        begin = have if _goes_on(answer, have) else 0
        total = begin + int(answer.headers.get("Content-Length") or 0)
        answer.raw.enforce_content_length = False  # counted below; urllib3 would drop the last, cut block
        with target.open("ab") as file:
            file.truncate(begin)
            for block in answer.iter_content(BLOCK):
                file.write(block)
                progress(f"fetching {url.rpartition('/')[2]}", file.tell(), total)
            if file.tell() < total:
                raise requests.ConnectionError(f"{total - file.tell()} bytes are missing")


def _goes_on(answer: requests.Response, have: int) -> bool:
    """Return whether the answer begins behind the `have` bytes that are there."""
    given = answer.headers.get("Content-Range", "")
    return answer.status_code == HTTPStatus.PARTIAL_CONTENT and given.startswith(f"bytes {have}-")


def _check(url: str, target: Path, sha256: str) -> None:
    with target.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != sha256:
        target.unlink()
        raise PreflightError(f"{url} has sha256 {found}, not {sha256}; it was thrown away")


def fetch_text(url: str) -> str:
    """Return the short text at `url`; raises PreflightError when it is not there, or is long."""
    try:
        with _get(url, {}) as answer:
            _expect(url, answer, HTTPStatus.OK)
            content = next(answer.iter_content(LONGEST_TEXT + 1), b"")
    except requests.RequestException as error:
        raise PreflightError(f"{url} cannot be fetched: {error}") from error
    if len(content) > LONGEST_TEXT:
        raise PreflightError(f"{url} is longer than {LONGEST_TEXT} bytes, so it is not what it should be")
    return content.decode(errors="replace")


def _get(url: str, headers: dict[str, str]) -> requests.Response:
    # Compressed on the way, its length would say nothing.
    return requests.get(
        url,
        headers={"Accept-Encoding": "identity", **headers},
        stream=True,
        timeout=(CONNECT_SECONDS, READ_SECONDS),
    )


def _expect(url: str, answer: requests.Response, *wanted: HTTPStatus) -> None:
    if answer.status_code not in wanted:
        raise PreflightError(f"{url} answers {answer.status_code} {answer.reason}")
