"""Brings another GPU driver to nodes, one after the other: emptied, exchanged, verified by the gate, given back.

Where a node is stands on the node itself (bootstrap/gpu/mark.py), written in the same step that keeps pods off it, so a
run that was cut off is gone on with by the next one. A node that does not come back verified is set back to what it ran
before, and nothing is done to those after it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bootstrap.errors import ApiDown, UsageError
from bootstrap.gpu.mark import Mark, Stage, patch_with, patch_without
from bootstrap.gpu.rollout import Come, Pair, Planned, What, come, names_sysexts
from bootstrap.gpu.rows import title_of
from bootstrap.kubernetes.leaving import Leave, Pods, PodsStay, empty
from bootstrap.kubernetes.seen import NodeView
from bootstrap.operator import NotRunning
from bootstrap.states import State

POLL_SECONDS = 5.0
SETTLE_SECONDS = 600.0
"""How long the gate may hold back a node that is up: its runtime and device plugin come one after the other.

A node that looks at its GPUs less often may twice say so.
"""


class Appliance(Protocol):
    """What is asked of the appliance (bootstrap/operator.py)."""

    def machine(self, name: str) -> dict[str, Any]:
        """Return what is known of a machine."""

    def act(self, name: str, action: str) -> dict[str, Any]:
        """Arm a machine."""

    def order_driver(self, name: str, *, driver: str = "", image: str = "") -> dict[str, Any]:
        """Have a machine get its pool's driver, or another one."""


class Nodes(Pods, Protocol):
    """What is asked of the cluster (bootstrap/kubernetes/api.py)."""

    def node(self, name: str) -> NodeView | None:
        """Return a node."""

    def patch_node(self, name: str, patch: Mapping[str, Any]) -> None:
        """Merge a patch into a node."""


@dataclass(frozen=True, kw_only=True)
class How:
    """How nodes are upgraded: pods get `seconds` to leave, and nodes as long to come back; `tell` hears what happens.

    `switch` does something to a machine's power (bootstrap/switching.py) and returns nothing, or what is to be done by
    hand.
    """

    seconds: float
    tell: Callable[[str], None]
    switch: Callable[[str, str], str]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, kw_only=True)
class Stop:
    """What ended a roll-out: which machine, why, and `after`, what has become of it."""

    name: str
    reason: str
    after: str

    def __str__(self) -> str:
        """Return it on one line."""
        return f"{self.name}: {self.reason}; {self.after}"


class _Unmoved(Exception):  # noqa: N818  # reads as a sentence where it is raised
    """It could not even be begun; the node runs what it ran."""


Again = Callable[[str], Planned | None]
"""Plans a machine anew: hours may have gone by since all were planned, and it may have been retired."""


def roll_out(
    appliance: Appliance, nodes: Nodes, plans: Sequence[Planned], how: How, again: Again
) -> tuple[tuple[str, ...], Stop | None]:
    """Upgrade the machines of `plans`, one after the other; return the names of those done, and what ended it early.

    Each is planned `again` when its turn comes, and left out if nothing is to be done to it by then.

    Raises:
        ApiDown: the cluster does not answer; the next run goes on.
        ApiRefused: the identity may not do this; as above.
        NotRunning: the appliance does not answer; as above.
    """
    done: list[str] = []
    for plan in plans:
        if plan.is_pinned and not plan.is_work:
            appliance.order_driver(plan.name)
        if not plan.is_work:
            continue
        latest = again(plan.name)
        if latest is None or not latest.is_work:
            how.tell(f"{plan.name}: left out by now: {(latest and latest.why) or 'it runs what it should'}")
            continue
        if stop := _Upgrade(appliance, nodes, latest, how).run():
            return tuple(done), stop
        done.append(plan.name)
    return tuple(done), None


class _Upgrade:
    """The upgrade of one node."""

    def __init__(self, appliance: Appliance, nodes: Nodes, plan: Planned, how: How) -> None:
        self._appliance, self._nodes, self._plan, self._how = appliance, nodes, plan, how
        self._name = plan.name

    def run(self) -> Stop | None:
        """Do what is left of it; return why it came to nothing, if it did."""
        mark = self._plan.mark or self._begin()
        if mark.stage is Stage.FORWARD:
            try:
                why = self._forward(mark)
            except _Unmoved as error:
                self._end(mark)
                return self._stop(str(error), f"it runs what it ran, and {_given_back(mark)}")
            if not why:
                self._end(mark)
                self._tell(f"verified with {self._plan.wanted}; {_given_back(mark)}")
                return None
            if self._appliance.machine(self._name)["state"] == State.ARMED:
                waits = "it is armed still and takes no pods: power it off and on, and run this again"
                return self._stop("it has not booted from the network", waits)
            mark = self._turn(mark, why)
        after = self._backward(mark)
        if not after:
            self._end(mark)
            return self._stop(
                mark.reason, f"set back to {self._plan.back}, verified, and {_given_back(mark)}"
            )
        return self._stop(mark.reason, f"{after}; it takes no pods")

    def _stop(self, reason: str, after: str) -> Stop:
        return Stop(name=self._name, reason=reason, after=after)

    def _tell(self, text: str) -> None:
        self._how.tell(f"{self._name}: {text}")

    def _begin(self) -> Mark:
        node, back = self._nodes.node(self._name), self._plan.back
        mark = Mark(
            stage=Stage.FORWARD,
            arm=self._arm(),
            driver=self._plan.loaded,
            image=back.image if back else "",
            cordoned=node is not None and node.is_cordoned,
        )
        self._nodes.patch_node(self._name, patch_with(mark))
        self._tell("takes no new pods")
        return mark

    def _turn(self, mark: Mark, why: str) -> Mark:
        """Begin the way back."""
        turned = mark.model_copy(update={"stage": Stage.BACK, "arm": self._arm(), "reason": why})
        self._nodes.patch_node(self._name, patch_with(turned))
        self._tell(f"{why}; it goes back to {self._plan.back or 'nothing'}")
        return turned

    def _end(self, mark: Mark) -> None:
        self._nodes.patch_node(self._name, patch_without(mark))

    def _arm(self) -> str:
        return str(self._appliance.machine(self._name)["arm"] or "")

    def _forward(self, mark: Mark) -> str:
        """Bring the node what it is to run; return why it does not come back with it.

        Raises:
            _Unmoved: nothing of it was changed.
        """
        wanted = self._plan.wanted
        if self._plan.what is What.RESTART:
            self._drain()
            self._appliance.order_driver(self._name)
            return self._restart(wanted)
        machine = self._appliance.machine(self._name)
        if (machine["arm"] or "") == mark.arm:
            self._drain()
            try:
                machine = self._appliance.act(self._name, "arm")
            except UsageError as error:
                raise _Unmoved(str(error)) from error
        if machine["gpu"]["pin"]:
            self._appliance.order_driver(self._name)
        return self._install(machine, wanted)

    def _drain(self) -> None:
        node, how = self._nodes.node(self._name), self._how
        if node is None:
            return
        leave = Leave(seconds=how.seconds, tell=how.tell, clock=how.clock, sleep=how.sleep)
        try:
            empty(self._nodes, node, leave)
        except PodsStay as error:
            advice = "look at their disruption budgets, and run this again"
            raise _Unmoved(f"{error.pods} still there after {how.seconds:.0f} s; {advice}") from error

    def _backward(self, mark: Mark) -> str:
        """Bring the node what it ran before; return why that is not done."""
        back = self._plan.back
        if back is None:
            return f"what it ran before ({mark.driver or 'unknown'}) is in no image that is there"
        try:
            self._appliance.order_driver(self._name, driver=title_of(mark.driver), image=mark.image)
            machine = self._appliance.machine(self._name)
            if self._plan.what is What.INSTALL and (machine["arm"] or "") == mark.arm:
                machine = self._appliance.act(self._name, "arm")
        except UsageError as error:
            return str(error)
        return self._restart(back) if self._plan.what is What.RESTART else self._install(machine, back)

    def _install(self, machine: Mapping[str, Any], wanted: Pair) -> str:
        """Have an armed machine boot from the network, and wait until it is verified; return why it is not."""
        if machine["state"] == State.ARMED:
            self._switch("netboot-and-cycle")
        return self._until(wanted, lambda: self._come(wanted))

    def _restart(self, wanted: Pair) -> str:
        """Have a node start anew once it knows with what, and wait until it is verified; return why it is not."""
        if why := self._until(wanted, lambda: names_sysexts(self._appliance.machine(self._name), wanted)):
            return why
        if not self._come(wanted).is_done:
            self._switch("cycle")
        return self._until(wanted, lambda: self._come(wanted))

    def _switch(self, action: str) -> None:
        if by_hand := self._how.switch(self._name, action):
            self._tell(by_hand)

    def _come(self, wanted: Pair) -> Come:
        return come(self._appliance.machine(self._name), self._nodes.node(self._name), wanted)

    def _until(self, wanted: Pair, look: Callable[[], Come]) -> str:
        """Wait until `look` says that it is done; return why it is not."""
        clock, told = self._how.clock, ""
        deadline, held_since = clock() + self._how.seconds, clock()
        while True:
            try:
                now = look()
            except (ApiDown, NotRunning) as error:  # what restarts is back before the machine is
                now = Come(text=str(error))
            if now.is_done or now.lost:
                return now.lost
            if now.text != told:
                self._tell(now.text)
                told = now.text
            held_since = held_since if now.is_held else clock()
            if clock() - held_since >= max(SETTLE_SECONDS, 2 * self._plan.interval):
                return now.text
            if clock() >= deadline:
                return f"not verified with {wanted} after {self._how.seconds:.0f} s: {now.text}"
            self._how.sleep(POLL_SECONDS)


def _given_back(mark: Mark) -> str:
    return "stays cordoned, as it was before" if mark.cordoned else "takes pods again"
