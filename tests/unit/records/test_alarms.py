"""Alarms of the network: an event at their beginning and end, shown as long as they are repeated."""

from datetime import UTC, datetime, timedelta

import pytest

from bootstrap.records.alarms import LASTS, MOST_ALARMS, Alarms
from bootstrap.records.ledger import UNKNOWN, Ledger
from bootstrap.state.memory import MemoryStore

MAC = "02:00:00:00:00:03"
ONE = f"rogue-dhcp/10.77.0.3/{MAC}"


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> Ledger:
    return Ledger(MemoryStore(), clock)


@pytest.fixture
def alarms(ledger: Ledger, clock: Clock) -> Alarms:
    return Alarms(ledger, clock)


def told(ledger: Ledger) -> list[str]:
    return [event.what for event in ledger.events_of(UNKNOWN)]


def test_an_alarm_that_is_repeated_is_one_alarm_and_one_event(
    alarms: Alarms, ledger: Ledger, clock: Clock
) -> None:
    for _ in range(5):
        alarms.raised(ONE, "rogue-dhcp", MAC, "a server")
        clock.passes(60)

    assert [alarm.first_seen for alarm in alarms.all()] == [datetime(2026, 1, 1, tzinfo=UTC)]
    assert told(ledger) == ["alarm"]


def test_an_alarm_that_nobody_repeats_is_over(alarms: Alarms, ledger: Ledger, clock: Clock) -> None:
    alarms.raised(ONE, "rogue-dhcp", MAC, "a server")
    clock.passes(LASTS.total_seconds())
    assert list(alarms.all())
    clock.passes(1)
    assert not list(alarms.all())

    alarms.raised(ONE, "rogue-dhcp", MAC, "a server")
    assert told(ledger) == ["alarm", "alarm"], "it is a new one"


def test_a_cleared_alarm_is_gone_and_said_so_once(alarms: Alarms, ledger: Ledger) -> None:
    alarms.raised(ONE, "rogue-dhcp", MAC, "a server")
    alarms.cleared(ONE, MAC, "it answers no more")
    alarms.cleared(ONE, MAC, "it answers no more")

    assert not list(alarms.all())
    assert told(ledger) == ["alarm", "alarm-cleared"]


def test_alarms_are_bounded_and_old_ones_make_room(alarms: Alarms, clock: Clock) -> None:
    for number in range(MOST_ALARMS + 5):
        alarms.raised(f"rogue-dhcp/{number}", "rogue-dhcp", MAC, "a server")
    assert len(list(alarms.all())) == MOST_ALARMS

    clock.passes(LASTS.total_seconds() + 1)
    alarms.raised("rogue-dhcp/new", "rogue-dhcp", MAC, "a server")
    assert [alarm.identity for alarm in alarms.all()] == ["rogue-dhcp/new"]
