"""WHERE MACHINES, ARMS, DOCUMENTS AND EVENTS LIVE: one file per kind of store, all with the same four verbs.

The contract that every store keeps (tests/contract asks it of each):

- `get` sees the last committed write of any thread.
- `commit` does all its writes or none; it returns only when they survive a power cut.
- A `Put` or `Delete` with `after=r` happens only if the entry is still at revision r (0: must not exist),
  else the whole commit raises Conflict and nothing is written.
- Revisions grow; an entry deleted and made again never gets an old revision back.
- `scan` yields entries in key order (byte order of UTF-8).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


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
            StateError: the store could not write (disk full, read-only, I/O error); nothing was written.
        """

    def close(self) -> None:
        """Release what the store holds; it cannot be used afterwards."""
