"""A child is started again, ends with its group, and what a killed parent left is found by its session and folder."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from web import children
from web.children import Child, end_leftovers

SLEEPS = (sys.executable, "-IS", "-c", "import time; time.sleep(60)")
FORKS = (sys.executable, "-IS", "-c", "import os, time; os.fork(); time.sleep(60)")


@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(children, "FIRST_PAUSE_SECONDS", 0.01)
    return tmp_path / "child.session"


@pytest.fixture
def orphan(note: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start what a killed parent would have left, in a session of its own with one more process."""
    process = subprocess.Popen(FORKS, start_new_session=True)
    note.write_text(str(process.pid))
    assert comes_true(lambda: len(children._members(process.pid)) == 2)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def comes_true(question: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not question() and time.monotonic() < deadline:
        time.sleep(0.02)
    return question()


def test_a_child_that_died_is_started_again_and_noted(note: Path) -> None:
    child = Child("one", SLEEPS, before=lambda: None, note=note)
    try:
        child.keep()
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)

        def is_back() -> bool:
            child.keep()
            return child.pid not in (None, first)

        assert comes_true(is_back)
        assert note.read_text() == str(child.pid)
    finally:
        child.end()


def test_what_a_killed_web_left_is_ended_before_it_can_remove_the_new_ones_sockets(
    note: Path, orphan: subprocess.Popen[bytes]
) -> None:
    assert len(end_leftovers(note)) == 2
    assert orphan.wait(10) == -signal.SIGKILL
    assert children._members(orphan.pid) == ()
    assert not note.exists()


def test_a_session_of_another_folder_is_somebody_elses(
    note: Path, orphan: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert end_leftovers(note) == ()
    assert orphan.poll() is None


@pytest.mark.parametrize("text", [None, "", "no number", "999999999"])
def test_a_note_that_names_nobody_ends_nobody(note: Path, text: str | None) -> None:
    if text is not None:
        note.write_text(text)
    assert end_leftovers(note) == ()
