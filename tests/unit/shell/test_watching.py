from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bootstrap import watch
from bootstrap.errors import ServeError
from bootstrap.operator import NotRunning, Operator
from bootstrap.progress import Progress, silent
from bootstrap.status import age, is_broken, is_done, message, row, stranger

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
INSTALLING = {"name": "w1", "state": "installing", "stage": "disk", "percent": 10}
DONE = {
    "name": "w1",
    "state": "installed",
    "sshAnswers": True,
    "bootedAt": "2026-11-22T11:59:00Z",
    "message": "booted from disk, ssh answers",
}
FAILED = {"name": "w2", "state": "failed", "reason": "2 disks match"}


class Answers(Operator):
    """An appliance that gives the next of its answers each time; the last one stays."""

    def __init__(self, *answers: Sequence[dict[str, Any]] | ServeError) -> None:
        super().__init__(Path("none"))
        self._answers = list(answers)

    def machines(self) -> list[dict[str, Any]]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, ServeError):
            raise answer
        return list(answer)


class Told:
    """A reporter that keeps what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def step(self, name: str) -> Iterator[Progress]:
        self.lines.append(name)
        yield silent

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(watch, "PATIENCE_SECONDS", 0.1)


def watched(
    operator: Operator, *names: str, timeout: float = 5, **fresh: datetime
) -> tuple[list[dict[str, Any]], list[str]]:
    told = Told()
    found = watch.machines_until_settled(operator, names, told, fresh=fresh, timeout_seconds=timeout)
    return found, told.lines


def test_the_wait_ends_when_each_machine_runs_or_needs_a_person() -> None:
    found, told = watched(Answers([INSTALLING, FAILED], [DONE, FAILED]), "w1", "w2")

    assert found == [DONE, FAILED]
    assert told == [
        "w1: installing  disk 10 %",
        "w2: failed  2 disks match",
        "w1: installed  booted from disk, ssh answers",
    ]


def test_the_wait_ends_with_its_time() -> None:
    found, _ = watched(Answers([INSTALLING]), "w1", timeout=0.05)

    assert found == [INSTALLING]


def test_a_machine_that_was_not_asked_for_is_not_waited_for() -> None:
    assert watched(Answers([INSTALLING, FAILED]), "w2")[0] == [INSTALLING, FAILED]
    assert watched(Answers([INSTALLING]))[0] == [INSTALLING]


def test_a_machine_just_switched_on_must_come_up_anew() -> None:
    again = {**DONE, "bootedAt": "2026-11-22T12:01:00Z"}

    found, _ = watched(Answers([DONE], [DONE], [again]), "w1", w1=NOW)

    assert found == [again]


def test_each_quarter_of_a_long_stage_is_told_once() -> None:
    steps = [[{**INSTALLING, "percent": percent}] for percent in range(0, 101, 5)]

    _, told = watched(Answers(*steps, [DONE]), "w1")

    assert told == [
        *(f"w1: installing  disk {percent} %" for percent in (0, 25, 50, 75, 100)),
        "w1: installed  booted from disk, ssh answers",
    ]


@pytest.mark.parametrize("gone", [NotRunning("gone"), ServeError("the appliance answered 500")])
def test_an_appliance_that_is_restarted_does_not_end_the_wait(gone: ServeError) -> None:
    assert watched(Answers([INSTALLING], gone, gone, [DONE]), "w1")[0] == [DONE]


@pytest.mark.parametrize("gone", [NotRunning("gone"), ServeError("the appliance answered 500")])
def test_an_appliance_gone_for_long_ends_the_wait(gone: ServeError) -> None:
    with pytest.raises(type(gone), match=str(gone)):
        watched(Answers([INSTALLING], gone), "w1")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (41, "41s"),
        (119, "119s"),
        (310, "5m10s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (47 * 3600, "47h"),
        (49 * 3600, "2d"),
    ],
)
def test_ages_are_short(seconds: int, text: str) -> None:
    assert age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == text
    assert age(None, NOW) == "-"


def test_a_row_shows_a_dash_for_what_is_not_known() -> None:
    assert row({"name": "w1", "state": "discovered"}, NOW) == ("w1", "-", "discovered", *"-----"[:4], "")


def test_a_row_has_what_the_issue_promises() -> None:
    machine = {
        **DONE,
        "pool": "workers",
        "firmware": "bios",
        "address": "10.77.0.101",
        "disk": "virtio-w1-root 8 GiB",
        "since": "2026-11-22T11:59:19Z",
    }

    assert "  ".join(row(machine, NOW)) == (
        "w1  workers  installed  bios  10.77.0.101  virtio-w1-root 8 GiB  41s  booted from disk, ssh answers"
    )


def test_a_message_shows_the_stage_only_while_it_installs() -> None:
    assert message({**INSTALLING, "message": "4 MiB/s"}) == "disk 10 %  4 MiB/s"
    assert message({**INSTALLING, "percent": None}) == "disk 0 %"
    assert message({**INSTALLING, "state": "failed", "reason": "no disk"}) == "no disk"


@pytest.mark.parametrize("change", [{"sshAnswers": False}, {"bootedAt": None}, {"state": "installing"}])
def test_a_machine_is_not_done_before_it_came_up_and_answers(change: dict[str, Any]) -> None:
    assert is_done(DONE)
    assert not is_done({**DONE, **change})


def test_what_was_reported_before_no_longer_counts() -> None:
    assert is_done(DONE, NOW - timedelta(minutes=1))
    assert not is_done(DONE, NOW)


@pytest.mark.parametrize("state", ["failed", "quarantined", "conflict"])
def test_a_broken_machine_waits_for_a_person(state: str) -> None:
    assert is_broken({"state": state})
    assert not is_broken(INSTALLING)
    assert is_broken({**INSTALLING, "isLooping": True})


def test_a_stranger_has_a_row_with_its_mac() -> None:
    seen = {
        "mac": "02:00:00:00:00:09",
        "firstSeen": "2026-11-22T11:59:19Z",
        "said": {"platform": "efi"},
        "state": "discovered",
    }

    cells = row(stranger(seen), NOW)

    assert cells[:4] == ("02:00:00:00:00:09", "-", "discovered", "uefi")
    assert "not in the configuration: machine accept 02:00:00:00:00:09 --pool POOL" in cells[-1]
