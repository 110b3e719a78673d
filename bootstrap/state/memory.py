"""The store that forgets: for tests and dry runs."""

import threading
from collections.abc import Iterator, Sequence

from bootstrap.errors import Conflict, StateError
from bootstrap.state import Delete, Entry, Put, Write


class MemoryStore:
    """Keeps entries in a dictionary, under one lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._revision = 0
        self._closed = False

    def get(self, key: str) -> Entry | None:
        """Return the entry at `key`, or None."""
        with self._lock:
            self._must_be_open()
            return self._entries.get(key)

    def scan(self, prefix: str, newer: int = 0) -> Iterator[Entry]:
        """Yield the entries whose key starts with `prefix` and whose revision is above `newer`, in key order."""
        with self._lock:
            self._must_be_open()
            found = [
                entry
                for key, entry in self._entries.items()
                if key.startswith(prefix) and entry.revision > newer
            ]
        yield from sorted(found, key=lambda entry: entry.key)

    def commit(self, writes: Sequence[Write]) -> int:
        """Do all `writes` or none; return the new revision."""
        with self._lock:
            self._must_be_open()
            entries = dict(self._entries)
            revision = self._revision + 1
            for write in writes:
                self._do(entries, write, revision)
            self._entries, self._revision = entries, revision
            return revision

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries, self._closed = {}, True

    def _must_be_open(self) -> None:
        if self._closed:
            raise StateError("the store is closed")

    @staticmethod
    def _do(entries: dict[str, Entry], write: Write, revision: int) -> None:
        found = entries.get(write.key)
        at = found.revision if found else 0
        if write.after is not None and write.after != at:
            raise Conflict(f"{write.key} is at revision {at}, not {write.after}")
        match write:
            case Put():
                entries[write.key] = Entry(key=write.key, value=write.value, revision=revision)
            case Delete():
                entries.pop(write.key, None)
