"""One of three control-plane hosts is killed, frozen or cut off under writes: they go on, and none is lost."""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import pytest

from bootstrap.apply.sites import servers_of
from bootstrap.keys import FOLDER
from tests.history import History
from tests.system import member_plane
from tests.system.api_load import PATH, SPACE, acknowledged, kept, load, lost, silences, unwatched
from tests.system.api_node import Node, node
from tests.system.member_plane import Member, Plane
from tests.tier import Promise, dice, rounds, seed

pytestmark = [pytest.mark.system, pytest.mark.promise]

NAME = f"faultha{os.getpid()}"
RESUME_SECONDS = 10.0  # the promise's own figure
HOLD_SECONDS = 15.0  # longer than that: who waits for the end of the fault is found out
CALM_SECONDS = 3.0

Fault = Callable[[Plane, str], AbstractContextManager[None]]
FAULTS: dict[str, Fault] = {
    "kill -9 etcd": partial(member_plane.killed, program="etcd"),
    "kill -9 kube-apiserver": partial(member_plane.killed, program="kube-apiserver"),
    "SIGSTOP of the host": member_plane.frozen,
    "partition": member_plane.parted,
}


@dataclass(frozen=True)
class Rig:
    """The hosts, a node beside them, and the history of everything."""

    plane: Plane
    node: Node
    history: History

    def read_back(self) -> None:
        """Read everything that was written through each API server; a list without a version asks a quorum."""
        for server in servers_of(self.plane.cluster):
            began = time.monotonic()
            done = self.node.kubectl("--server", server, "get", "--raw", PATH, seconds=120)
            assert done.returncode == 0, done.stderr
            self.history.saw(
                "read back", {"server": server, "began": began, "kept": kept(done.stdout.encode())}
            )


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("ha")
    history = History()
    try:
        with member_plane.plane(NAME, folder) as plane, node(plane, folder / "n") as made:
            assert (folder / NAME / FOLDER).is_dir()
            status, said = made.ask(
                "POST",
                "/api/v1/namespaces",
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}},
            )
            assert status == 201, said
            yield Rig(plane, made, history)
    finally:
        history.write(folder / "history.jsonl")


def victims(random_: random.Random, names: tuple[str, ...], count: int) -> list[str]:
    """Return `count` names in random order, each as often as the others."""
    turns = [*names] * (count // len(names)) + random_.sample(names, count % len(names))
    random_.shuffle(turns)
    return turns


@pytest.mark.parametrize("what", FAULTS)
def test_writes_resume_and_none_is_lost(rig: Rig, promise: Promise, what: str) -> None:
    count = rounds(ci=1, soak=10)
    rig.plane.await_whole()
    start = len(rig.history.seen)
    with load(rig.node, rig.history):
        time.sleep(CALM_SECONDS)
        for victim in (in_use(rig), *victims(dice(what), rig.plane.names, count - 1)):
            befall(rig, what, victim)
    rig.read_back()

    assert lost(rig.history) == []
    assert unwatched(rig.history) == []
    found = [one for one in silences(rig.history) if one[1] in rig.history.seen[start:]]
    assert {fault.at for _, fault, _ in found} == {
        seen.at for seen in rig.history.seen[start:] if seen.what == "fault"
    }
    seconds, fault, who = found[0]
    assert seconds <= RESUME_SECONDS, f"{who} had no write acknowledged for {seconds:.1f} s: {fault.value}"
    promise(
        promise=f"R-12 one of three members: {what}",
        asked="10 times each: writes by the endpoint's name resume within 10 s, no acknowledged write lost",
        done=f"{count} times under writes: first the host in use, then any",
        found=f"0 of {len(acknowledged(rig.history))} lost so far; the longest silence of a writer {seconds:.1f} s",
        seed=seed(),
    )


def in_use(rig: Rig) -> str:
    """Return the host whose API server the node talks to at the moment: the fault that is felt most."""
    address = rig.node.server()
    return next(host.name for host in rig.plane.cluster.control_plane.hosts if str(host.address) == address)


def befall(rig: Rig, what: str, victim: str) -> None:
    """Do a fault to a host, let it last, and wait until all is as before."""
    rig.history.saw("fault", {"what": what, "victim": victim})
    with FAULTS[what](rig.plane, victim):
        time.sleep(HOLD_SECONDS)
    rig.plane.await_whole()
    time.sleep(CALM_SECONDS)
    rig.history.saw("calm", {})


@pytest.mark.parametrize("fault", [member_plane.frozen, member_plane.parted])
def test_who_connects_by_name_reaches_another_one(rig: Rig, fault: Fault) -> None:
    """The first address of the name is the one that is away."""
    rig.plane.await_whole()
    with fault(rig.plane, rig.plane.names[0]):
        time.sleep(RESUME_SECONDS)
        began = time.monotonic()
        done = rig.node.kubectl("get", "--raw", "/readyz", seconds=120)
        seconds = time.monotonic() - began
    rig.plane.await_whole()

    assert (done.returncode, done.stdout) == (0, "ok"), done.stderr
    assert seconds <= RESUME_SECONDS


def test_a_rerun_of_apply_changes_nothing_and_touches_no_member(rig: Rig) -> None:
    rig.plane.await_whole()
    before = members(rig)

    outcome, said = rig.plane.apply()

    assert (outcome.exit_code, outcome.changes) == (0, 0), said
    assert members(rig) == before


def members(rig: Rig) -> dict[str, Member]:
    return {name: rig.plane.member(name) for name in rig.plane.names}
