"""nginx takes over a renewed provisioning certificate by itself: its files are watched, and SIGHUP has it read them."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from web import __main__ as main
from web import nginx


class Child:
    """A child that is up, and writes down what it is told."""

    def __init__(self, pid: int | None = 7) -> None:
        self.pid = pid
        self.kept = 0
        self.signals: list[int] = []

    def keep(self) -> None:
        """Do nothing: it is up, or in its pause."""
        self.kept += 1

    def signal(self, number: int) -> None:
        self.signals.append(number)


class Rounds:
    """Stops after a few rounds, and does something in each."""

    def __init__(self, *acts: Any) -> None:
        self._acts = list(acts)

    @property
    def asked(self) -> bool:
        if not self._acts:
            return True
        self._acts.pop(0)()
        return False


@pytest.fixture(name="work")
def fixture_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(main, "ROUND_SECONDS", 0)
    for path in nginx.WATCHED:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"old")
        os.utime(path, ns=(1, 1))
    return tmp_path


@pytest.mark.parametrize("renewed", ["server.crt", "server.key"])
def test_a_renewed_certificate_is_read_once(work: Path, renewed: str) -> None:
    place = work / "pki" / "provisioning" / renewed

    def renew() -> None:
        fresh = place.with_suffix(".new")
        fresh.write_bytes(b"new")
        fresh.replace(place)

    front, back = Child(), Child()
    main._keep(front, back, Rounds(lambda: None, renew, lambda: None, lambda: None))  # type: ignore[arg-type]

    assert (front.signals, back.signals) == ([signal.SIGHUP], [])


@pytest.mark.usefixtures("work")
def test_without_a_change_nothing_is_read_again() -> None:
    front = Child()
    main._keep(front, Child(), Rounds(*[lambda: None] * 3))  # type: ignore[arg-type]

    assert front.signals == []


@pytest.mark.usefixtures("work")
def test_machines_are_answered_while_the_application_cannot_start() -> None:
    """Nobody listened if the application ended between two looks at its socket."""
    begins, ended = Child(pid=None), Child(pid=None)
    main._keep(begins, ended, Rounds(lambda: None))  # type: ignore[arg-type]
    waits = Child(pid=None)
    main._keep(waits, Child(), Rounds(lambda: None))  # type: ignore[arg-type]

    assert (begins.kept, waits.kept) == (1, 0)
