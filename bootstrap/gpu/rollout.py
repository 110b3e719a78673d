"""Which nodes get another GPU driver, in which order, what each goes back to, and when one has arrived: pure.

What a node is to run is a pair of kernel and driver where the driver is in its image, and a driver alone where its
system fetches it. What it does run is its own word: the report with which it was verified, and its kubelet's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from bootstrap.artifacts import Manifest
from bootstrap.gpu.gate import Part
from bootstrap.gpu.mark import Mark, Stage, mark_from
from bootstrap.gpu.reported import NodeState
from bootstrap.gpu.rows import Route, title_of
from bootstrap.gpu.table import SOURCES
from bootstrap.kubernetes.seen import NodeView
from bootstrap.states import State

_IN_CLUSTER = (State.JOINED, State.READY, State.GPU_READY)
_ENDS = (State.FAILED, State.QUARANTINED, State.CONFLICT, State.RETIRED)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What a node runs or is to run: a driver by its title, `535 (closed)`, with version and kernel where they count.

    `image` is the key of the image that holds both, `names` are the sysexts that bring the driver.
    """

    driver: str
    version: str = ""
    kernel: str = ""
    image: str = ""
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it in a few words."""
        flavour = self.driver.partition(" ")[2]
        name = f"{self.version} {flavour}" if self.version else self.driver
        return f"{name} for {self.kernel}" if self.kernel else name

    def is_run(self, loaded: str, kernel: str) -> bool:
        """Return whether a node that has `loaded` this driver, `535.274.02 (closed)`, on this kernel runs it."""
        version = loaded.partition(" ")[0]
        return (
            title_of(loaded) == self.driver and self.version in ("", version) and self.kernel in ("", kernel)
        )


class What(StrEnum):
    """What an upgrade does to a machine."""

    INSTALL = "install"
    RESTART = "restart"
    NOTHING = "nothing"
    LEFT_OUT = "left out"


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What is to become of one machine: `now` is what it runs, `wanted` what it is to run, `back` the way back.

    `why` says why nothing is done, or what is special; `loaded` is the driver that it runs, `535.274.02 (closed)`.
    `is_lacking` says of one that is left out that it is a node, and does not run what it should; `is_pinned` of one
    that runs it that it was set back once. With a `mark` its upgrade was begun by an earlier run. `interval` is how
    often its node looks at its GPUs, in seconds.
    """

    name: str
    pool: str
    what: What
    now: str
    wanted: Pair
    why: str = ""
    loaded: str = ""
    back: Pair | None = None
    mark: Mark | None = None
    is_lacking: bool = False
    is_pinned: bool = False
    interval: int = 0

    @property
    def is_work(self) -> bool:
        """Return whether something is done to it."""
        return self.what in (What.INSTALL, What.RESTART)

    def plain(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return {
            "name": self.name,
            "pool": self.pool,
            "what": str(self.what),
            "now": self.now,
            "wanted": str(self.wanted),
            "why": self.why,
            "back": str(self.back) if self.back else "",
        }


def planned(
    machines: Iterable[Mapping[str, Any]], nodes: Mapping[str, NodeView], images: Sequence[Manifest]
) -> tuple[Planned, ...]:
    """Return what is to become of each of `machines` (those of GET /v1/gpus) whose pool has a driver, in order.

    `nodes` are those of the cluster by name, `images` all that are there, the one selected last first. What was begun
    comes first.
    """
    found = [_planned(one, nodes.get(one["name"]), images) for one in machines if one["target"]]
    return tuple(sorted(found, key=lambda one: one.mark is None))


def _planned(said: Mapping[str, Any], node: NodeView | None, images: Sequence[Manifest]) -> Planned:
    wanted, route = pair_from(said["target"]), Route(said["target"]["route"])
    loaded = f"{said['driver']} ({said['flavour']})" if said["driver"] else ""
    kernel = node.kernel if node else ""
    runs = Pair(driver=title_of(loaded), version=said["driver"] or "", kernel=kernel if wanted.kernel else "")
    plan = Planned(
        name=said["name"],
        pool=said["pool"],
        what=What.NOTHING,
        now=str(runs) if loaded else "-",
        wanted=wanted,
        loaded=loaded,
        interval=int(said["target"]["checkInterval"]),
    )
    work = What.RESTART if route is Route.SYSEXT else What.INSTALL
    if node is not None and (mark := mark_from(node.upgrade)):
        why = f"goes back: {mark.reason}" if mark.stage is Stage.BACK else "was begun, and goes on"
        back = _back(mark.driver, route, [one for one in images if one.key == mark.image])
        return replace(plan, what=work, why=why, mark=mark, back=back)
    if node is None or said["machineState"] not in _IN_CLUSTER:
        why = "no node of the cluster: it gets the driver when it is installed"
        return replace(plan, what=What.LEFT_OUT, why=why)
    if wanted.is_run(loaded, kernel) or (said["state"] == NodeState.NONE and not loaded):
        return replace(plan, is_pinned=bool(said["pin"]))
    if why := _why_not(said, node, wanted, route):
        return replace(plan, what=What.LEFT_OUT, why=why, is_lacking=True)
    back = _back(loaded, route, [one for one in images if one.kernel_version == kernel])
    return replace(plan, what=work, back=back, why="" if back else "no way back")


def _why_not(said: Mapping[str, Any], node: NodeView, wanted: Pair, route: Route) -> str:
    """Return why a node that does not run what it should is left as it is; empty if nothing speaks against it."""
    if route is Route.SERVICE:
        return f"nvidia.service compiles the driver at the first boot: machine arm {said['name']}"
    if route is Route.PACKAGES and not wanted.image:
        return "the image of its pool is not there: image build"
    if said["heardAt"] is None:
        return "it has not told of its GPUs yet"
    if not node.is_ready:
        return f"its node is not Ready: {node.message}"
    if said["part"] not in (None, "", Part.DRIVER):
        return f"held back already: {said['verdict']}"
    return ""


def _back(loaded: str, route: Route, images: Sequence[Manifest]) -> Pair | None:
    """Return what a node that ran `loaded` can go back to, with one of `images` or the sysext of old."""
    title = title_of(loaded)
    if route is Route.SYSEXT:
        rows = (row for row in SOURCES if row.route is Route.SYSEXT and row.title == title)
        return next((Pair(driver=title, names=row.names) for row in rows), None)
    for one in images:
        if _loads(one) == loaded:
            return Pair(driver=title, version=one.driver_version, kernel=one.kernel_version, image=one.key)
    return None


def _loads(image: Manifest) -> str:
    """Return what a node says of the driver in its image: `535.274.02 (closed)`."""
    return f"{image.driver_version} {image.driver.partition(' ')[2]}" if image.driver else ""


def pair_from(target: Mapping[str, Any]) -> Pair:
    """Return a target of GET /v1/gpus as a Pair."""
    return Pair(
        driver=target["driver"],
        version=target["version"],
        kernel=target["kernel"],
        image=target["image"],
        names=tuple(target["names"]),
    )


@dataclass(frozen=True, kw_only=True)
class Come:
    """How far a machine has come: it is as wanted, it is `lost` for a reason, or `text` says what it waits for.

    `is_held` says that it is up, and the gate does not let it through.
    """

    is_done: bool = False
    lost: str = ""
    text: str = ""
    is_held: bool = False


def come(machine: Mapping[str, Any], node: NodeView | None, wanted: Pair) -> Come:
    """Return how far a machine (GET /v1/machines/NAME) has come on its way to run `wanted`, and be verified with it."""
    gpu, state = machine["gpu"], machine["state"]
    if state in _ENDS:
        return Come(lost=f"the machine is {state}: {machine['reason'] or machine['message']}")
    if state == State.GPU_READY and gpu["passedAt"] and node is not None and node.is_ready:
        if wanted.is_run(gpu["verified"] or "", node.kernel):
            return Come(is_done=True)
        return Come(
            text=f"it runs {gpu['verified'] or 'another driver'} for {node.kernel}, and is to run {wanted}"
        )
    if gpu["part"]:
        is_up = node is not None and node.is_ready
        return Come(text=f"the gate holds it back: {gpu['verdict']}", is_held=is_up)
    return Come(text=machine["message"] or state)


def names_sysexts(machine: Mapping[str, Any], wanted: Pair) -> Come:
    """Return whether a node has written down the sysexts of `wanted` for its next start, or runs them already."""
    gpu = machine["gpu"]
    said = {word.strip(",;") for word in (gpu["reason"] or "").split()}
    is_done = title_of(gpu["verified"] or "") == wanted.driver or said.issuperset(wanted.names)
    return Come(is_done=is_done, text=f"it is to name {' '.join(wanted.names)} for its next start")
