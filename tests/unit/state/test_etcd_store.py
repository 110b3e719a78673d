"""The store in etcd, and what a network can do to it."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.errors import Conflict, StateError
from bootstrap.state import MOVE, Delete, Put, Write, parted
from bootstrap.state.etcd import KEPT_MARKS, EtcdStore
from bootstrap.state.etcd_txn import ROOM
from tests.contract.etcd_likeness import Member, serving, store_at

SECONDS = 2.0  # a call of a hasty one may take so long


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Member, list[str]]]:
    with serving(tmp_path) as found:
        yield found


@pytest.fixture
def store(served: tuple[Member, list[str]]) -> Iterator[EtcdStore]:
    made = store_at(served[1])
    yield made
    made.close()


@pytest.fixture
def hasty(served: tuple[Member, list[str]]) -> Iterator[EtcdStore]:
    """A process that gives up soon."""
    made = store_at(served[1], try_seconds=1.0, call_seconds=SECONDS)
    yield made
    made.close()


@pytest.fixture
def other(served: tuple[Member, list[str]]) -> Iterator[EtcdStore]:
    """Another process on the same etcd."""
    made = store_at(served[1])
    yield made
    made.close()


@pytest.fixture
def member(served: tuple[Member, list[str]]) -> Member:
    return served[0]


def value(store: EtcdStore, key: str) -> bytes | None:
    entry = store.get(key)
    return entry.value if entry else None


def test_a_commit_whose_answer_is_lost_is_done_once(store: EtcdStore, member: Member) -> None:
    store.commit([Put(key="n", value=b"0")])
    member.fault.lost = 2

    revision = store.commit([Put(key="n", value=b"1"), Put(key="event/1", value=b"", after=0)])

    entry = store.get("n")
    assert entry is not None
    assert (entry.value, entry.revision) == (b"1", revision)
    assert member.fault.lost == 0


def test_a_refused_commit_is_tried_again(store: EtcdStore, member: Member) -> None:
    member.fault.refused = 2

    store.commit([Put(key="n", value=b"1", after=0)])

    assert value(store, "n") == b"1"


def test_a_commit_that_comes_late_overwrites_nothing(
    hasty: EtcdStore, other: EtcdStore, member: Member
) -> None:
    """It was given up, and written again by somebody else; then the network brings it after all."""
    hasty.commit([Put(key="first", value=b"")])
    member.fault.delayed = 1000
    with pytest.raises(StateError, match="no answer within"):
        hasty.commit([Put(key="n", value=b"given up")])
    member.fault.delayed = 0
    hasty.commit([Put(key="n", value=b"mine")])
    other.commit([Put(key="n", value=b"newer")])

    for request in member.fault.late:
        member.done(request)

    assert value(hasty, "n") == b"newer"


def test_a_commit_that_came_late_is_noticed_by_the_next_one(hasty: EtcdStore, member: Member) -> None:
    hasty.commit([Put(key="n", value=b"0")])
    member.fault.delayed = 1000
    with pytest.raises(StateError):
        hasty.commit([Put(key="n", value=b"late", after=store_revision(hasty))])
    member.fault.delayed = 0
    before = store_revision(hasty)
    member.done(member.fault.late[0])

    with pytest.raises(Conflict, match=rf"n is at revision \d+, not {before}"):
        hasty.commit([Put(key="n", value=b"mine", after=before)])
    assert value(hasty, "n") == b"late"
    hasty.commit([Put(key="n", value=b"mine", after=store_revision(hasty))])


def store_revision(store: EtcdStore) -> int:
    entry = store.get("n")
    return entry.revision if entry else 0


def test_two_processes_lose_no_conditional_increment(store: EtcdStore, other: EtcdStore) -> None:
    def increment(mine: EtcdStore) -> None:
        done = 0
        while done < 25:
            entry = mine.get("n")
            number, after = (int(entry.value), entry.revision) if entry else (0, 0)
            try:
                mine.commit([Put(key="n", value=str(number + 1).encode(), after=after)])
                done += 1
            except Conflict:
                continue

    threads = [threading.Thread(target=increment, args=(one,)) for one in (store, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert value(store, "n") == b"50"


@pytest.mark.system
def test_an_etcd_that_is_away_is_one_clear_error_in_time_and_comes_back_by_itself(
    hasty: EtcdStore, member: Member
) -> None:
    hasty.commit([Put(key="n", value=b"1")])
    member.fault.silent = True
    began = time.monotonic()

    with pytest.raises(StateError) as caught:
        hasty.get("n")

    assert time.monotonic() - began < 2 * SECONDS
    assert re.fullmatch(
        r"etcd \(unix:.*/m1\.sock\): no answer within 2 s \(.+\); look whether it runs \(`etcdctl endpoint health`\) "
        r"and at appliance\.etcd in the configuration",
        str(caught.value),
    )
    member.fault.silent = False
    assert value(hasty, "n") == b"1"


def test_while_etcd_is_away_one_waits_and_the_others_are_answered_at_once(
    hasty: EtcdStore, member: Member
) -> None:
    hasty.commit([Put(key="n", value=b"1")])
    member.fault.silent = True
    with pytest.raises(StateError):
        hasty.get("n")
    took: list[float] = []

    def ask() -> None:
        began = time.monotonic()
        with pytest.raises(StateError, match="no answer within"):
            hasty.get("n")
        took.append(time.monotonic() - began)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len([seconds for seconds in took if seconds > SECONDS / 2]) == 1


def test_a_member_that_says_nothing_is_left_for_one_that_does(
    served: tuple[Member, list[str]], tmp_path: Path
) -> None:
    path = tmp_path / "mute.sock"
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        made = store_at([f"unix:{path}", f"unix:{tmp_path}/nobody.sock", *served[1]], try_seconds=0.3)
        began = time.monotonic()
        made.commit([Put(key="n", value=b"1")])
        first = time.monotonic() - began
        made.commit([Put(key="n", value=b"2")])
        made.close()

    assert first < 2
    assert time.monotonic() - began < 2.5


@pytest.mark.parametrize("count", [128, 129, 2000, ROOM.writes])
def test_a_commit_of_many_writes_is_one_that_etcd_takes(store: EtcdStore, count: int) -> None:
    conditions = [Put(key=f"c/{number}", value=b"", after=0) for number in range(ROOM.conditions)]

    store.commit([*conditions, *(Put(key=f"k/{number}", value=b"") for number in range(count))])

    assert len(list(store.scan("k/"))) == count


def test_what_is_too_much_for_etcd_is_said_before_it_is_sent(store: EtcdStore) -> None:
    with pytest.raises(StateError, match="conditions is more than etcd takes"):
        store.commit([Put(key=f"c/{number}", value=b"", after=0) for number in range(130)])
    with pytest.raises(StateError, match="a commit of 5001 writes is more than etcd takes"):
        store.commit([Put(key=f"c/{number}", value=b"") for number in range(5000)])


def test_writes_are_parted_by_number_and_by_size() -> None:
    writes: list[Write] = [Put(key=f"{number}", value=b"x" * 500_000) for number in range(5)]
    small: list[Write] = [Delete(key=f"{number}") for number in range(5000)]

    assert [2, 2, 1] == [len(part) for part in parted(writes, ROOM)]
    assert [2048, 2048, 904] == [len(part) for part in parted(small, ROOM)]
    assert [*writes, *small] == [write for part in parted([*writes, *small], ROOM) for write in part]


def test_many_keys_are_read_by_one_question(store: EtcdStore) -> None:
    store.commit([Put(key=f"k/{number}", value=b"%d" % number) for number in range(100)])
    asked = [f"k/{number}" for number in range(50, 250)]

    found = store.get_all(asked)

    assert list(found) == asked
    assert {key for key, entry in found.items() if entry} == {f"k/{number}" for number in range(50, 100)}
    assert found["k/77"] == store.get("k/77")


def test_a_scan_that_meets_a_compaction_begins_anew(store: EtcdStore, member: Member) -> None:
    store.commit([Put(key=f"k/{number:04d}", value=b"") for number in range(600)])
    pages = store._pages("k/")
    next(pages)
    store.commit([Put(key="k/0000", value=b"x")])
    member.compact()
    seen = member.reads

    assert len(list(store.scan("k/"))) == 600
    assert member.reads - seen == 3
    with pytest.raises(Exception, match="compacted"):
        next(pages)


def test_a_store_whose_state_is_moved_takes_no_commit_but_the_movers(
    store: EtcdStore,
) -> None:
    mover = EtcdStore(store._calls, "rack1", moves=True)
    mover.commit([Put(key=MOVE, value=b"{}")])

    with pytest.raises(StateError, match="the state is moved to another store, or was"):
        store.commit([Put(key="n", value=b"1")])
    mover.commit([Put(key="n", value=b"2")])
    mover.commit([Delete(key=MOVE)])

    store.commit([Put(key="n", value=b"3")])
    assert value(store, "n") == b"3"


def test_clusters_in_one_etcd_do_not_meet(store: EtcdStore, served: tuple[Member, list[str]]) -> None:
    namesake = store_at(served[1], "rack")
    namesake.commit([Put(key="1/state/n", value=b"theirs")])
    store.commit([Put(key="n", value=b"ours")])

    assert [b"ours"] == [entry.value for entry in store.scan("")]
    namesake.close()


def test_marks_of_processes_that_are_gone_are_swept(
    store: EtcdStore, member: Member, served: tuple[Member, list[str]]
) -> None:
    for _ in range(KEPT_MARKS + 10):
        one = store_at(served[1])
        one.commit([])
        one._moved = b""  # as a killed one leaves it
        one.close()
    marks = [key for key in member.entries if b"/writer/" in key]
    assert len(marks) == KEPT_MARKS + 10

    store.sweep()

    assert len([key for key in member.entries if b"/writer/" in key]) == KEPT_MARKS
    store.commit([Put(key="n", value=b"1")])
    store.close()
    assert len([key for key in member.entries if b"/writer/" in key]) == KEPT_MARKS


def test_a_process_whose_mark_was_swept_goes_on(store: EtcdStore, member: Member) -> None:
    store.commit([Put(key="n", value=b"1")])
    for key in [key for key in member.entries if b"/writer/" in key]:
        del member.entries[key]

    store.commit([Put(key="n", value=b"2")])

    assert value(store, "n") == b"2"
