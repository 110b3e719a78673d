"""`gpu upgrade` with the real application and its gate: one node at a time, back where it fails, and cut anywhere."""

from pathlib import Path

import pytest

from bootstrap.gpu.mark import Stage, mark_from
from bootstrap.gpu.rollout import What
from tests.unit.shell.upgrading_world import World
from tests.unit.web.upgrade_rack import (
    MACS,
    NEW_KERNEL,
)

HOT = {"lines": ()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_where_every_node_runs_the_pair_of_its_image_nothing_is_done(world: World) -> None:
    assert [one.what for one in world.plans()] == [What.NOTHING] * 3
    assert world.upgrade() == ((), None)
    assert (world.nodes.done, world.rack.cuts) == ([], [])


def test_a_new_image_comes_to_one_node_after_the_other(world: World) -> None:
    world.build()
    plan = world.plans()[0]
    assert (plan.what, plan.now, str(plan.wanted), str(plan.back)) == (
        What.INSTALL,
        "550.163.01 (closed) for 6.12.107-cloud-amd64",
        "550.163.02 (closed) for 6.12.117-cloud-amd64",
        "550.163.01 (closed) for 6.12.107-cloud-amd64",
    )
    world.nodes.pods = {"w2": ["default/a"]}
    seen: list[tuple[str, set[str]]] = []
    world.nodes.hook = lambda what: seen.append((what, set(world.nodes.cordoned)))

    assert world.upgrade() == (("w1", "w2", "w3"), None), world.told

    assert world.runs() == dict.fromkeys(MACS, "new")
    assert world.rack.cuts == [f"{name} netboot-and-cycle" for name in MACS]
    assert all(cordoned == {what.split()[1]} for what, cordoned in seen if what.startswith("evict"))
    assert all(len(cordoned) <= 1 for _, cordoned in seen)
    evicted = [what for what in world.nodes.done if what.startswith("evict")]
    assert evicted == ["evict w1", "evict w2", "evict w2", "evict w3"]
    assert world.is_quiet()
    assert "w2: default/a leaving" in world.told
    assert (
        world.told[-1] == "w3: verified with 550.163.02 (closed) for 6.12.117-cloud-amd64; takes pods again"
    )


def test_pods_are_gone_before_the_disk_may_be_written(world: World) -> None:
    world.build()
    arms = {name: world.rack.of(name).arm for name in MACS}
    seen: list[bool] = []
    world.nodes.hook = lambda what: seen.append(world.rack.of("w1").arm == arms["w1"] or what != "evict w1")
    world.upgrade()

    assert all(seen)


def test_nodes_that_are_not_upgraded_yet_keep_their_driver_and_their_work(world: World) -> None:
    """The pool wants another branch: what was verified with the former one stays verified."""
    world.build("535.274.02", NEW_KERNEL, "other")
    world.configure(driver=535)
    world.rack.turn()

    assert world.is_quiet()
    verdict = (
        "1 GPUs verified, driver 550.163.01 (closed); behind plan, its pool wants 535 (closed): gpu upgrade"
    )
    assert world.rack.machine("w3")["gpu"]["verdict"] == verdict
    assert world.upgrade() == (("w1", "w2", "w3"), None)
    assert world.runs() == dict.fromkeys(MACS, "other")
    assert world.is_quiet()
    assert world.rack.machine("w3")["gpu"]["verified"] == "535.274.02 (closed)"


def test_one_that_fails_the_gate_goes_back_and_the_rest_is_left_alone(world: World) -> None:
    world.build()
    world.rack.spoiled["new"] = {"lines": (), "failure": "NVRM: API mismatch"}

    done, stop = world.upgrade()

    assert (done, stop and stop.name) == ((), "w1")
    assert str(stop) == (
        "w1: the gate holds it back: driver: NVRM: API mismatch; run nvidia-smi on the node; look for NVRM and Xid in "
        "its kernel log; set back to 550.163.01 (closed) for 6.12.107-cloud-amd64, verified, and takes pods again"
    )
    assert world.runs() == dict.fromkeys(MACS, "old")
    assert world.rack.cuts == ["w1 netboot-and-cycle"] * 2
    message = world.rack.machine("w1")["message"]
    assert message.endswith("driver 550.163.01; set back to driver 550 (closed), gpu upgrade tries again")
    assert 600 <= world.seconds < 700
    assert world.is_quiet()
    assert not [what for what in world.nodes.done if "w2" in what or "w3" in what]


def test_a_node_that_looks_less_often_may_say_so_twice(world: World) -> None:
    world.configure(checkInterval="20m")
    world.build()
    world.rack.spoiled["new"] = {"lines": (), "failure": "NVRM: API mismatch"}

    _, stop = world.upgrade(seconds=20000)

    assert stop is not None
    assert stop.reason.startswith("the gate holds it back")
    assert 2400 <= world.seconds < 2500


def test_a_node_that_was_cordoned_by_hand_stays_so(world: World) -> None:
    world.build()
    world.nodes.cordoned.add("w1")

    assert world.upgrade() == (("w1", "w2", "w3"), None)
    assert world.nodes.cordoned == {"w1"}
    assert not world.nodes.annotations
    assert any(text.endswith("stays cordoned, as it was before") for text in world.told)


def test_a_machine_that_was_retired_meanwhile_is_left_alone(world: World) -> None:
    world.build()
    inner = world.rack.power

    def power(name: str, action: str) -> str:
        if name == "w1":
            assert world.rack.operator("POST", "/v1/machines/w2/retire").status_code == 200
        return inner(name, action)

    world.rack.power = power  # type: ignore[method-assign]
    assert world.upgrade() == (("w1", "w3"), None)

    assert world.rack.of("w2").state == "retired"
    assert world.runs()["w2"] == "old"
    assert (
        "w2: left out by now: no node of the cluster: it gets the driver when it is installed" in world.told
    )
    assert not world.nodes.cordoned


def test_a_branch_that_fails_goes_back_to_the_former_one_and_a_rerun_tries_again(world: World) -> None:
    world.build("535.274.02", NEW_KERNEL, "other")
    world.configure(driver=535)
    world.rack.spoiled["other"] = {"state": "driver-missing", "driver": "", "flavour": "", "lines": ()}

    _, stop = world.upgrade()

    assert stop is not None
    assert "set back to 550.163.01 (closed)" in str(stop)
    assert world.is_quiet()
    assert world.rack.machine("w1")["gpu"]["pin"] == {"driver": "550 (closed)", "image": "old"}
    assert world.rack.machine("w2")["gpu"]["pin"] is None

    world.rack.spoiled.clear()
    assert world.upgrade() == (("w1", "w2", "w3"), None)
    assert world.runs() == dict.fromkeys(MACS, "other")
    assert world.rack.machine("w1")["gpu"]["pin"] is None
    assert world.is_quiet()


def test_one_that_was_set_back_stays_so_when_it_is_armed_by_hand(world: World) -> None:
    world.build()
    world.rack.spoiled["new"] = {"lines": (), "failure": "NVRM: API mismatch"}
    world.upgrade()

    world.rack.operator("POST", "/v1/machines/w1/arm")
    world.rack.boots("w1")
    assert world.runs()["w1"] == "old"


def test_a_machine_that_does_not_come_back_in_time_stops_the_rest(world: World) -> None:
    world.build()
    cuts: list[str] = []

    def dies(name: str, action: str) -> str:
        cuts.append(f"{name} {action}")
        if len(cuts) == 1:
            world.rack.begin(MACS[name])  # its installer hangs
            return ""
        world.rack.boots(name)
        return ""

    world.rack.power = dies  # type: ignore[method-assign]
    _, stop = world.upgrade(seconds=60)

    assert stop is not None
    assert stop.reason.startswith(
        "not verified with 550.163.02 (closed) for 6.12.117-cloud-amd64 after 60 s: "
    )
    assert stop.after.startswith("set back to 550.163.01")
    assert world.is_quiet()


def test_without_a_power_driver_it_says_so_and_waits_and_the_next_run_goes_on(world: World) -> None:
    world.build()
    done, stop = world.upgrade(by_hand=True, seconds=60)

    assert (done, stop and stop.name) == ((), "w1")
    assert str(stop) == (
        "w1: it has not booted from the network; it is armed still and takes no pods: power it off and on, and run "
        "this again"
    )
    assert "w1: switch it by hand" in world.told
    assert world.rack.cuts == ["w1 netboot-and-cycle by hand"]
    arm = world.rack.of("w1").arm

    world.rack.boots("w1")
    assert world.upgrade() == (("w1", "w2", "w3"), None)
    assert world.rack.of("w1").arm == arm
    assert world.is_quiet()


def test_pods_that_stay_leave_the_node_as_it_was(world: World) -> None:
    world.build()
    arm = world.rack.of("w1").arm
    world.nodes.pods, world.nodes.stuck = {"w1": ["default/a", "default/b"]}, {"default/b"}

    done, stop = world.upgrade(seconds=10)

    assert done == ()
    assert str(stop) == (
        "w1: default/b still there after 10 s; look at their disruption budgets, and run this again; it runs what it "
        "ran, and takes pods again"
    )
    assert (world.rack.of("w1").arm, world.rack.cuts) == (arm, [])
    assert world.is_quiet()


def test_a_machine_that_may_not_be_armed_leaves_the_node_as_it_was(world: World) -> None:
    world.build()
    facts = {"mac": MACS["w1"], "arm": world.rack.of("w1").arm, "kind": "facts"}
    gpus = [{"address": "0000:01:00.0", "vendor": "10de", "device": "1eb8"}] * 2
    world.rack.ask("machine", "POST", "/v1/machine/events", json={**facts, "gpus": gpus})

    done, stop = world.upgrade()

    assert done == ()
    assert "pool workers expects 1 GPUs, it shows 2" in str(stop)
    assert world.is_quiet()


class Cut(Exception):  # noqa: N818  # stands for Ctrl-C
    """Somebody ends the command."""


Place = tuple[str, str, str]
PLACES: tuple[Place, ...] = (
    ("nodes", "patch_node", "w1"),
    ("nodes", "evict_pods", "w1"),
    ("rack", "power", "w1"),
    ("", "sleep", ""),
    ("nodes", "patch_node", "w2"),
    ("nodes", "evict_pods", "w3"),
)
"""Whose method does what to which machine."""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("when", ["before", "after"])
def test_cut_off_anywhere_the_next_run_goes_on_where_it_was(world: World, place: Place, when: str) -> None:
    world.build()
    world.nodes.pods = {name: [f"default/{name}"] for name in MACS}
    cut(world, place, when)
    with pytest.raises(Cut):
        world.upgrade()
    mend(world, place)

    begun = list(world.nodes.annotations)
    assert len(begun) <= 1
    if begun:
        assert (world.plans()[0].name, world.plans()[0].why) == (begun[0], "was begun, and goes on")
    _, stop = world.upgrade()

    assert stop is None
    assert world.runs() == dict.fromkeys(MACS, "new")
    assert world.is_quiet()
    assert {did.split()[0] for did in world.rack.cuts} == set(MACS)


def cut(world: World, place: Place, when: str) -> None:
    """Have the command end before or after it does something."""
    thing, inner = owner(world, place), getattr(owner(world, place), place[1])

    def act(*words: object) -> object:
        is_it = place[2] in ("", words[0])
        if is_it and when == "before":
            raise Cut
        result = inner(*words)
        if is_it:
            raise Cut
        return result

    setattr(thing, place[1], act)


def mend(world: World, place: Place) -> None:
    vars(owner(world, place)).pop(place[1])


def owner(world: World, place: Place) -> object:
    return getattr(world, place[0]) if place[0] else world


def test_cut_off_on_the_way_back_the_next_run_goes_on_with_that(world: World) -> None:
    world.build()
    world.rack.spoiled["new"] = {"lines": (), "failure": "NVRM: API mismatch"}
    inner = world.rack.power

    def power(name: str, action: str) -> str:
        if len(world.rack.cuts) == 1:
            raise Cut
        return inner(name, action)

    world.rack.power = power  # type: ignore[method-assign]
    with pytest.raises(Cut):
        world.upgrade()
    mark = mark_from(world.nodes.annotations["w1"])
    assert mark is not None
    assert (mark.stage, mark.driver, mark.image) == (Stage.BACK, "550.163.01 (closed)", "old")
    mend(world, ("rack", "power", ""))

    _, stop = world.upgrade()

    assert stop is not None
    assert "NVRM: API mismatch" in stop.reason
    assert stop.after.startswith("set back to 550.163.01 (closed)")
    assert world.is_quiet()


def test_without_an_image_to_go_back_to_it_stays_as_it_is_and_says_so(world: World) -> None:
    world.build()
    (world.cache / "images" / "old.json").unlink()
    assert [(one.back, one.why) for one in world.plans()] == [(None, "no way back")] * 3
    world.rack.spoiled["new"] = {"lines": (), "failure": "NVRM: API mismatch"}

    _, stop = world.upgrade()

    assert stop is not None
    after = "what it ran before (550.163.01 (closed)) is in no image that is there; it takes no pods"
    assert stop.after == after
    assert world.nodes.cordoned == {"w1"}
