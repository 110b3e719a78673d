"""The store in etcd, for several web processes: an answered commit is on the disks of a majority of its members.

Entries lie below /firstlight/clusters/NAME/state/; their revision is etcd's own (mod_revision). A commit is one
transaction, so a change and its event come together and numbers have no gap, whoever else writes.

An answer may be lost while its transaction is done. So each commit moves this process's mark from what it was to
something new, in the same transaction, under the condition that it still is what it was: done twice it does nothing
the second time, however late that comes, and a second look tells whether it was done. Reads ask a majority.
"""

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from bootstrap import failpoints
from bootstrap.errors import Conflict, StateError
from bootstrap.etcd import Credentials
from bootstrap.state import MOVE, Entry, Room, Turn, Write
from bootstrap.state.etcd_calls import Calls, Refused, opened
from bootstrap.state.etcd_follow import Follower
from bootstrap.state.etcd_txn import MOST_OPERATIONS, ROOM, Messages, end_of, settled

ROOT = "/firstlight/clusters/{}/"
PAGE = 256  # entries of one answer: large documents of so many machines are some MB
PAGE_SECONDS = 5.0
MOST_SCANS = 3  # a scan that meets a compaction begins anew
MOST_TURNS = 8  # commits of this process whose outcome was not known, one after another
KEPT_MARKS = 64  # of processes that are gone


class EtcdStore:
    """Keeps the entries of the cluster called `cluster` in the etcd that `calls` reaches.

    Nothing is asked before the first call, so that one that is away is no reason not to start. While the state is
    being moved, or when it was moved elsewhere, commits are refused but for the one's that `moves` it.
    """

    def __init__(self, calls: Calls, cluster: str, *, moves: bool = False) -> None:
        root = ROOT.format(cluster).encode()
        self._calls = calls
        self._own_conditions = {} if moves else {MOVE: 0}
        self._messages = Messages(root + b"state/")
        self._marks = root + b"writer/"
        self._mark = self._marks + secrets.token_hex(8).encode()
        self._moved = b""
        self._count = 0
        self._writing = threading.Lock()
        self._closed = False
        self._follower = Follower(calls, self._messages, self._pages)

    @property
    def room(self) -> Room:
        """Return how much one commit may hold."""
        return ROOM

    def get(self, key: str) -> Entry | None:
        """Return the entry at `key`, or None."""
        self._must_be_open()
        request = self._messages.page(self._messages.full(key), b"", limit=1)
        found = self._calls.call("read", partial(_ranged, request)).kvs
        return self._entry(found[0]) if found else None

    def get_all(self, keys: Sequence[str]) -> dict[str, Entry | None]:
        """Return what is at `keys`, in one question for each 128 of them."""
        self._must_be_open()
        found: dict[str, Entry | None] = {}
        for first in range(0, len(keys), MOST_OPERATIONS):
            some = keys[first : first + MOST_OPERATIONS]
            reads = [self._messages.read(self._messages.full(key)) for key in some]
            request = self._messages.transaction([], reads, [])
            answer = self._calls.call("read", partial(_done, request))
            for key, one in zip(some, answer.responses, strict=True):
                entries = one.response_range.kvs
                found[key] = self._entry(entries[0]) if entries else None
        return found

    def scan(self, prefix: str, newer: int = 0) -> Iterator[Entry]:
        """Yield the entries below `prefix` with a revision above `newer`, in key order, all from one moment.

        They are all here before the first is yielded.
        """
        self._must_be_open()
        for left in reversed(range(MOST_SCANS)):
            try:
                found = [entry for page in self._pages(prefix, newer) for entry in page]
            except Refused as error:
                if error.code != "OUT_OF_RANGE" or not left:
                    raise StateError(f"etcd ({self._calls}): cannot read: {error}") from error
                continue
            yield from found
            return

    def commit(self, writes: Sequence[Write]) -> int:
        """Do all `writes` or none; return the new revision.

        Raises:
            Conflict: an `after` did not hold; nothing was written.
            StateError: etcd did not answer in time; it may have done it.
        """
        last, conditions = settled(writes)
        operations = [self._messages.write(write) for write in last.values()]
        with self._turn():
            self._must_be_open()
            for _ in range(MOST_TURNS):
                if revision := self._commit({**self._own_conditions, **conditions}, operations):
                    return revision
        raise StateError(f"etcd ({self._calls}): somebody else writes {self._mark.decode()}")

    def last_known(self, key: str) -> Entry | None:
        """Return the entry at `key` as this process heard of it last; of machines and what they boot only."""
        return self._follower.known(key)

    def follow(self, listen: Callable[[Sequence[Turn]], None]) -> None:
        """Tell `listen` from now on of all that is written, and keep what machines need to boot."""
        self._follower.start(listen)

    def sweep(self) -> None:
        """Remove the marks of processes that are gone, but for the newest; one that is not makes its own again."""
        messages = self._messages
        request = messages.page(self._marks, end_of(self._marks), limit=0)
        found = self._calls.call("read", partial(_ranged, request)).kvs
        for old in sorted(found, key=lambda one: int(one.mod_revision))[:-KEPT_MARKS]:
            self._remove(old.key)

    def close(self) -> None:
        """End following, and take this process's mark away if etcd answers."""
        if self._closed:
            return
        self._closed = True
        self._follower.stop()
        if self._moved:
            with suppress(StateError):  # else it is one of those that `sweep` removes
                self._remove(self._mark)
        self._calls.close()

    def _commit(self, conditions: dict[str, int], operations: list[Any]) -> int:
        """Return the revision of the commit; 0 if an earlier one turned out to be done, and it is to be tried again."""
        messages = self._messages
        before, after = self._moved, self._next_mark()
        keys = [messages.full(key) for key in conditions]
        request = messages.transaction(
            [
                messages.with_value(self._mark, before),
                *map(messages.at_revision, keys, conditions.values()),
            ],
            [*operations, messages.put(self._mark, after)],
            [messages.read(self._mark), *map(messages.read, keys)],
        )
        answer = self._sent(request)
        if answer.succeeded:
            self._moved = after
            return int(answer.header.revision)
        mark, *found = (one.response_range.kvs for one in answer.responses)
        self._moved = bytes(mark[0].value) if mark else b""
        if self._moved == after:
            return int(mark[0].mod_revision)
        if self._moved == before:
            raise _difference(conditions, [int(one[0].mod_revision) if one else 0 for one in found])
        return 0

    def _sent(self, request: Any) -> Any:
        try:
            failpoints.reached("etcd.commit.before")
            answer = self._calls.call("write", partial(_done, request))
            failpoints.reached("etcd.commit.after")
        except OSError as error:
            raise StateError(f"etcd ({self._calls}): cannot write: {error.strerror}") from error
        return answer

    def _next_mark(self) -> bytes:
        self._count += 1
        return str(self._count).encode()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for this process's other commits, as long as one may take."""
        if not self._writing.acquire(timeout=2 * self._calls.seconds):
            raise StateError(f"etcd ({self._calls}): other commits wait for its answer")
        try:
            yield
        finally:
            self._writing.release()

    def _pages(self, prefix: str, newer: int = 0) -> Iterator[list[Entry]]:
        """Yield the entries in pages, all of one revision; raises Refused if that was compacted on the way."""
        messages, at = self._messages, 0
        start = messages.full(prefix)
        end = end_of(start)
        while True:
            request = messages.page(start, end, limit=PAGE, newer=newer, at=at)
            answer = self._calls.tried(partial(_ranged, request), try_seconds=PAGE_SECONDS)
            at = at or int(answer.header.revision)
            yield [self._entry(one) for one in answer.kvs]
            if not answer.more:
                return
            start = answer.kvs[-1].key + b"\0"

    def _entry(self, found: Any) -> Entry:
        return Entry(
            key=self._messages.ours(found.key), value=bytes(found.value), revision=int(found.mod_revision)
        )

    def _remove(self, key: bytes) -> None:
        request = self._messages.transaction([], [self._messages.remove(key)], [])
        self._calls.call("write", partial(_done, request))

    def _must_be_open(self) -> None:
        if self._closed:
            raise StateError(f"etcd ({self._calls}): the store is closed")


def open_etcd(
    urls: Sequence[str], credentials: Credentials, cluster: str, *, moves: bool = False
) -> EtcdStore:
    """Return the store of the cluster called `cluster` in the etcd whose members' client URLs are `urls`."""
    return EtcdStore(Calls(urls, lambda url: opened(url, credentials)), cluster, moves=moves)


def _ranged(request: Any, client: Any, seconds: float) -> Any:
    return client.kvstub.Range(request, seconds)


def _done(request: Any, client: Any, seconds: float) -> Any:
    return client.kvstub.Txn(request, seconds)


def _difference(conditions: dict[str, int], found: Sequence[int]) -> StateError:
    """Return which condition did not hold, for a person."""
    for (key, wanted), is_at in zip(conditions.items(), found, strict=True):
        if is_at != wanted and key == MOVE:
            return StateError(
                "the state is moved to another store, or was: nothing can be changed here any more"
            )
        if is_at != wanted:
            return Conflict(f"{key} is at revision {is_at}, not {wanted}")
    return Conflict("what the commit rests on has changed")
