"""Parts what was seen of a machine into boots; pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from bootstrap.explain.steps import Step

# Firmware asks DHCP several times in one boot, and iPXE asks for its script again after some seconds when a download
# failed. What comes up again this much later has been restarted: no machine gets through its firmware more quickly.
SAME_BOOT = timedelta(seconds=20)
# Firmware that gets no loader asks again at once, for ever: that is one boot that goes on, not a hundred.
SAME_ASKING = timedelta(seconds=60)
# Firmware that PXE did not help tries HTTP boot, with another code in option 93: the same boot goes on.
NEXT_WAY = timedelta(seconds=300)

READY, NOT_READY = "ready", "node-not-ready"
_RUNS = frozenset({"ignition-ok", "ignition-error", "facts", "begin", "complete", "failed", "booted"})
_WAITS = frozenset({"script:wait", "script:rescue"})
_IPXE_BEGINS = frozenset({"ipxe-discover", "boot-script-ok", "boot-script-error"})
_LATER = frozenset(
    {
        "loader-sent",
        "loader-part",
        "loader-error",
        "tftp-failed",
        "tftp-not-found",
        "tftp-oack-unheard",
        "ipxe-dhcp",
        "boot-script-ok",
        "script",
    }
)
_LOADERS = frozenset({"loader-offered", "http-loader-offered"})


@dataclass(frozen=True, kw_only=True)
class Boot:
    """The steps of one boot, at least one; `marks` are those of them all."""

    steps: tuple[Step, ...]

    @property
    def marks(self) -> frozenset[str]:
        """Return all marks of its steps; of READY and NOT_READY only the last one."""
        seen: frozenset[str] = frozenset().union(*(step.marks for step in self.steps))
        node = self.last(READY, NOT_READY)
        return seen - ({READY, NOT_READY} - node.marks) if node else seen

    def last(self, *marks: str) -> Step | None:
        """Return the last step that has one of `marks`, or None."""
        return next((step for step in reversed(self.steps) if not step.marks.isdisjoint(marks)), None)


def boots_of(steps: Iterable[Step]) -> tuple[Boot, ...]:
    """Return the boots, oldest first. What comes before the first packet of a boot belongs to the one before."""
    parts: list[list[Step]] = []
    for step in steps:
        if not parts or _begins(step, parts[-1]):
            parts.append([])
        parts[-1].append(step)
    return tuple(Boot(steps=tuple(part)) for part in parts)


def _begins(step: Step, before: Sequence[Step]) -> bool:
    """Return whether `step` is the first of another boot than `before`."""
    seen = frozenset().union(*(one.marks for one in before))
    if "armed" in step.marks:
        return True
    if _is_of_firmware(step):
        in_this_way = _since(step.arch, before)
        patience = SAME_ASKING if in_this_way else NEXT_WAY
        is_over = bool(seen & _RUNS or in_this_way & _LATER)
        return is_over or step.at - before[-1].at > patience
    if seen & _WAITS:
        return bool(step.marks & {"script:install", "script:local"})
    if "script" in step.marks or _is_of_ipxe(step):
        asked = next((one.at for one in before if "script" in one.marks), None)
        return bool(seen & _RUNS) or (asked is not None and step.at - asked >= SAME_BOOT)
    return False


def _since(arch: int | None, before: Sequence[Step]) -> frozenset[str]:
    """Return the marks since firmware first asked in this way (option 93), nothing if it has not."""
    first = next((number for number, one in enumerate(before) if one.arch == arch), len(before))
    return frozenset().union(*(one.marks for one in before[first:]))


def _is_of_firmware(step: Step) -> bool:
    # In proxy mode dnsmasq tells of no DISCOVER.
    return "firmware-discover" in step.marks or ("offer" in step.marks and bool(step.marks & _LOADERS))


def _is_of_ipxe(step: Step) -> bool:
    return bool(step.marks & _IPXE_BEGINS) or {"offer", "url-offered"} <= step.marks
