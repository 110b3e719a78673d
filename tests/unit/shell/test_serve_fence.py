"""`serve` looks whether the appliance was handed over, at a moment when a handover that begins would find it."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bootstrap import serve
from bootstrap.errors import UsageError
from bootstrap.handover import fence
from bootstrap.workplace import Workplace


class Idle:
    """An engine that is never to be asked for anything but to clear up."""

    end_seconds = 1.0

    def __init__(self, place: Workplace) -> None:
        self.troubles = place.work / "run" / "troubles"
        self.is_closed = False

    def prepare(self) -> object:
        raise AssertionError("it was handed over")

    def command(self, part: str, *words: str) -> tuple[str, ...]:
        return ("false", part, *words)

    def before_start(self, part: str) -> None:
        raise AssertionError(part)

    def follow(self) -> None:
        raise AssertionError("nothing runs")

    def close(self) -> None:
        self.is_closed = True


def test_after_a_handover_it_does_not_start_and_its_pid_was_there_when_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handover that begins right now finds the pid, or its fence is found here."""
    place, seen, real = Workplace(tmp_path, "c1"), list[str](), fence.refuse
    monkeypatch.setattr(serve, "Stop", lambda: None)
    monkeypatch.setattr(serve, "end_parts", lambda _: False)

    def refuse(work: Path, name: str) -> None:
        seen.append(place.serve_pid.read_text())
        real(work, name)

    monkeypatch.setattr(fence, "refuse", refuse)
    place.make()
    standing = fence.Fence(id="0" * 12, node="w1", at=datetime(2026, 11, 23, tzinfo=UTC), stage="closed")
    fence.write(place.work, standing)
    engine = Idle(place)

    with pytest.raises(UsageError, match="handover --back"):
        serve.serve(place, engine)
    assert seen == [str(os.getpid())]
    assert engine.is_closed
    assert not place.serve_pid.exists()
