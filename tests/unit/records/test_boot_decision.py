"""decide(): every state, with and without an image, listed and not."""

from typing import get_args

import pytest

from bootstrap.boot import Install, Leave, Local, Wait, decide
from bootstrap.model import BootFromDisk
from bootstrap.records.model import MachineRecord
from bootstrap.render.ipxe import on_console
from bootstrap.states import State
from tests.unit.web.fakes import W1, HandClock, cluster

MACHINE = cluster().machines[0]


def record(state: State, **changes: object) -> MachineRecord:
    return MachineRecord(mac=W1, name="w1", state=state, arm="arm-1", since=HandClock()()).but(**changes)


@pytest.mark.parametrize("state", [State.ARMED, State.INSTALLING])
def test_an_armed_machine_with_an_image_installs(state: State) -> None:
    boot = decide(MACHINE, record(state, attempts=1), image="debian 13")

    assert boot == Install(arm="arm-1", reason="installing w1, attempt 2 of 3")


@pytest.mark.parametrize("state", [State.ARMED, State.INSTALLING])
def test_without_an_image_it_waits_and_says_what_to_do(state: State) -> None:
    boot = decide(MACHINE, record(state), image=None)

    assert isinstance(boot, Wait)
    assert boot.reason == "w1 is armed, but the image of pool workers is not built - image build"


def test_used_up_passes_still_reach_the_installer_which_may_find_its_work_done() -> None:
    assert isinstance(decide(MACHINE, record(State.INSTALLING, attempts=3), image="i"), Install)


@pytest.mark.parametrize("state", [State.INSTALLED, State.JOINED, State.READY, State.GPU_READY])
@pytest.mark.parametrize("image", ["i", None])
def test_what_is_on_disk_boots_from_disk(state: State, image: str | None) -> None:
    assert decide(MACHINE, record(state), image=image) == Local(reason=f"w1 is {state}")


@pytest.mark.parametrize("method", get_args(BootFromDisk))
def test_the_way_to_the_disk_is_the_machines_and_a_retired_one_is_never_searched(
    method: BootFromDisk,
) -> None:
    kept = record(State.FAILED, keeps_system=True)
    given = [decide(MACHINE, one, image="i", method=method) for one in (record(State.READY), kept)]
    left = decide(MACHINE, record(State.RETIRED), image="i", method=method)

    assert [boot.method for boot in given if isinstance(boot, Local)] == [method, method]
    assert isinstance(left, Leave)
    assert left.method == ("ipxe-exit" if method == "localboot" else method)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (State.ACCEPTED, "w1 is accepted - arm it: machine arm w1"),
        (State.FAILED, "w1 is failed: no disk matches - remove the cause, then: machine arm w1"),
        (State.QUARANTINED, "w1 is quarantined"),
        (State.CONFLICT, "w1 is conflict"),
        (State.DISCOVERED, "w1 is discovered"),
    ],
)
def test_what_waits_for_a_person_waits_and_says_why(state: State, says: str) -> None:
    reason = "no disk matches" if state is State.FAILED else ""

    boot = decide(MACHINE, record(state, reason=reason), image="i")

    assert isinstance(boot, Wait)
    assert boot.reason.startswith(says)


def test_a_long_cause_leaves_room_on_the_console_for_the_remedy() -> None:
    boot = decide(MACHINE, record(State.FAILED, reason="/dev/sda holds data " * 30), image="i")

    assert isinstance(boot, Wait)
    assert "machine arm w1" in on_console(boot.reason)


def test_retired_unlisted_and_removed_machines_are_left_alone() -> None:
    assert isinstance(decide(MACHINE, record(State.RETIRED), image="i"), Leave)
    assert decide(None, None, image="i") == Leave(reason="this machine is not in the configuration")
    assert decide(None, record(State.ARMED), image="i") == Leave(
        reason="w1 is no longer in the configuration"
    )


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("image", ["i", None])
def test_only_an_armed_window_installs(state: State, image: str | None) -> None:
    boot = decide(MACHINE, record(state), image=image)

    assert isinstance(boot, Install) == (state in {State.ARMED, State.INSTALLING} and image is not None)


def test_a_listed_machine_without_a_record_waits() -> None:
    assert isinstance(decide(MACHINE, None, image="i"), Wait)
