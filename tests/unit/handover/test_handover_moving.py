"""A handover in order, cut off anywhere, and back: never two that may answer, and the state is what it was."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootstrap import accepted, allotment, failpoints
from bootstrap.containers.table import CONTAINERS
from bootstrap.errors import ApiRefused, ApplyError, StateError, UsageError
from bootstrap.handover import brought, fence, manifests, moving, parcel
from bootstrap.handover.back import give_up, take_back
from bootstrap.handover.moving import hand_over
from bootstrap.processes import is_gone
from bootstrap.records.model import MachineRecord
from bootstrap.state import MOVE, Put
from bootstrap.state.sqlite import SqliteStore
from bootstrap.states import State
from tests import samples
from tests.unit.handover.rack import ID, NOW, W7, Rack, cluster

OLD = "import time; time.sleep(300)"
RUN = """
import sys
from pathlib import Path
from bootstrap.handover.back import take_back
from bootstrap.handover.moving import hand_over
from tests.unit.handover.rack import Rack
rack, what = Rack(Path(sys.argv[1])), sys.argv[2]
with rack.place.locked():
    if what == "to":
        done = hand_over(rack.move(), rack.api)
    else:
        done = take_back(rack.back(folder=rack.folder / what if what != "back" else None), rack.api)
sys.exit(0 if done else 3)
"""
ALL = ("Deployment", "Namespace", "Secret")


@pytest.fixture(name="old")
def fixture_old(rack: Rack) -> Iterator[int]:
    """An appliance that runs here, as far as its pid goes."""
    with subprocess.Popen([sys.executable, "-c", OLD, "deploy.py", "serve", "x"]) as process:
        rack.place.serve_pid.write_text(str(process.pid))
        yield process.pid
        process.kill()


def run(rack: Rack, what: str, points: str = "") -> int:
    """Go on with a handover in a process of its own, that may be killed; return how it ended."""
    argv = [sys.executable, "-c", RUN, str(rack.folder), what]
    environment = {**os.environ, failpoints.VARIABLE: points}
    return subprocess.run(argv, cwd=samples.ROOT, env=environment, check=False, timeout=120).returncode


def land(rack: Rack) -> None:
    """Do what the pods do on the node before they start."""
    for part in CONTAINERS:
        rack.api.start(part)


def test_the_old_one_is_closed_and_stopped_before_the_new_one_may_answer(rack: Rack, old: int) -> None:
    seen: list[tuple[str, str, bool]] = []

    class Watched(type(rack.api)):  # type: ignore[misc]  # the class of the sample
        def apply(self, objects: Any, *, is_trial: bool = False) -> list[str]:
            each = list(objects)
            if not is_trial:
                seen.extend((one["kind"], rack.stage, is_gone(old)) for one in each)
            return list(super().apply(each, is_trial=is_trial))

    assert hand_over(rack.move(), Watched(rack.folder / "cluster.json"))
    assert ("Namespace", "", False) == seen[0]
    assert {("Secret", "closed", True), ("Deployment", "open", True)} == {
        each for each in seen if each[0] != "Namespace"
    }
    with pytest.raises(UsageError, match="handover --back"):
        fence.refuse(rack.work, "rack1")


def test_the_state_over_there_is_the_one_from_here(rack: Rack) -> None:
    hand_over(rack.move(), rack.api)
    land(rack)

    assert rack.machines(rack.node) == {"w1": State.READY}
    assert accepted.read(rack.node / "run/web/records") == (W7,)
    assert allotment.recorded(rack.node / "run/web/records") == {"w1": 0, "w7": 1}
    assert "10.0.0.5" in (rack.node / "run/pxe/run/leases").read_text()
    assert (rack.node / "run/pxe/run/tftp-learned").read_text() == "1 52:54:00:00:00:01\n"


def test_what_the_cluster_refuses_is_known_before_anything_stops(rack: Rack, old: int) -> None:
    api = rack.api
    for api.refuses in ("Deployment", "Secret", "Namespace"):
        with pytest.raises(ApiRefused):
            hand_over(rack.move(), api)
        assert (rack.stage, is_gone(old)) == ("", False)


@pytest.mark.parametrize(("node", "says"), [("w9", "is not in the cluster"), ("w1", "is not Ready")])
def test_a_node_that_could_not_run_it_is_refused(rack: Rack, old: int, node: str, says: str) -> None:
    api = rack.api
    api.is_ready = False
    with pytest.raises(UsageError, match=f"--node {node}: {says}"):
        hand_over(rack.move(node=node), api)
    assert (rack.stage, is_gone(old), api.objects) == ("", False, {})


@pytest.mark.parametrize("is_written", [False, True])
def test_what_is_too_large_is_known_before_anything_stops(
    rack: Rack, old: int, monkeypatch: pytest.MonkeyPatch, *, is_written: bool
) -> None:
    monkeypatch.setattr(parcel, "MOST_PIECES", 0)
    move = rack.move(output=rack.folder / "manifests") if is_written else rack.move()
    with pytest.raises(UsageError, match="go through the cluster's API; run it where it is"):
        hand_over(move, None if is_written else rack.api)
    assert (rack.stage, is_gone(old), rack.api.objects) == ("", False, {})
    assert list((rack.work / "run").glob("copy-*")) == []


@pytest.mark.parametrize("is_written", [False, True])
def test_a_state_that_was_moved_to_etcd_is_known_before_anything_stops(
    rack: Rack, old: int, *, is_written: bool
) -> None:
    store = SqliteStore(rack.work / "state/state.db")
    store.commit([Put(key=MOVE, value=b'{"role": "left", "other": "etcd"}')])
    store.close()
    move = rack.move(output=rack.folder / "manifests") if is_written else rack.move()
    with pytest.raises(UsageError, match="the state was moved to etcd"):
        hand_over(move, None if is_written else rack.api)
    assert (rack.stage, is_gone(old), rack.api.objects) == ("", False, {})


def test_an_address_that_the_node_does_not_show_is_said(rack: Rack) -> None:
    hand_over(rack.move(), rack.api)
    assert any("w1 does not show 192.168.1.20 among its addresses (10.0.0.5)" in s for s in rack.lines.said)


def test_one_that_does_not_get_ready_in_time_stays_handed_over(rack: Rack) -> None:
    api = rack.api
    real = api.runs
    api.runs = lambda *_: False  # type: ignore[method-assign]  # a cluster that starts no pod
    assert not hand_over(rack.move(), api)
    assert rack.stage == "open"

    api.runs = real  # type: ignore[method-assign]  # as above
    assert hand_over(rack.move(), api)


def test_a_second_time_brings_new_documents_and_never_the_state_again(rack: Rack) -> None:
    hand_over(rack.move(), rack.api)
    before = rack.api.of_kind("Secret")
    land(rack)
    rack.put(MachineRecord(mac="52:54:00:aa:00:01", name="w1", state=State.FAILED, since=NOW), into=rack.node)

    hand_over(rack.move(goods=rack.goods(**{"web/nginx.conf": b"daemon on;"})), rack.api)
    land(rack)
    after = rack.api.of_kind("Secret")

    assert len(before) == len(after) == 2
    assert before.keys() != after.keys()
    assert (rack.node / "run/web/bundle/web/nginx.conf").read_bytes() == b"daemon on;"
    assert rack.machines(rack.node) == {"w1": State.FAILED}


@pytest.mark.system
@pytest.mark.parametrize(
    ("where", "cuts"),
    [
        ("handover.step.before=kill@{}", 6),
        ("handover.step.after=kill@{}", 6),
        ("handover.fence.after=kill", 3),
    ],
)
def test_it_can_be_killed_anywhere_and_goes_on(rack: Rack, old: int, where: str, cuts: int) -> None:
    states: set[str] = set()
    for number in range(1, 20):
        code = run(rack, "to", where.format(number))
        deployed, stopped = bool(rack.api.of_kind("Deployment")), is_gone(old)
        assert code in (-9, 0)
        assert not deployed or (stopped and rack.stage == "open")
        assert stopped or rack.stage in ("", "closed")
        if rack.stage:
            with pytest.raises(UsageError):
                fence.refuse(rack.work, "rack1")
        states |= {name for name in rack.api.of_kind("Secret") if "-state-" in name}
        if code == 0:
            break
    assert number == cuts + 1
    assert len(states) == 2  # one of web, one of pxe: the state was read once
    land(rack)
    assert rack.machines(rack.node) == {"w1": State.READY}
    assert rack.api.of_kind("Deployment").keys() == set(CONTAINERS)


@pytest.mark.system
@pytest.mark.parametrize("where", ["before", "after"])
def test_the_way_back_can_be_killed_anywhere_and_goes_on(rack: Rack, where: str) -> None:
    hand_over(rack.move(), rack.api)
    land(rack)
    rack.put(MachineRecord(mac="52:54:00:aa:00:02", name="w2", state=State.ARMED, since=NOW), into=rack.node)
    accepted.write(rack.node / "run/web/records", [W7, W7.but(mac="52:54:00:aa:00:08", name="w8")])
    allotment.record(rack.node / "run/web/records", {"w1": 0, "w7": 1, "w8": 2})
    pid = rack.node / brought.PID
    pid.write_text("1")
    older = rack.copied("older")
    rack.put(MachineRecord(mac="52:54:00:aa:00:02", name="w2", state=State.READY, since=NOW), into=rack.node)
    for number in range(1, 20):
        code = run(rack, older.name, f"handover.step.{where}=kill@{number}")
        assert (rack.stage, rack.machines()) == ("open", {"w1": State.READY})
        if code != -9:
            break
    assert code == {"before": 3, "after": 1}[where]  # told to copy it now, or refused: web ran there
    pid.unlink()
    assert run(rack, "back") == 3
    newer = rack.copied("newer")
    for number in range(1, 20):
        code = run(rack, newer.name, f"handover.step.{where}=kill@{number}")
        assert code in (-9, 0)
        assert rack.stage == "open" or not rack.api.of_kind("Deployment")
        if code == 0:
            break

    assert rack.stage == ""
    assert rack.api.objects == {}
    assert rack.machines() == {"w1": State.READY, "w2": State.READY}
    assert [one.name for one in accepted.read(rack.work)] == ["w7", "w8"]
    assert allotment.recorded(rack.work) == {"w1": 0, "w7": 1, "w8": 2}
    fence.refuse(rack.work, "rack1")


def test_without_the_state_the_fence_stands_and_how_to_bring_it_is_said(rack: Rack) -> None:
    hand_over(rack.move(), rack.api)

    assert not take_back(rack.back(), rack.api)
    assert rack.stage == "open"
    assert rack.api.of_kind("Deployment") == {}
    there = manifests.place(cluster())
    assert f"(mkdir FOLDER && ssh root@w1 tar -C {there} -c . | tar -C FOLDER -x)" in rack.lines.said[-1]


def test_as_long_as_a_pod_is_there_nothing_comes_back(rack: Rack) -> None:
    hand_over(rack.move(), rack.api)
    land(rack)
    api = rack.api
    api.stays = ["web-5d4f"]

    with pytest.raises(ApplyError, match=r"web-5d4f did not end within 0 s: .*kubectl delete node"):
        take_back(rack.back(folder=rack.node), api)
    assert rack.stage == "open"


@pytest.mark.parametrize("what", ["another", "nothing", "damaged"])
def test_a_folder_that_is_not_this_handover_s_changes_nothing(rack: Rack, what: str, tmp_path: Path) -> None:
    hand_over(rack.move(), rack.api)
    land(rack)
    assert not take_back(rack.back(), rack.api)
    folder = rack.node if what != "nothing" else tmp_path
    if what == "another":
        (folder / "state/handover.json").write_text('{"id": "ffffffffffff"}')
    if what == "damaged":
        file = folder / "state/state.db"
        file.write_bytes(file.read_bytes()[:5000])
    before = (rack.work / "state/state.db").read_bytes()

    with pytest.raises((UsageError, StateError)):
        take_back(rack.back(folder=folder), rack.api)
    assert rack.stage == "open"
    assert (rack.work / "state/state.db").read_bytes() == before


def test_one_that_never_opened_comes_back_with_what_is_here(rack: Rack) -> None:
    api = rack.api

    def full(objects: Any, *, is_trial: bool = False) -> list[str]:
        each = list(objects)
        if not is_trial and any(one["kind"] == "Secret" for one in each):
            raise ApiRefused("etcd is full", 500)
        return []

    api.apply = full  # type: ignore[method-assign]  # a cluster that takes no more
    with pytest.raises(ApiRefused):
        hand_over(rack.move(), api)
    assert rack.stage == "closed"

    assert take_back(rack.back(), rack.api)
    assert (rack.stage, rack.machines()) == ("", {"w1": State.READY})


def test_a_lost_cluster_leaves_the_state_of_before_and_no_arm(rack: Rack) -> None:
    rack.put(MachineRecord(mac="52:54:00:aa:00:02", name="w2", state=State.ARMED, since=NOW, arm="1"))
    hand_over(rack.move(), rack.api)

    with rack.place.locked():
        done = give_up(rack.back())
    assert done is not None
    assert "w2" in done.closed
    assert rack.stage == ""
    assert rack.machines()["w2"] == State.FAILED
    fence.refuse(rack.work, "rack1")


def test_nothing_to_bring_back_is_no_error(rack: Rack) -> None:
    assert take_back(rack.back(), rack.api)
    assert give_up(rack.back()) is None
    assert rack.lines.said.count("the appliance of rack1 was not handed over: nothing to bring back") == 2


def test_two_handovers_do_not_mix(rack: Rack) -> None:
    hand_over(rack.move(), rack.api)
    with pytest.raises(
        UsageError, match=r"--node w2: it was handed over to w1; write that, or handover --back"
    ):
        hand_over(rack.move(node="w2"), rack.api)


def test_manifests_are_written_in_the_order_in_which_they_are_applied(rack: Rack, old: int) -> None:
    folder = rack.folder / "manifests"
    assert hand_over(rack.move(output=folder), None)

    names = sorted(path.name for path in folder.iterdir())
    assert [name[0] for name in names] == ["0", *"1111", *"22"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert (folder.stat().st_mode & 0o777, rack.stage, is_gone(old)) == (0o700, "open", True)
    assert ID in (folder / "2-deployment-web.json").read_text()


def test_the_plan_names_every_step(rack: Rack) -> None:
    lines = list(moving.plan(rack.move()))
    hand_over(rack.move(), rack.api)
    done = [each[1:-1] for each in rack.lines.said if each.startswith("[")]

    assert (
        done == ["check", "close", "keep", "send", "open", "wait"] == [each.split(":")[0] for each in lines]
    )
    assert len(lines) == moving.STEPS


def test_a_damaged_fence_holds_too(rack: Rack) -> None:
    (rack.work / fence.FILE).write_text("{}")
    with pytest.raises(StateError, match="make sure that it does not"):
        fence.refuse(rack.work, "rack1")
