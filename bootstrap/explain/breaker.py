"""The breaker of boot loops: after the same boot three times, a machine gets a page that says why, and waits; pure.

A boot is the same as the ones before if it got no further: was its Ignition document fetched, did its installer report
what it found? Once an installer asks to write, its three write passes are the limit (MOST_ATTEMPTS). Only a machine
that would be told to install is ever held: one that has its system is sent to its disk as often as it likes.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from bootstrap.boot import Boot, Install, Rescue
from bootstrap.explain.boots import SAME_BOOT
from bootstrap.records.model import Event, Loop, MachineRecord

MOST_SAME = 3
TRY_AGAIN = timedelta(minutes=10)
"""How long a machine is held; then it gets one more try, in case that somebody mended the cause and told nobody."""

_FURTHER = {"fetched": 1, "facts": 2}
"""How far a boot came before it asked to write; one that was only given its script came to 0."""
_ENDS = frozenset(
    {"armed", "begin", "attempt-failed", "complete", "already-installed", "failed", "booted", "retired"}
)


def same_boots(events: Iterable[Event]) -> int:
    """Return how many boots there were, up to the newest, since one got further than all before it.

    `events` are those of one machine, oldest first.
    """
    stages: list[int] = []
    began: datetime | None = None
    for event in events:
        if event.what in _ENDS or (
            event.what == "network-boot" and event.decision in {"local", "wait", "leave"}
        ):
            stages, began = [], None
        elif event.what == "network-boot" and event.decision == "install":
            if began is None or event.time - began >= SAME_BOOT:
                stages, began = [*stages, 0], event.time
        elif stages:
            stages[-1] = max(stages[-1], _FURTHER.get(event.what, 0))
    if not stages:
        return 0
    best = max(stages)
    return len(stages) - stages.index(best)


def judged(
    boot: Boot,
    record: MachineRecord,
    now: datetime,
    *,
    events: Callable[[], Iterable[Event]],
    page: Callable[[], tuple[str, ...]],
) -> tuple[Boot, Loop]:
    """Return what the machine gets in place of `boot`, and what is to be remembered.

    `events` and `page` (what the rescue page says) cost reading, and are asked for one boot in four at most.
    """
    if not isinstance(boot, Install):
        return boot, Loop()
    loop = record.loop
    if loop.since is not None and loop.again is not None:
        return _held(boot, record.name, loop, loop.again, now, events=events, page=page)
    if loop.last is not None and timedelta(0) <= now - loop.last < SAME_BOOT:
        return boot, loop
    if loop.boots < MOST_SAME:
        return boot, loop.but(boots=loop.boots + 1, last=now)
    count = same_boots(events())
    if count < MOST_SAME:
        return boot, Loop(boots=count + 1, last=now)
    again = now + TRY_AGAIN
    tripped = loop.but(since=now, again=again, lines=page())
    return _rescue(record.name, tripped, again), tripped


def _held(
    boot: Install,
    name: str,
    loop: Loop,
    again: datetime,
    now: datetime,
    *,
    events: Callable[[], Iterable[Event]],
    page: Callable[[], tuple[str, ...]],
) -> tuple[Boot, Loop]:
    # A clock that was set back must not hold the machine for as long as the step was.
    if again - TRY_AGAIN <= now < again:
        return _rescue(name, loop, again), loop
    if same_boots(events()) < MOST_SAME:
        return boot, Loop(boots=1, last=now)
    return boot, loop.but(boots=loop.boots + 1, last=now, again=now + TRY_AGAIN, lines=page())


def _rescue(name: str, loop: Loop, again: datetime) -> Rescue:
    soon = f"it tries once more at {again:%H:%M:%S} UTC, or at once after: machine arm {name}"
    return Rescue(reason=reason_of(name), lines=(*loop.lines, soon))


def reason_of(name: str) -> str:
    """Return what is wrong with a machine that is held, in one line."""
    return (
        f"{name} is in a boot loop: the same boot {MOST_SAME} times and no progress - machine explain {name}"
    )
