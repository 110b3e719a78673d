"""Web is killed while machines boot, claim their certificates from a real cluster, and report.

One appliance, one cluster, one history: every machine is armed once, so no node may ever have a second key, whatever
happens in any of these tests. Needs root and what tests/kubernetes/build makes (minutes, the first time).
"""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from bootstrap.failpoints import NAMES, VARIABLE
from tests.history import History
from tests.history_claims import CLAIM_CHECKERS
from tests.system.claim_plane import Plane
from tests.system.fleet import fleet
from tests.system.fleet_claims import Contested, Late, Node, Scripted, note_requests, unfinished
from tests.system.fleet_cluster import ClusterSite, cluster_site
from tests.system.fleet_rig import BACK_SECONDS, FORGOTTEN_SOCKETS, Observer, Rig, shuffled, victim
from tests.system.fleet_site import wait_for
from tests.tier import Promise, dice, rounds, seed

pytestmark = [pytest.mark.system, pytest.mark.promise, FORGOTTEN_SOCKETS]

WEB = ("web", "application", "worker")
MACHINES, SCRIPTED, RIVALS = 100, 4, 6
RACK = (Node,) * (MACHINES - SCRIPTED) + (Scripted,) * SCRIPTED + (Contested,) * RIVALS
RACKS, KILLS = rounds(ci=1, soak=4), rounds(ci=20, soak=50)
FEW = 2
FAILPOINTS = tuple(name for name in NAMES if name.startswith("claim."))
ACTIONS = ("kill", "raise", "sleep:2")[: rounds(ci=1, soak=3)]
PAIRS = tuple((name, action) for name in FAILPOINTS for action in ACTIONS)
FINISH_SECONDS = 360.0


@dataclass(frozen=True)
class ClusterRig(Rig):
    """The appliance that is up, the cluster that it serves, and the history of everything."""

    site: ClusterSite
    plane: Plane

    def end(self) -> None:
        """Look at the whole history, and at all that the cluster has signed."""
        note_requests(self.history, self.plane)
        self.verdict(*CLAIM_CHECKERS)

    def count(self, what: str) -> int:
        return sum(call.what == what and call.is_done for call in self.history.calls)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterRig]:
    folder = tmp_path_factory.mktemp("c")
    history = History()
    with ExitStack() as stack:
        made, plane = stack.enter_context(cluster_site(folder, RACKS * len(RACK) + len(PAIRS) * FEW))
        made.up()
        observer = stack.enter_context(Observer(made, history))
        stack.callback(history.write, folder / "history.jsonl")
        yield ClusterRig(made, history, observer, plane)


def strike(rig: ClusterRig, role: str) -> None:
    """Kill the process that plays `role`, which may just have ended with another that was killed."""
    while True:
        pid = victim(rig, role)
        rig.history.saw("kill", {"role": role, "pid": pid})
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        return


def kill_web(rig: ClusterRig, chance: random.Random) -> None:
    """Kill a process of web again and again: most times at work, sometimes while it is just starting."""
    for role in shuffled(WEB, chance, KILLS):
        if chance.random() < 0.75:
            wait_for(rig.site.is_at_work, BACK_SECONDS, lambda: rig.site.log[-4000:])
            time.sleep(chance.uniform(0.0, 2.5))
        strike(rig, role)
        time.sleep(chance.uniform(0.05, 0.5))


def test_web_killed_while_machines_claim_loses_nothing_and_issues_nothing_twice(
    rig: ClusterRig, promise: Promise
) -> None:
    chance = dice("kills of web")
    for number in range(RACKS):
        chosen = dice(f"claiming rack {number}")
        with fleet(rig.site, rig.history, RACK, chosen, first=number * len(RACK)) as rack:
            kill_web(rig, chance)
            rack.finish(FINISH_SECONDS)
        assert not unfinished(rack.machines)
    rig.end()

    promise(
        promise="S-01 kill -9 of web while machines claim",
        asked="200 kills under 100 machines that boot, claim and report: 0 acknowledged events lost, 0 double issues, "
        "all finish",
        done=f"{RACKS * KILLS} kills of {len(WEB)} processes of web under {MACHINES} machines at a time, "
        f"{RACKS * RIVALS} more with a rival; real API server and signer",
        found=f"0 of {rig.acknowledged()} acknowledged events lost, 0 double issues in {rig.count('claim')} claims "
        f"granted, {RACKS * RIVALS} rivals refused and alarmed, all finished ({len(rig.history.calls)} requests, one "
        "order explains the answers)",
        seed=seed(),
    )


def test_web_killed_at_every_step_of_a_claim_issues_nothing_twice(rig: ClusterRig, promise: Promise) -> None:
    for number, (name, action) in enumerate(PAIRS):
        run_with(rig, name, action, first=RACKS * len(RACK) + number * FEW)
    os.kill(victim(rig, "serve"), signal.SIGKILL)
    rig.site.up()
    rig.end()

    promise(
        promise="S-01 failpoints of a claim",
        asked="killed between each two steps of binding, filing, approval, certificate and answer: 0 double issues, "
        "all finish",
        done=f"{len(PAIRS)} runs of {FEW} machines: {', '.join(FAILPOINTS)} x {', '.join(ACTIONS)}",
        found=f"0 double issues, nothing lost, all {len(PAIRS) * FEW} machines finished",
        seed=seed(),
    )


def run_with(rig: ClusterRig, name: str, action: str, first: int) -> None:
    """Start the appliance anew with a failpoint, and let machines join one after another: one meets the failure."""
    os.kill(victim(rig, "serve"), signal.SIGKILL)
    start = len(rig.site.log)
    rig.site.start(**{VARIABLE: f"{name}={action}@2"})
    for number in range(first, first + FEW):
        with fleet(rig.site, rig.history, (Late,), dice(f"{name} {number}"), first=number) as rack:
            rack.finish(FINISH_SECONDS)
        assert not unfinished(rack.machines)
    assert f"failpoint {name}: {action}\n" in rig.site.log[start:], f"nobody passed {name} twice"
