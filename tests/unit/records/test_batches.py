"""Group commit: few commits for many callers, each answered for its own act, and none before it is durable."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from bootstrap.errors import Conflict, StateError
from bootstrap.records.batch import MOST_TRIES, Batch, Batches
from bootstrap.records.ledger import Change, Ledger, Note
from bootstrap.records.model import MachineRecord
from bootstrap.state import Delete, Entry, Put, Room, Store, Turn, Write, size_of
from bootstrap.state.memory import MemoryStore

CALLERS = 64


class SlowStore:
    """A memory store whose commits take their time, as a disk's do, and fail when told to."""

    def __init__(self) -> None:
        self.inner: Store = MemoryStore()
        self.commits: list[int] = []
        self.error: Exception | None = None
        self.before: Callable[[], None] = lambda: None

    def get(self, key: str) -> Entry | None:
        return self.inner.get(key)

    def scan(self, prefix: str, newer: int = 0) -> Iterator[Entry]:
        return self.inner.scan(prefix, newer)

    def commit(self, writes: Sequence[Write]) -> int:
        self.before()
        time.sleep(0.005)
        if self.error:
            raise self.error
        revision = self.inner.commit(writes)
        self.commits.append(len(writes))
        return revision

    def close(self) -> None:
        self.inner.close()


@pytest.fixture(name="store")
def fixture_store() -> SlowStore:
    return SlowStore()


def count(batch: Batch) -> int:
    """Add one to the counter, as the ledger does for the number of an event."""
    entry = batch.get("count")
    number = int(entry.value) + 1 if entry else 1
    batch.write([Put(key="count", value=str(number).encode()), Put(key=f"event/{number}", value=b"")])
    return number


def at_once(batches: Batches, acts: Sequence[Callable[[Batch], int]]) -> list[int | Exception]:
    """Run each act in a thread of its own, all at the same time; return results and errors in their order."""
    barrier = threading.Barrier(len(acts))

    def run(act: Callable[[Batch], int]) -> int | Exception:
        barrier.wait()
        try:
            return batches.run(act)
        except Exception as error:  # noqa: BLE001  # the test looks at it
            return error

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def test_many_callers_share_few_commits_and_no_number_is_given_twice(store: SlowStore) -> None:
    batches = Batches(store)

    found = at_once(batches, [count] * CALLERS)

    assert list(range(1, CALLERS + 1)) == sorted(number for number in found if isinstance(number, int))
    assert len(store.commits) <= CALLERS // 4
    assert CALLERS == len(list(store.scan("event/")))


def test_nobody_is_answered_before_the_commit_is_done(store: SlowStore) -> None:
    seen: list[bool] = []

    def run() -> None:
        number = batches.run(count)
        seen.append(store.get(f"event/{number}") is not None)

    batches = Batches(store)
    threads = [threading.Thread(target=run) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [True] * CALLERS == seen


class SmallStore(SlowStore):
    """A store that others write to as well, and that takes small commits only."""

    room = Room(writes=40, conditions=12, content=1000)

    reads = 0

    def commit(self, writes: Sequence[Write]) -> int:
        conditions = sum(write.after is not None for write in writes)
        if (
            len(writes) > self.room.writes
            or conditions > self.room.conditions
            or size_of(writes) > self.room.content
        ):
            raise StateError("etcd: cannot write: request is too large")
        return super().commit(writes)

    def get(self, key: str) -> Entry | None:
        self.reads += 1
        return super().get(key)

    def get_all(self, keys: Sequence[str]) -> dict[str, Entry | None]:
        self.reads += 1
        return {key: super(SmallStore, self).get(key) for key in keys}

    def last_known(self, key: str) -> Entry | None:
        return self.get(key)

    def follow(self, listen: Callable[[Sequence[Turn]], None]) -> None:
        del listen


def test_a_commit_holds_no_more_than_its_store_takes() -> None:
    store = SmallStore()

    found = at_once(Batches(store), [count] * CALLERS)

    assert list(range(1, CALLERS + 1)) == sorted(one for one in found if isinstance(one, int))
    assert max(store.commits) == 4 + 1  # four events and the counter
    ledger = Ledger(store, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    store.commits.clear()
    store.reads = 0

    ledger.change_all(
        [f"m{number}" for number in range(30)],
        lambda mac, _, now: Change(
            record=MachineRecord(mac=mac, name=mac, since=now),
            note=Note(who="operator", what="accepted", log=mac, machine=mac),
        ),
    )

    assert len(list(ledger.machines())) == 30
    assert max(store.commits) <= 4 * 4 + 1
    assert ledger.last_event() == 30
    assert store.reads < 30, "they are read together"


def saying(size: int) -> Callable[[Batch], int]:
    """Return an act like `count` that writes so many bytes as well, at a key of its own."""

    def act(batch: Batch) -> int:
        number = count(batch)
        batch.write([Put(key=f"facts/{number}", value=b"x" * size)])
        return number

    return act


def test_large_reports_of_one_machine_are_no_error_of_the_claims_beside_them() -> None:
    store = SmallStore()

    found = at_once(Batches(store), [saying(600), count, count, count] * 8)

    assert list(range(1, 33)) == sorted(one for one in found if isinstance(one, int))
    assert len(list(store.scan("facts/"))) == 8
    assert len(store.commits) < 24, "the small ones still share their commits"


def test_a_report_that_no_commit_has_room_for_is_refused_alone() -> None:
    store = SmallStore()

    found = at_once(Batches(store), [saying(1200), *[count] * 31])

    assert [str(one) for one in found if isinstance(one, Exception)] == [
        "etcd: cannot write: request is too large"
    ]
    assert list(range(1, 32)) == sorted(one for one in found if isinstance(one, int))


@pytest.mark.parametrize("what", ["writes", "conditions"])
def test_acts_with_many_writes_share_no_commit_that_the_store_refuses(what: str) -> None:
    """As when the logs of a whole rack are cut at once, or machines are enrolled while others report."""
    store = SmallStore()

    def act(batch: Batch) -> int:
        number = count(batch)
        keys = [f"{number}/{at}" for at in range(15 if what == "writes" else 5)]
        if what == "conditions":
            batch.know(dict.fromkeys(keys))
        batch.write([Put(key=key, value=b"") for key in keys])
        return number

    found = at_once(Batches(store), [act] * 16)

    assert list(range(1, 17)) == sorted(one for one in found if isinstance(one, int))
    assert len(store.commits) >= 8


def test_what_did_not_fit_is_done_again_when_another_process_was_first() -> None:
    store, done = SmallStore(), list[bool]()

    def overtake() -> None:
        if not done:
            done.append(True)
            store.inner.commit([Put(key="count", value=b"41")])

    store.before = overtake

    found = at_once(Batches(store), [saying(600)] * 8)

    assert len({one for one in found if isinstance(one, int)}) == 8
    assert b"49" == (store.get("count") or pytest.fail("gone")).value


def test_what_was_read_ahead_and_has_changed_since_is_read_again() -> None:
    store = SmallStore()
    ledger = Ledger(store, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    macs = [f"m{number:02d}" for number in range(12)]

    def renamed(mac: str, record: MachineRecord | None, now: datetime) -> Change:
        if mac == "m07" and not done:
            done.append(True)
            theirs = MachineRecord(mac="m08", name="theirs", since=now)
            store.inner.commit([Put(key="machine/m08", value=theirs.to_bytes())])
        return Change(record=record or MachineRecord(mac=mac, name=mac, since=now))

    done: list[bool] = []
    ledger.change_all(macs, renamed)

    assert [record.name for record in ledger.machines()] == [
        "theirs" if mac == "m08" else mac for mac in macs
    ]


def test_an_act_that_fails_takes_back_its_own_writes_only(store: SlowStore) -> None:
    def spoil(batch: Batch) -> int:
        count(batch)
        raise ValueError("mine")

    found = at_once(Batches(store), [count, spoil] * 16)

    assert 16 == sum(isinstance(one, ValueError) for one in found)
    assert list(range(1, 17)) == sorted(one for one in found if isinstance(one, int))
    assert 16 == len(list(store.scan("event/")))


def test_a_store_that_cannot_write_is_everybodys_error_and_the_next_is_served(store: SlowStore) -> None:
    batches = Batches(store)
    store.error = StateError("state.db: cannot write: disk full")

    found = at_once(batches, [count] * 16)

    assert 16 == sum(isinstance(one, StateError) for one in found)
    assert 16 == len({id(one) for one in found}), "each thread raises an error of its own"
    store.error = None
    assert 1 == batches.run(count)


def test_what_another_process_wrote_first_is_decided_again(store: SlowStore) -> None:
    def overtake() -> None:
        store.before = lambda: None
        store.inner.commit([Put(key="count", value=b"41")])

    store.before = overtake

    assert 42 == Batches(store).run(count)
    assert b"42" == (store.get("count") or pytest.fail("gone")).value


def test_races_lost_for_ever_end_in_a_conflict(store: SlowStore) -> None:
    tries: list[int] = []

    def overtake() -> None:
        tries.append(1)
        store.inner.commit([Put(key="count", value=str(len(tries)).encode())])

    store.before = overtake

    with pytest.raises(Conflict, match="races"):
        Batches(store).run(count)
    assert MOST_TRIES == len(tries)


def test_what_came_to_be_or_went_since_it_was_read_is_a_conflict(store: SlowStore) -> None:
    """An entry that was absent when it was read must still be absent, and the other way round."""
    for before, meanwhile in (
        ([], [Put(key="a", value=b"2")]),
        ([Put(key="a", value=b"1")], [Delete(key="a")]),
    ):
        store.inner = MemoryStore()
        store.inner.commit(before)
        batch = Batch(store)
        batch.get("a")
        batch.write([Put(key="a", value=b"3")])
        batch.keep()
        store.inner.commit(meanwhile)
        with pytest.raises(Conflict):
            batch.commit()


def test_a_batch_sees_its_own_writes(store: SlowStore) -> None:
    store.inner.commit([Put(key="a/1", value=b"old"), Put(key="a/2", value=b"old")])
    batch = Batch(store)

    batch.write([Put(key="a/1", value=b"new"), Delete(key="a/2"), Put(key="a/3", value=b"new")])

    assert ["a/1", "a/3"] == batch.keys("a/")
    assert b"new" == (batch.get("a/1") or pytest.fail("gone")).value
    assert None is batch.get("a/2")
    batch.drop()
    assert ["a/1", "a/2"] == batch.keys("a/")


def test_nothing_written_is_no_commit(store: SlowStore) -> None:
    assert 7 == Batches(store).run(lambda _: 7)
    assert [] == store.commits
