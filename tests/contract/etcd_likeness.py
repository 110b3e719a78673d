"""A likeness of one etcd member: its KV and Watch services over gRPC, in memory, with faults on order.

For the fast tier only; tests/system/test_etcd_store.py asks the same of the real one.
"""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")

import grpc

from bootstrap.etcd import library
from bootstrap.state.etcd import EtcdStore
from bootstrap.state.etcd_calls import GRPC_OPTIONS, Calls

MOST_OPERATIONS = 128


@dataclass
class Fault:
    """What befalls the next transactions: `lost` have their answers dropped after they were done."""

    refused: int = 0
    lost: int = 0
    late: list[Any] = field(default_factory=list)
    """Requests that were answered with an error before they were done, and may be done any time."""
    delayed: int = 0
    silent: bool = False


class Member:
    """Entries by key as (value, mod revision), and every change since the last compaction."""

    Put = DeleteRange = Compact = None  # not used by the store

    def __init__(self) -> None:
        self.rpc = library().etcdrpc
        self.revision = 1
        self.compacted = 0
        self.entries: dict[bytes, tuple[bytes, int]] = {}
        self.events: list[tuple[bytes, bytes | None, int]] = []
        self.lock = threading.Condition()
        self.fault = Fault()
        self.reads = self.watches = 0

    # KV

    def Range(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        self._befall(context)
        self.reads += 1
        with self.lock:
            if request.revision and request.revision < self.compacted:
                context.abort(grpc.StatusCode.OUT_OF_RANGE, "required revision has been compacted")
            return self._range(request)

    def Txn(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        self._befall(context)
        if _size(request) > MOST_OPERATIONS:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: too many operations in txn request")
        if self.fault.refused:
            self.fault.refused -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")
        if self.fault.delayed:
            self.fault.delayed -= 1
            self.fault.late.append(request)
            context.abort(grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out")
        answer = self.done(request)
        if self.fault.lost:
            self.fault.lost -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset by peer")
        return answer

    def done(self, request: Any) -> Any:
        """Do a transaction, as one of the past that comes late is done too."""
        with self.lock:
            before = len(self.events)
            answer = self._txn(request, self.revision + 1)
            if len(self.events) > before:
                self.revision += 1
                self.lock.notify_all()
            answer.header.revision = self.revision
            return answer

    # Watch

    def Watch(self, requests: Any, context: Any) -> Iterator[Any]:  # noqa: N802  # gRPC's name
        create = next(requests).create_request
        self.watches += 1
        yield self.rpc.WatchResponse(created=True)
        with self.lock:
            if create.start_revision <= self.compacted:
                yield self.rpc.WatchResponse(canceled=True, compact_revision=self.compacted)
                return
        at = create.start_revision
        while context.is_active():
            with self.lock:
                found = [
                    one for one in self.events if one[2] >= at and create.key <= one[0] < create.range_end
                ]
                if not found:
                    self.lock.wait(0.05)
                    continue
                at = self.revision + 1
            yield self.rpc.WatchResponse(events=[self._event(*one) for one in found])

    def compact(self) -> None:
        with self.lock:
            self.compacted = self.revision
            self.events.clear()

    def _event(self, key: bytes, value: bytes | None, revision: int) -> Any:
        kinds = self.rpc.rpc_pb2.kv__pb2
        return kinds.Event(
            type=kinds.Event.DELETE if value is None else kinds.Event.PUT,
            kv=kinds.KeyValue(key=key, value=value or b"", mod_revision=revision),
        )

    def _befall(self, context: Any) -> None:
        deadline = time.monotonic() + 30
        while self.fault.silent and context.is_active() and time.monotonic() < deadline:
            time.sleep(0.02)

    def _range(self, request: Any) -> Any:
        found = sorted(
            (key, *entry)
            for key, entry in self.entries.items()
            if (key == request.key if not request.range_end else request.key <= key < request.range_end)
        )
        newer = [one for one in found if one[2] >= request.min_mod_revision]
        cut = newer[: request.limit] if request.limit else newer
        answer = self.rpc.RangeResponse(more=len(cut) < len(newer), count=len(found))
        answer.header.revision = self.revision
        for key, value, revision in cut:
            answer.kvs.add(key=key, value=value, mod_revision=revision)
        return answer

    def _txn(self, request: Any, revision: int) -> Any:
        holds = all(self._holds(one) for one in request.compare)
        answer = self.rpc.TxnResponse(succeeded=holds)
        for operation in request.success if holds else request.failure:
            self._do(operation, revision, answer.responses.add())
        return answer

    def _do(self, operation: Any, revision: int, answer: Any) -> None:
        match operation.WhichOneof("request"):
            case "request_put":
                put = operation.request_put
                self.entries[put.key] = (put.value, revision)
                self.events.append((put.key, put.value, revision))
                answer.response_put.SetInParent()
            case "request_delete_range":
                key = operation.request_delete_range.key
                if self.entries.pop(key, None):
                    self.events.append((key, None, revision))
                answer.response_delete_range.SetInParent()
            case "request_range":
                answer.response_range.CopyFrom(self._range(operation.request_range))
            case _:
                answer.response_txn.CopyFrom(self._txn(operation.request_txn, revision))

    def _holds(self, compare: Any) -> bool:
        value, revision = self.entries.get(compare.key, (None, 0))
        if compare.target == compare.VALUE:
            return bool(value == compare.value)
        return bool(revision == compare.mod_revision)


def _size(request: Any) -> int:
    """Return what etcd counts (checkTxnRequest): the widest level, and what is below it."""
    own: int = max(len(request.compare), len(request.success), len(request.failure))
    inner = (one.request_txn for one in request.success if one.WhichOneof("request") == "request_txn")
    return own + max(map(_size, inner), default=0)


@contextmanager
def serving(folder: Path, *names: str) -> Iterator[tuple[Member, list[str]]]:
    """Serve one likeness at as many sockets as there are `names`; yield it and their URLs."""
    member = Member()
    rpc = member.rpc
    urls, servers = [], []
    for name in names or ("m1",):
        server = grpc.server(ThreadPoolExecutor(32), options=(("grpc.max_receive_message_length", -1),))
        rpc.add_KVServicer_to_server(member, server)
        rpc.add_WatchServicer_to_server(member, server)
        url = f"unix:{folder}/{name}.sock"
        server.add_insecure_port(url)
        server.start()
        urls.append(url)
        servers.append(server)
    try:
        yield member, urls
    finally:
        member.fault.silent = False
        for server in servers:
            server.stop(None).wait()


def plain(url: str) -> Any:
    """Return a client of the likeness at `url`, without TLS."""
    scheme, _, path = url.partition(":")
    return library().client(host=scheme, port=path, grpc_options=GRPC_OPTIONS)


def store_at(urls: list[str], cluster: str = "rack1", *, moves: bool = False, **times: float) -> EtcdStore:
    return EtcdStore(Calls(urls, plain, **times), cluster, moves=moves)
