import os
from pathlib import Path

import pytest

from bootstrap import background
from bootstrap.errors import ServeError
from bootstrap.operator import Operator
from bootstrap.workplace import Workplace


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """Return a work folder whose appliance is this process: it is there, and never the one that `up` would end."""
    made = Workplace(tmp_path, "c1")
    made.make()
    monkeypatch.setattr(background, "start_detached", lambda *_: os.getpid())
    monkeypatch.setattr(background, "is_answering_dhcp", lambda _: True)
    monkeypatch.setattr(background, "READY_SECONDS", 1.0)
    return made


def test_a_part_that_dies_right_after_the_appliance_was_ready_does_not_stop_it(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([True, False, False])
    monkeypatch.setattr(Operator, "is_ready", lambda _: next(answers))
    background.start(place, [])
    assert place.serve_pid.read_text() == str(os.getpid())


def test_an_appliance_that_never_gets_ready_is_stopped_and_its_log_shown(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Operator, "is_ready", lambda _: False)
    with pytest.raises(ServeError, match="did not start"):
        background.start(place, [])
    assert not place.serve_pid.exists()


def test_an_up_right_after_a_kill_does_not_take_the_dying_appliance_for_the_new_one(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts of a killed `serve` answer until their SIGTERM has come through."""
    leftovers = ["web", "pxe"]
    asked: list[list[str]] = []

    def end_parts(_: Workplace) -> bool:
        leftovers.clear()
        return True

    def is_ready(_: Operator) -> bool:
        asked.append(list(leftovers))
        return True

    monkeypatch.setattr(background, "end_parts", end_parts)
    monkeypatch.setattr(Operator, "is_ready", is_ready)
    background.start(place, [])
    assert asked == [[]]
