"""One transaction of etcd out of many writes: all or none, however many there are.

etcd takes 128 operations in one transaction (--max-txn-ops). A transaction may hold others, and what one level uses
up is what the next one has less (checkTxnRequest in etcd's server/etcdserver/api/v3rpc/key.go), so two levels make
room for thousands. All conditions stand on the top one.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

from bootstrap.errors import Conflict, StateError
from bootstrap.etcd import library
from bootstrap.state import Put, Room, Write

MOST_OPERATIONS = 128
MOST_CONDITIONS = 100
MOST_WRITES = 2048
MOST_BYTES = 1 << 20  # of etcd's 1.5 MiB (--max-request-bytes)
ROOM = Room(writes=MOST_WRITES, conditions=MOST_CONDITIONS, content=MOST_BYTES)


def settled(writes: Sequence[Write]) -> tuple[dict[str, Write], dict[str, int]]:
    """Return the last write at each key, and the revision that each key must be at before the first.

    etcd takes one write per key; what a later write in the same commit asks of an earlier one is known here.

    Raises:
        Conflict: a write asks for a revision that an earlier one of the same commit has ended.
    """
    last: dict[str, Write] = {}
    conditions: dict[str, int] = {}
    for write in writes:
        earlier = last.get(write.key)
        if write.after is not None and earlier is None:
            conditions[write.key] = write.after
        elif write.after is not None and (isinstance(earlier, Put) or write.after):
            raise Conflict(f"{write.key} is written twice in one commit, not at {write.after}")
        last[write.key] = write
    return last, conditions


class Messages:
    """Makes etcd's messages for keys below `root`."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._rpc = library().etcdrpc

    def full(self, key: str) -> bytes:
        """Return the key as etcd has it."""
        return self._root + key.encode()

    def ours(self, key: bytes) -> str:
        """Return a key of etcd as we call it."""
        return key[len(self._root) :].decode()

    def at_revision(self, key: bytes, revision: int) -> Any:
        """Return the condition that `key` was written last by `revision`; 0: that it is not there."""
        compare = self._rpc.Compare
        return compare(key=key, target=compare.MOD, result=compare.EQUAL, mod_revision=revision)

    def with_value(self, key: bytes, value: bytes) -> Any:
        """Return the condition that `key` has `value`; empty: that it is not there."""
        if not value:
            return self.at_revision(key, 0)
        compare = self._rpc.Compare
        return compare(key=key, target=compare.VALUE, result=compare.EQUAL, value=value)

    def write(self, write: Write) -> Any:
        """Return the operation that does `write`."""
        key = self.full(write.key)
        return self.put(key, write.value) if isinstance(write, Put) else self.remove(key)

    def remove(self, key: bytes) -> Any:
        """Return the operation that removes `key`."""
        return self._rpc.RequestOp(request_delete_range=self._rpc.DeleteRangeRequest(key=key))

    def put(self, key: bytes, value: bytes) -> Any:
        """Return the operation that puts `value` at `key`."""
        return self._rpc.RequestOp(request_put=self._rpc.PutRequest(key=key, value=value))

    def read(self, key: bytes) -> Any:
        """Return the operation that reads `key`."""
        return self._rpc.RequestOp(request_range=self._rpc.RangeRequest(key=key))

    def page(self, start: bytes, end: bytes, *, limit: int, newer: int = 0, at: int = 0) -> Any:
        """Return the request for entries from `start` to below `end`; `at` a revision, or (0) as they are now."""
        return self._rpc.RangeRequest(
            key=start, range_end=end, limit=limit, revision=at, min_mod_revision=newer + 1 if newer else 0
        )

    def watch(self, prefix: str, start: int) -> Any:
        """Return the request to be told of all that is written below `prefix` from revision `start` on."""
        key = self.full(prefix)
        create = self._rpc.WatchCreateRequest(key=key, range_end=end_of(key), start_revision=start)
        return self._rpc.WatchRequest(create_request=create)

    def watching(self, client: Any) -> Any:
        """Return the stub for watches on a client's connection: etcd3's own watcher ends with the first error."""
        return self._rpc.WatchStub(client.channel)

    def transaction(self, conditions: Sequence[Any], then: Sequence[Any], otherwise: Sequence[Any]) -> Any:
        """Return the transaction that does all of `then` if all `conditions` hold, else `otherwise`.

        Raises:
            StateError: etcd would not take so many.
        """
        width = max(len(conditions), len(otherwise), 1)
        if width >= MOST_OPERATIONS:
            raise StateError(f"a commit with {len(conditions)} conditions is more than etcd takes")
        return self._rpc.TxnRequest(compare=conditions, success=self._nested(then, width), failure=otherwise)

    def _nested(self, operations: Sequence[Any], width: int) -> list[Any]:
        """Return `operations` as one level, or as transactions in one of at least `width` operations."""
        if len(operations) <= MOST_OPERATIONS:
            return list(operations)
        for top in range(width, MOST_OPERATIONS):
            each = ceil(len(operations) / top)
            if each <= MOST_OPERATIONS - top:
                runs = (operations[at : at + each] for at in range(0, len(operations), each))
                return [
                    self._rpc.RequestOp(request_txn=self._rpc.TxnRequest(success=list(run))) for run in runs
                ]
        raise StateError(f"a commit of {len(operations)} writes is more than etcd takes")


def end_of(prefix: bytes) -> bytes:
    """Return the smallest key above all that start with `prefix`, whose last byte is none of 0xff (UTF-8 has none)."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
