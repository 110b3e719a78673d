"""A store in trouble is told of once a minute, not once per request."""

import logging

import pytest

from bootstrap.errors import StateError
from web.quiet import EVERY_SECONDS, MOST_TROUBLES, OneAMinute


class Told:
    """A log behind the filter, with a clock set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.filter = OneAMinute(lambda: self.now)
        self.lines: list[str] = []

    def log(self, text: str, *values: object) -> None:
        record = logging.LogRecord("web", logging.ERROR, "here", 1, text, values, None)
        if self.filter.filter(record):
            self.lines.append(record.getMessage())


@pytest.fixture
def told() -> Told:
    return Told()


def test_the_same_trouble_is_told_once_a_minute_with_its_count(told: Told) -> None:
    for _ in range(100):
        told.log("the store failed: %s", StateError("state.db: cannot write: disk is full"))
    told.now += EVERY_SECONDS
    told.log("the store failed: %s", StateError("state.db: cannot write: disk is full"))

    assert told.lines == [
        "the store failed: state.db: cannot write: disk is full",
        "the store failed: state.db: cannot write: disk is full (99 more like it since it was last told)",
    ]


def test_whoever_tells_of_it_the_trouble_is_the_same(told: Told) -> None:
    error = StateError("state.db: cannot write: disk is full")
    told.log("the store failed: %s", error)
    told.log("%s: the boot was answered but not recorded: %s", "52:54:00:00:00:01", error)

    assert len(told.lines) == 1


def test_another_trouble_and_other_lines_pass(told: Told) -> None:
    told.log("the store failed: %s", StateError("state.db: cannot write"))
    told.log("the store failed: %s", StateError("state.db: cannot read"))
    for _ in range(3):
        told.log("nginx ended (exit %d)", 1)

    assert len(told.lines) == 5


def test_what_is_remembered_is_bounded(told: Told) -> None:
    for number in range(10 * MOST_TROUBLES):
        told.log("%s", StateError(str(number)))

    assert len(told.lines) == 10 * MOST_TROUBLES
    assert len(told.filter._troubles) <= MOST_TROUBLES  # memory cannot be seen from outside
