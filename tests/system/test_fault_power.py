"""The power of the appliance's computer is cut while machines report: nothing acknowledged is lost (R-14)."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap import image
from bootstrap.artifacts import Manifest
from bootstrap.image import Options
from bootstrap.progress import silent
from tests.system.power_rack import Rack, rack
from tests.system.spine import CACHE
from tests.system.storage_bench import History, Stored, hold, reporting
from tests.tier import Promise, dice, rounds, seed

pytestmark = [pytest.mark.system, pytest.mark.promise]

MACHINES = 16
PATIENCE_SECONDS = 120.0
SHORTEST, LONGEST = 0.2, 4.0  # seconds between the first acknowledged reports and the cut


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return image.build(Options(kernel="cloud"), CACHE, silent)


@pytest.fixture
def computer(tmp_path: Path, manifest: Manifest) -> Iterator[Rack]:
    with rack(tmp_path, manifest, CACHE, MACHINES) as made:
        yield made


def life(computer: Rack, seconds: float) -> History:
    """Switch the computer on, let the machines boot and report, cut the power; return what they were told."""
    history = History()
    computer.power_on()
    with reporting(computer.crew(history)):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(history.acknowledged()) < MACHINES:
            assert time.monotonic() < deadline, (history.statuses(), computer.story())
            time.sleep(0.01)
        time.sleep(seconds)
        computer.cut_power()
    return history


def test_no_power_cut_loses_what_was_acknowledged(computer: Rack, promise: Promise) -> None:
    """After each cut the disk is looked at, and the next life begins from it without anybody's help.

    A machine reports fewer than 200 times in a life, so that its log has dropped none of that life's events.
    """
    times, chance = rounds(ci=3, soak=20), dice("power")
    acknowledged, cut, last = 0, 0, 0
    for _ in range(times):
        history = life(computer, chance.uniform(SHORTEST, LONGEST))
        found = computer.look()
        hold(found, history, after=last)
        assert found.last > last
        assert set(history.statuses()) <= {0, 200, 429}, history.statuses()
        acknowledged, cut, last = (
            acknowledged + len(history.acknowledged()),
            cut + history.statuses()[0],
            found.last,
        )
    promise(
        promise="R-14 power cut of the appliance",
        asked="0 acknowledged events lost, store whole and gap-free, boots resume by themselves",
        done=f"{times} times SIGKILL of the VM under {MACHINES} reporting machines",
        found=f"{acknowledged} acknowledged, 0 lost; serving {max(computer.boots):.0f} s after power on (emulated)",
        seed=seed(),
    )


def test_this_test_can_fail_without_syncs_a_power_cut_loses_events(computer: Rack) -> None:
    """The same with SQLite told not to sync, by a switch of the VM: were nothing lost, the above proved nothing."""
    computer.careless = True
    history = life(computer, LONGEST)

    assert lost_all_over(computer, history) > 0


def lost_all_over(computer: Rack, history: History) -> int:
    """Return how many acknowledged events are gone: all of them if the store is not even there."""
    try:
        found: Stored = computer.look()
    except (OSError, sqlite3.Error):
        return len(history.acknowledged())
    return len(found.lost(history))
