"""Decides whether a node's GPUs are what its pool promises, and if not, what stands in the way and what to do: pure.

A node of a pool with `gpu:` gets work only after this. What counts is what the node found on PCI, the driver that the
table has for exactly that, what the driver says of each GPU, how each is parted (MIG), and what Kubernetes can give
out. A loaded driver that drives them is enough when table or pool have come to prefer another one: the node is behind
plan, and not held.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from bootstrap.gpu import fabric, parting
from bootstrap.gpu.choosing import Choice
from bootstrap.gpu.images import driver_of
from bootstrap.gpu.machine import is_as_declared, is_required, judged, loaded
from bootstrap.gpu.mig import layout, parted, resources
from bootstrap.gpu.reported import Device, NodeState, Report
from bootstrap.gpu.resolver import Refusal
from bootstrap.gpu.rows import Flavour, Route, Source, title_of
from bootstrap.gpu.smi import Card
from bootstrap.model import Pool

HOT = 85
"""Degrees Celsius. A server's GPU slows itself down a few degrees above; one that has no work is far below."""
LITTLE = 1024
"""MiB of memory: a GPU that holds less has no program with data on it; the driver itself takes some hundred."""
BRIEF = 4


class Part(StrEnum):
    """What stands in the way."""

    DEVICE = "device"
    COUNT = "count"
    DRIVER = "driver"
    MIG = "mig"
    HEALTH = "health"
    RUNTIME = "runtime"
    PLUGIN = "plugin"


@dataclass(frozen=True)
class Verdict:
    """What the gate says; without a `part` the node has passed, and `reason` says with what.

    `driver` is the one that it has passed with, `570.133.20 (open)`; empty where none was asked for.
    """

    part: Part | None
    reason: str
    remedy: str = ""
    driver: str = ""

    @property
    def is_passed(self) -> bool:
        """Return whether the node may get work."""
        return self.part is None

    def __str__(self) -> str:
        """Return it on one line."""
        return f"{self.part}: {self.reason}; {self.remedy}" if self.part else self.reason


def verdict(
    pool: Pool,
    said: Report,
    allocatable: Mapping[str, int],
    kept: Collection[str] = (),
    strategy: str = "none",
) -> Verdict:
    """Return what the gate says of a node of `pool`, which has a `gpu:` section.

    `allocatable` is how many GPUs, or instances of them, the cluster can give out on it, by the name of the resource;
    `strategy` is how the device plugin names instances (mig.py). `kept` are titles of drivers (`570 (open)`) that are
    right too, although the pool wants another one by now: the change comes to one node after the other (gpu upgrade).
    """
    found = _devices(pool, said)
    if isinstance(found, Verdict):
        return found
    return (
        _driver(pool, found, said, kept)
        or _fabric(said)
        or _mig(pool, said)
        or _health(said)
        or _runtime(pool, said)
        or _plugin(pool, said, allocatable, strategy)
        or _passed(pool, found, said, kept)
    )


def _passed(pool: Pool, wanted: Source, said: Report, kept: Collection[str]) -> Verdict:
    """Return that the node has passed. A driver that is only good enough is not the one that it keeps."""
    title = title_of(said.loaded)
    is_right = title in {wanted.title, *kept}
    first = f"{len(said.devices)} GPUs verified, driver {said.driver}"
    if title != wanted.title:
        how = ": gpu upgrade" if isinstance(judged(pool, said.ids), Choice) else ""
        first += f" ({said.flavour}); behind plan, its pool wants {wanted.title}{how}"
    return Verdict(
        None, "; ".join((first, *parted(pool), *_notes(said))), driver=said.loaded if is_right else ""
    )


def _devices(pool: Pool, said: Report) -> Verdict | Source:
    """Return the driver that the GPUs want, or a verdict: they are not those of the pool, or nothing more is asked."""
    if not said.devices and pool.gpu is not None and not is_required(pool.gpu):
        return Verdict(None, "no GPU, and the pool asks for none")
    if not said.devices:
        return Verdict(
            Part.DEVICE,
            "no NVIDIA device on PCI",
            "look at Above 4G decoding in the firmware, the riser, the power of the card and its seating",
        )
    answer, expected = judged(pool, said.ids), pool.gpu.expected if pool.gpu else None
    if isinstance(answer, Refusal):
        if (row := _loaded(pool, said)) and is_as_declared(pool, said.ids):
            return driver_of(pool) or row
        is_count = expected is not None and expected != len(said.devices)
        return Verdict(Part.COUNT if is_count else Part.DEVICE, answer.reason, answer.nearest)
    if isinstance(answer, Choice):
        return answer.source
    return Verdict(None, f"{len(said.devices)} GPUs counted; installCuda is false")


def _loaded(pool: Pool, said: Report) -> Source | None:
    """Return the loaded driver, if it drives all that is there."""
    if not (said.branch and said.flavour):
        return None
    return loaded(pool, (said.branch, Flavour(said.flavour)), said.ids)


def _driver(pool: Pool, wanted: Source, said: Report, kept: Collection[str]) -> Verdict | None:
    if not said.driver:
        reason = said.reason if said.state is NodeState.DRIVER_MISSING else ""
        return Verdict(
            Part.DRIVER, reason or "none is loaded", f"{_how(wanted.route, said.node)}: {Choice(wanted)}"
        )
    if title_of(said.loaded) not in {wanted.title, *kept} and not _loaded(pool, said):
        return Verdict(
            Part.DRIVER,
            f"{said.driver} ({said.flavour}) is loaded, and wanted is {wanted.branch} ({wanted.flavour})",
            f"drain the node and start it anew; if that changes nothing, install it anew: machine arm {said.node}",
        )
    if idle := [_left(device) for device in said.devices if device.driver != "nvidia"]:
        return Verdict(
            Part.DRIVER,
            f"it has not taken {_some(idle)}",
            "look for NVRM in the node's kernel log; power the machine off and on",
        )
    if said.failure or len(said.cards) != len(said.devices):
        told = said.failure or f"nvidia-smi lists {len(said.cards)} of {len(said.devices)} GPUs"
        return Verdict(
            Part.DRIVER, told, "run nvidia-smi on the node; look for NVRM and Xid in its kernel log"
        )
    return None


def _fabric(said: Report) -> Verdict | None:
    if not fabric.is_switched(said) or not (found := fabric.unlinked(said)):
        return None
    return Verdict(
        Part.DRIVER,
        f"NVSwitches do not link {_some(found)}",
        f"start NVIDIA's fabric manager {said.driver} on the node (systemctl status nvidia-fabricmanager): without it"
        " CUDA does not start",
    )


def _mig(pool: Pool, said: Report) -> Verdict | None:
    if not (found := parting.mismatch(pool, said)):
        return None
    return Verdict(Part.MIG, f"{NodeState.MIG_MISMATCH}, {_some(found.found)}; {found.wanted}", found.remedy)


def _how(route: Route, node: str) -> str:
    return {
        Route.PACKAGES: f"build an image that has it, then: machine arm {node}",
        Route.SYSEXT: "drain the node and start it anew, then Flatcar fetches it",
        Route.SERVICE: "look at nvidia.service on the node, which compiles it",
    }[route]


def _left(device: Device) -> str:
    return device.address + (f" ({device.driver} has it)" if device.driver else "")


Rule = tuple[Callable[[Card], bool], Callable[[Card], str], str]
_RULES: tuple[Rule, ...] = (
    (
        lambda card: bool(card.trouble),
        lambda card: f"{card.address} says {card.trouble}",
        "start the machine anew; if it comes back, power it off and on, then have the card replaced",
    ),
    (
        lambda card: (card.errors or 0) > 0,
        lambda card: f"{card.address} has counted {card.errors} uncorrected ECC errors",
        "start the machine anew; if they come back, have the card replaced",
    ),
    (
        lambda card: _is_less(card.width, card.best_width),
        lambda card: f"{card.address} has x{card.width} of x{card.best_width} PCIe lanes",
        "reseat card and riser",
    ),
    (
        lambda card: (card.temperature or 0) >= HOT and _is_idle(card),
        lambda card: f"{card.address} has {card.temperature} degrees Celsius without work",
        "look at fans, air flow and heat sinks",
    ),
)


def _health(said: Report) -> Verdict | None:
    """Return what the driver says of a GPU that is not well; a number that it does not know says nothing."""
    for is_bad, told, remedy in _RULES:
        if found := [told(card) for card in said.cards if is_bad(card)]:
            return Verdict(Part.HEALTH, _some(found), remedy)
    return None


def _notes(said: Report) -> Iterator[str]:
    """Yield what is to be known of GPUs that are well: a slot of an earlier PCIe generation may be all a server has."""
    if fabric.is_switched(said) and not fabric.is_known(said):
        yield "whether NVIDIA's fabric manager runs is not known: without it CUDA does not start on boards of eight"
    if slow := [card for card in said.cards if _is_less(card.generation, card.best_generation)]:
        least, best = (
            min(card.generation or 0 for card in slow),
            max(card.best_generation or 0 for card in slow),
        )
        yield f"PCIe generation {least} of the GPU's {best} at {_some([card.address for card in slow])}"


def _is_idle(card: Card) -> bool:
    """Return whether a GPU surely does nothing: with MIG its use is not known."""
    return card.use == 0 and (card.memory_used or 0) < LITTLE


def _is_less(now: int | None, best: int | None) -> bool:
    return now is not None and best is not None and now < best


def _runtime(pool: Pool, said: Report) -> Verdict | None:
    if said.runtime:
        return None
    if said.handler:
        how = "as a sysext" if pool.os.family == "flatcar" else "its package is nvidia-container-toolkit"
        return Verdict(
            Part.RUNTIME,
            f"containerd's handler nvidia runs {said.handler}, which is not there",
            f"bring NVIDIA's container toolkit onto the node ({how}; docs/gpu.md)",
        )
    return Verdict(
        Part.RUNTIME,
        "containerd has no handler nvidia",
        "firstlight registers it: look at journalctl -u firstlight-sync on the node, and for foreign files in"
        " /etc/containerd/conf.d",
    )


def _plugin(pool: Pool, said: Report, allocatable: Mapping[str, int], strategy: str) -> Verdict | None:
    """Return what Kubernetes lacks; with time-slicing it can give out more than there is."""
    what, look = "GPUs", "look at the pods of DaemonSet kube-system/nvidia-device-plugin on this node"
    if layout(pool.gpu):
        what, look = (
            "instances",
            f"{look}; one that counted before its GPUs were parted counts anew when it is deleted",
        )
    lacking = [
        f"{allocatable.get(name, 0)} of {count} {what} as {name}"
        for name, count in resources(pool, len(said.devices), strategy).items()
        if allocatable.get(name, 0) < count
    ]
    if not lacking:
        return None
    return Verdict(Part.PLUGIN, f"Kubernetes can give out {_some(lacking)}", look)


def _some(found: list[str]) -> str:
    more = f" and {len(found) - BRIEF} more" if len(found) > BRIEF else ""
    return ", ".join(found[:BRIEF]) + more
