"""The breaker of boot loops; its events are typed by hand."""

from collections.abc import Iterable
from datetime import timedelta

import pytest

from bootstrap.boot import Boot, Install, Leave, Local, Rescue, Wait
from bootstrap.explain.breaker import MOST_SAME, TRY_AGAIN, judged, same_boots
from bootstrap.records.model import Event, MachineRecord
from bootstrap.states import State
from tests.unit.explain.seen import START, after, event

INSTALL = Install(arm="arm-1", reason="installing w1, attempt 1 of 3")
BOOT = ("network-boot", "install")


class Machine:
    """A machine that asks for its script, and what is remembered of it."""

    def __init__(self) -> None:
        self.record = MachineRecord(mac="52:54:00:77:00:01", name="w1", state=State.ARMED, since=START)
        self.events: list[Event] = []
        self.looks = 0

    def asks(self, seconds: float, boot: Boot = INSTALL) -> Boot:
        given, loop = judged(boot, self.record, after(seconds), events=self._look, page=lambda: ("cause: x",))
        self.record = self.record.but(loop=loop)
        self.events.append(event(seconds, "network-boot", type(given).__name__.lower()))
        return given

    def does(self, seconds: float, *what: str) -> None:
        self.events += [event(seconds, one) for one in what]

    def _look(self) -> Iterable[Event]:
        self.looks += 1
        return self.events


def test_the_fourth_same_boot_is_the_rescue_page() -> None:
    machine = Machine()
    given = [machine.asks(100 * number) for number in range(4)]

    assert given[:3] == [INSTALL] * MOST_SAME
    assert isinstance(given[3], Rescue)
    assert "machine explain w1" in given[3].reason
    assert ("cause: x", "it tries once more at 00:15:00 UTC, or at once after: machine arm w1") == given[
        3
    ].lines
    assert machine.record.loop.since == after(300)


def test_ipxe_that_asks_again_after_a_lost_download_is_the_same_boot() -> None:
    """install.ipxe tries again after some seconds: that is no boot, and seconds are not long enough to give up."""
    machine = Machine()

    assert [INSTALL] * 15 == [machine.asks(4 * number) for number in range(15)]
    assert isinstance(machine.asks(61), Rescue)


@pytest.mark.parametrize("further", [("fetched",), ("facts",), ("begin",), ("failed",), ("complete",)])
def test_a_boot_that_comes_further_is_no_loop(further: tuple[str, ...]) -> None:
    machine = Machine()
    for number in range(3):
        machine.asks(100 * number)
    machine.does(250, *further)

    assert INSTALL == machine.asks(300)


def test_a_boot_that_comes_as_far_as_the_last_one_each_time_is_one() -> None:
    """The kernel starts, its installer reports what it found, and the machine dies there."""
    machine = Machine()
    given = []
    for number in range(4):
        given.append(machine.asks(100 * number))
        machine.does(100 * number + 50, "fetched", "facts")

    assert isinstance(given[3], Rescue)


def test_a_boot_that_falls_back_is_no_progress() -> None:
    seen = [event(0, *BOOT), event(10, "facts"), event(100, *BOOT), event(200, *BOOT), event(210, "fetched")]

    assert 3 == same_boots(seen)


@pytest.mark.parametrize("boot", [Local(reason="x"), Wait(reason="x"), Leave(reason="x")])
def test_what_installs_nothing_is_never_held(boot: Boot) -> None:
    """A healthy machine may restart as often as it likes."""
    machine = Machine()

    assert [boot] * 50 == [machine.asks(30 * number, boot) for number in range(50)]
    assert 0 == machine.looks


def test_write_passes_are_counted_elsewhere() -> None:
    """A machine that is cut while it writes is the business of its three passes, which find the disk's marker."""
    machine = Machine()
    for number in range(6):
        assert INSTALL == machine.asks(100 * number)
        machine.does(100 * number + 50, "fetched", "facts", "begin")


def test_a_held_machine_tries_slowly_and_goes_on_when_the_cause_is_gone() -> None:
    machine = Machine()
    for number in range(4):
        machine.asks(100 * number)
    again = 300 + TRY_AGAIN.total_seconds()

    assert isinstance(machine.asks(again - 1), Rescue)
    assert INSTALL == machine.asks(again)
    assert isinstance(machine.asks(again + 30), Rescue)
    machine.does(again + 40, "fetched", "facts")
    assert INSTALL == machine.asks(again + TRY_AGAIN.total_seconds())
    assert machine.record.loop.since is None


def test_a_clock_that_was_set_back_holds_nobody_for_long() -> None:
    machine = Machine()
    for number in range(4):
        machine.asks(1e6 + 100 * number)

    assert INSTALL == machine.asks(0)


def test_looking_through_the_events_is_rare() -> None:
    machine = Machine()
    for second in range(0, 3600, 10):
        machine.asks(second)

    assert machine.looks <= 3600 / TRY_AGAIN.total_seconds() + 2


def test_the_time_between_tries_is_longer_than_a_boot() -> None:
    assert TRY_AGAIN > timedelta(minutes=5)
