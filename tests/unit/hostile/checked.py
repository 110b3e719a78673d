"""Runs `check` on a file as the command line does, and holds the outcome against what is promised of it."""

import contextlib
import io
import re
import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bootstrap.cli import run

MOST_SECONDS = 10
MOST_MEMORY = 512 * 1024**2  # bytes above what the process has mapped already
LOCATED = re.compile(r"(?P<file>[^:]+):(?P<line>\d+):(?P<column>\d+): \S.*")


@dataclass
class Tally:
    """What came of many files: how many gave each exit code, and the slowest one in seconds."""

    codes: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0

    def of(self, code: int) -> int:
        """Return how many files gave this exit code."""
        return self.codes[code]


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Let a file that takes too long or too much memory fail inside the program, where no handler expects it."""
    mapped = int(re.findall(r"VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MOST_MEMORY, limits[1]))
    before = signal.signal(signal.SIGALRM, _too_long)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _too_long(number: int, frame: object) -> None:
    del number, frame
    raise TimeoutError(f"took more than {MOST_SECONDS} s")


def check(path: Path, text: bytes, tally: Tally) -> None:
    """Write `text` to `path`, run `check` on it, and assert what is promised; `guarded` must be in force."""
    path.write_bytes(text)
    out, err = (
        io.TextIOWrapper(io.BytesIO(), "latin-1"),
        io.TextIOWrapper(io.BytesIO(), "latin-1", "backslashreplace"),
    )
    began = time.perf_counter()
    signal.alarm(MOST_SECONDS)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = run(["--config", str(path), "check"])
        except BaseException:  # noqa: BLE001  # whatever comes out is what the test is about
            code = -1
            traceback.print_exc(file=err)
    signal.alarm(0)
    tally.slowest = max(tally.slowest, time.perf_counter() - began)
    tally.codes[code] += 1
    out.flush()
    err.flush()
    judge(path, text, code, out.buffer.getvalue().decode("latin-1"), err.buffer.getvalue().decode("latin-1"))


def judge(path: Path, text: bytes, code: int, out: str, err: str) -> None:
    """Assert that a `check` of the file ended as promised: fine, or each problem with its place."""
    story = (code, out[-500:], err[-3000:], text[:3000])
    assert code in {0, 2}, story
    assert "Traceback" not in err, story
    if code == 0:
        assert out.startswith(f"{path}: cluster "), story
        assert all(line.startswith(("addon ", "not yet: ", "pool ")) for line in out.splitlines()[1:]), story
        assert err == "", story
        return
    assert out == "", story
    lines_in_file = len(re.split(rb"\r\n|[\n\r\x85]|\xe2\x80[\xa8\xa9]", text))
    assert err.endswith("\n"), story
    for line in err[:-1].split("\n"):
        match = LOCATED.fullmatch(line)
        assert match, (line, story)
        assert match["file"] == str(path), story
        assert 1 <= int(match["line"]) <= lines_in_file + 1, (line, lines_in_file, story)
        assert int(match["column"]) >= 1, story
