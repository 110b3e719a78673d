"""WHERE MACHINES, ARMS, DOCUMENTS AND EVENTS LIVE: one file per kind of store, all with the same four verbs.

The contract that every store keeps (tests/contract asks it of each):

- `get` sees the last committed write of any thread.
- `commit` does all its writes or none; it returns only when they survive a power cut.
- A `Put` or `Delete` with `after=r` happens only if the entry is still at revision r (0: must not exist),
  else the whole commit raises Conflict and nothing is written.
- Revisions grow; an entry deleted and made again never gets an old revision back.
- `scan` yields entries in key order (byte order of UTF-8).

A store that several processes share is `Shared` as well: how much one commit may hold is bounded there, what others
write is told, and what was known last can be read while the store does not answer.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

MOVE = "meta/move"
"""The entry of a store that is not the state's home, or not for now (bootstrap/state/moving.py)."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A stored value, with the revision of the commit that wrote it."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, kw_only=True)
class Put:
    """Write `value` at `key`; with `after`, only if the entry is still at that revision (0: absent)."""

    key: str
    value: bytes
    after: int | None = None


@dataclass(frozen=True, kw_only=True)
class Delete:
    """Remove `key`; with `after`, only if the entry is still at that revision."""

    key: str
    after: int | None = None


Write = Put | Delete


class Store(Protocol):
    """Get, scan, and an atomic, durable, conditional commit."""

    def get(self, key: str) -> Entry | None:
        """Return the entry at `key`, or None."""

    def scan(self, prefix: str, newer: int = 0) -> Iterator[Entry]:
        """Yield the entries whose key starts with `prefix` and whose revision is above `newer`, in key order."""

    def commit(self, writes: Sequence[Write]) -> int:
        """Do all `writes` or none, durably; return the new revision.

        Raises:
            Conflict: an `after` did not hold; nothing was written.
            StateError: the store could not write (disk full, read-only, I/O error); nothing was written. Of a store
                on the network it may not be known whether it was: whoever asks again finds out.
        """

    def close(self) -> None:
        """Release what the store holds; it cannot be used afterwards."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """How much one commit may hold: writes, those of them with an `after`, and bytes of keys and values."""

    writes: int = sys.maxsize
    conditions: int = sys.maxsize
    content: int = sys.maxsize


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What another process, or this one, has done to `key`: `value` is None if it is gone."""

    key: str
    value: bytes | None


@runtime_checkable
class Shared(Protocol):
    """What a store can do beside its four verbs that several processes write to."""

    @property
    def room(self) -> Room:
        """Return how much one commit may hold."""

    def get_all(self, keys: Sequence[str]) -> dict[str, Entry | None]:
        """Return what is at `keys` (None: nothing), by one question where that is possible."""

    def last_known(self, key: str) -> Entry | None:
        """Return the entry at `key` as this process heard of it last, without asking anybody; None if it did not."""

    def follow(self, listen: Callable[[Sequence[Turn]], None]) -> None:
        """Tell `listen` from now on, from a thread of its own, of all that is written by anybody."""


def room_of(store: Store) -> Room:
    """Return how much one commit of `store` may hold; one file takes all there is."""
    return store.room if isinstance(store, Shared) else Room()


def size_of(writes: Iterable[Write]) -> int:
    """Return the bytes of the keys and values in `writes`, as Room.content bounds them."""
    return sum(
        len(write.key.encode()) + (len(write.value) if isinstance(write, Put) else 0) for write in writes
    )


def parted(writes: Iterable[Write], room: Room) -> Iterator[list[Write]]:
    """Yield `writes`, in order, in runs that fit into one commit each."""
    run: list[Write] = []
    size = 0
    for write in writes:
        own = size_of([write])
        if run and (len(run) >= room.writes or size + own > room.content):
            yield run
            run, size = [], 0
        run.append(write)
        size += own
    if run:
        yield run
