"""Moves the state from one store to another: at any moment one of the two is the state's home, and never both.

The entry `meta/move` says of a store that it is no home: it is being left, is a copy on its way, or was left. Nobody
serves from such a store, and etcd takes no commit of anybody else either. Killed anywhere, the move is done again and
goes on: it writes what differs, compares both ends as a whole, then takes the mark from the new home.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bootstrap import failpoints
from bootstrap.errors import StateError, UsageError
from bootstrap.progress import Progress, silent
from bootstrap.state import MOVE, Delete, Entry, Put, Room, Store, Write, parted, room_of

LEAVING, COPY, LEFT = "leaving", "copy", "left"
AT_ONCE = Room(writes=2000, content=4 << 20)  # of a store that has no bounds of its own


@dataclass(frozen=True, kw_only=True)
class End:
    """One end of a move: `kind` is sqlite or etcd, `store` does what it is told whatever `meta/move` says."""

    kind: str
    store: Store


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What is at both ends: how many entries, machines and events, and the sum over keys and values.

    `written` counts the writes of this run; it is 0 if everything was there already.
    """

    entries: int
    machines: int
    events: int
    sum: str
    written: int


def why_not_home(store: Store) -> str:
    """Return why nobody may serve from `store`, and what to do; empty if it is the state's home. Raises StateError."""
    role, other = _mark(store)
    match role:
        case "":
            return ""
        case "left":
            remedy = f"write appliance.store: {other}, or move it back with `store migrate`"
            return f"the state was moved to {other}: {remedy}"
        case "leaving":
            return f"a move to {other} was interrupted: run `store migrate --to {other}` again"
    return f"a move from {other} was interrupted: run `store migrate` again, to here or back to {other}"


def move(source: End, target: End, progress: Progress, *, replace: bool = False) -> Moved:
    """Move everything from `source` to `target`, where nothing may be, or what an interrupted move has left.

    With `replace`, what is at the target is overwritten. The caller sees to it that nobody serves.

    Raises:
        UsageError: the target holds a state of its own, or the source is none; nothing was changed.
        StateError: a store did not do it, or both ends differ in the end; run it again.
    """
    role, other = _mark(source.store)
    if role == LEFT and other == target.kind:
        return _finished(source, target, progress)
    if role == COPY:
        return _taken_back(source, target)
    _refuse(source, target, replace=replace)
    _put_mark(target, COPY, source.kind)
    failpoints.reached("move.mark.after")
    _put_mark(source, LEAVING, target.kind)
    failpoints.reached("move.leaving.after")
    written = _copied(source.store, target.store, progress)
    found = _compared(source, target, written)
    failpoints.reached("move.compare.after")
    _put_mark(source, LEFT, target.kind)
    failpoints.reached("move.left.after")
    target.store.commit([Delete(key=MOVE)])
    return found


def taken_back_alone(home: End, other: str) -> Moved:
    """End a move from `home` to `other` that was interrupted, without asking `other`, which is lost.

    While `home` is being left, nobody has served from `other` yet: what is in `home` is the whole state.

    Raises:
        UsageError: that is not so; nothing was changed.
        StateError: the store did not do it.
    """
    role, its = _mark(home.store)
    if not any(_entries(home.store)):
        raise UsageError(f"{home.kind} holds no state of this cluster; there is nothing to take back")
    if role == LEFT:
        raise UsageError(
            f"{home.kind} was left: the state is in {its} as a whole, and may have changed there since"
        )
    if role == COPY:
        raise UsageError(
            f"{home.kind} holds an unfinished copy of the state in {its}, and cannot stand for it"
        )
    if role == LEAVING and its == other:
        home.store.commit([Delete(key=MOVE)])
    return _as_it_is(home)


def is_touched(store: Store) -> bool:
    """Return whether a move has left its mark in `store`. Raises StateError."""
    return bool(_mark(store)[0])


def copied(source: Store, target: Store) -> None:
    """Put all that is in `source` at one moment into the empty `target`, which is a home of its own then.

    Raises:
        StateError: a store did not do it.
    """
    _copied(source, target, silent)


def _finished(source: End, target: End, progress: Progress) -> Moved:
    """Take the mark from the target of a move that was killed at its very end; else there is nothing to do."""
    role, _ = _mark(target.store)
    if role not in ("", COPY):
        raise StateError(
            f"{source.kind} and {target.kind} both say that the state is in the other one; ask for help"
        )
    if role == COPY:
        written = _copied(source.store, target.store, progress)
        found = _compared(source, target, written)
        target.store.commit([Delete(key=MOVE)])
        return found
    return _as_it_is(target)


def _taken_back(copy: End, home: End) -> Moved:
    """End a move from `home` to `copy` that was interrupted, where somebody changed his mind: nothing was lost."""
    role, other = _mark(home.store)
    is_home = role == "" and any(_entries(home.store))
    if not is_home and (role != LEAVING or other != copy.kind):
        raise UsageError(
            f"{copy.kind} holds an unfinished copy, and {home.kind} is not what it was made from; "
            f"run `store migrate --to {copy.kind}` again with the work folder that it was begun from"
        )
    home.store.commit([Delete(key=MOVE)])
    return _as_it_is(home)


def _as_it_is(home: End) -> Moved:
    entries, machines, events, whole = _told(_entries(home.store))
    return Moved(entries=entries, machines=machines, events=events, sum=whole, written=0)


def _refuse(source: End, target: End, *, replace: bool) -> None:
    if not any(_entries(source.store)):
        raise UsageError(f"{source.kind} holds no state of this cluster; there is nothing to move")
    role, other = _mark(target.store)
    is_ours = role == COPY and other == source.kind
    if is_ours or role == LEFT or replace or not any(_entries(target.store)):
        return
    machines = sum(1 for _ in target.store.scan("machine/"))
    raise UsageError(
        f"{target.kind} holds a state of this cluster already ({machines} machines); nothing was changed. If it is not "
        "wanted any more: --replace overwrites it"
    )


def _copied(source: Store, target: Store, progress: Progress) -> int:
    """Make the target equal to the source; return how many writes that took."""
    done = 0
    room = room_of(target)
    bounds = Room(writes=min(room.writes, AT_ONCE.writes), content=min(room.content, AT_ONCE.content))
    for some in parted(_differences(_entries(source), _entries(target)), bounds):
        target.commit(some)
        done += len(some)
        progress("copying entries", done)
        failpoints.reached("move.copy.after")
    return done


def _differences(source: Iterable[Entry], target: Iterable[Entry]) -> Iterator[Write]:
    """Yield what makes the second like the first; both are in key order."""
    there = iter(target)
    other = next(there, None)
    for entry in source:
        at = entry.key.encode()
        while other is not None and other.key.encode() < at:
            yield Delete(key=other.key)
            other = next(there, None)
        if other is not None and other.key == entry.key:
            if other.value != entry.value:
                yield Put(key=entry.key, value=entry.value)
            other = next(there, None)
        else:
            yield Put(key=entry.key, value=entry.value)
    while other is not None:
        yield Delete(key=other.key)
        other = next(there, None)


def _compared(source: End, target: End, written: int) -> Moved:
    entries, machines, events, whole = _told(_entries(source.store))
    if (found := _told(_entries(target.store))) != (entries, machines, events, whole):
        raise StateError(
            f"{target.kind} has {found[0]} entries with the sum {found[3][:12]}, {source.kind} has {entries} with "
            f"{whole[:12]}: somebody else writes there; end it, then run this again"
        )
    return Moved(entries=entries, machines=machines, events=events, sum=whole, written=written)


def _told(entries: Iterable[Entry]) -> tuple[int, int, int, str]:
    """Return how many entries, machines and events there are, and the SHA-256 sum over all of it."""
    whole, count, machines, events = hashlib.sha256(), 0, 0, 0
    for entry in entries:
        count += 1
        machines += entry.key.startswith("machine/")
        events += entry.key.startswith("event/")
        key = entry.key.encode()
        whole.update(b"%d %d " % (len(key), len(entry.value)) + key + entry.value)
    return count, machines, events, whole.hexdigest()


def _entries(store: Store) -> Iterator[Entry]:
    return (entry for entry in store.scan("") if entry.key != MOVE)


def _put_mark(end: End, role: str, other: str) -> None:
    end.store.commit([Put(key=MOVE, value=json.dumps({"role": role, "other": other}).encode())])


def _mark(store: Store) -> tuple[str, str]:
    entry = store.get(MOVE)
    if entry is None:
        return "", ""
    found = json.loads(entry.value)
    return str(found["role"]), str(found["other"])
