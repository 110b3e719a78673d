"""What every store is asked, by whoever has one: the contract of bootstrap/state/__init__.py."""

import threading
from collections.abc import Callable

import pytest
from hypothesis import strategies as st

from bootstrap.errors import Conflict, StateError
from bootstrap.state import Delete, Put, Store

ALPHABET = "ab\ud7ff\U0010ffff"
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["put", "delete"]),
        st.text(alphabet=ALPHABET, max_size=3),
        st.none() | st.integers(min_value=0, max_value=8),
    ),
    max_size=12,
)
"""Commits of one write each: verb, key, and which of the revisions so far it asks for (0: absent)."""
PREFIXES = st.text(alphabet=ALPHABET, max_size=2)
Acts = list[tuple[str, str, int | None]]


def keys(store: Store, prefix: str) -> list[str]:
    return [entry.key for entry in store.scan(prefix)]


def what_was_put_is_got_with_the_revision_of_its_commit(store: Store) -> None:
    revision = store.commit([Put(key="a", value=b"\0one")])

    entry = store.get("a")

    assert entry is not None
    assert (entry.key, entry.value, entry.revision) == ("a", b"\0one", revision)
    assert store.get("b") is None


def a_scan_can_be_limited_to_what_was_written_since(store: Store) -> None:
    store.commit([Put(key="a/1", value=b""), Put(key="a/2", value=b""), Put(key="b", value=b"")])
    before = store.commit([Put(key="a/2", value=b"x")])
    store.commit([Put(key="a/1", value=b"y"), Put(key="b", value=b"y"), Put(key="a/3", value=b"y")])

    assert ["a/1", "a/3"] == [entry.key for entry in store.scan("a/", newer=before)]
    assert ["a/1", "a/2", "a/3"] == [entry.key for entry in store.scan("a/", newer=before - 1)]


def revisions_grow_and_a_key_made_again_gets_no_old_one(store: Store) -> None:
    first = store.commit([Put(key="a", value=b"1")])
    store.commit([Delete(key="a")])
    again = store.commit([Put(key="a", value=b"1")])

    assert again > first
    with pytest.raises(Conflict):
        store.commit([Put(key="a", value=b"2", after=first)])


def after_zero_means_absent(store: Store) -> None:
    store.commit([Put(key="a", value=b"1", after=0)])

    with pytest.raises(Conflict, match=r"a is at revision \d+, not 0"):
        store.commit([Put(key="a", value=b"2", after=0)])


def after_the_current_revision_writes_and_after_another_does_not(store: Store) -> None:
    revision = store.commit([Put(key="a", value=b"1")])
    store.commit([Put(key="a", value=b"2", after=revision)])

    with pytest.raises(Conflict):
        store.commit([Put(key="a", value=b"3", after=revision)])
    with pytest.raises(Conflict):
        store.commit([Delete(key="a", after=revision)])
    entry = store.get("a")
    assert entry is not None
    assert entry.value == b"2"


def a_commit_with_one_conflict_writes_nothing(store: Store) -> None:
    store.commit([Put(key="kept", value=b"old")])

    with pytest.raises(Conflict):
        store.commit([Put(key="new", value=b"1"), Delete(key="kept"), Put(key="kept", value=b"2", after=99)])

    assert keys(store, "") == ["kept"]


def deleting_what_is_not_there_is_fine_unless_a_revision_was_asked(store: Store) -> None:
    store.commit([Delete(key="a"), Delete(key="a", after=0)])

    with pytest.raises(Conflict):
        store.commit([Delete(key="a", after=7)])


def a_scan_holds_the_prefix_in_byte_order(store: Store) -> None:
    names = ["m/b", "m/a", "m", "m0", "m/\ud7ff", "m/\ue000", "m/\U0001f600", "m/ä", "n/a", "M/a"]
    store.commit([Put(key=name, value=b"") for name in names])

    assert keys(store, "m/") == sorted((n for n in names if n.startswith("m/")), key=str.encode)
    assert keys(store, "") == sorted(names, key=str.encode)
    assert keys(store, "m/\ud7ff") == ["m/\ud7ff"]
    assert keys(store, "x") == []


def a_prefix_has_no_wild_cards(store: Store) -> None:
    for wild in ("%", "_", "*", "?", "[a]"):
        store.commit([Put(key="abc", value=b""), Put(key=f"{wild}x", value=b"")])

        assert keys(store, wild) == [f"{wild}x"]


def a_scan_may_be_read_while_others_write(store: Store) -> None:
    store.commit([Put(key=f"k{n}", value=b"") for n in range(10)])
    seen = []
    for entry in store.scan("k"):
        seen.append(entry.key)
        store.commit([Delete(key=entry.key), Put(key=f"k9{entry.key}", value=b"")])

    assert seen == [f"k{n}" for n in range(10)]


def an_empty_commit_is_a_commit(store: Store) -> None:
    assert store.commit([]) > 0


def a_closed_store_says_so(store: Store) -> None:
    store.close()

    with pytest.raises(StateError, match="closed"):
        store.get("a")
    with pytest.raises(StateError, match="closed"):
        store.commit([Put(key="a", value=b"")])
    with pytest.raises(StateError, match="closed"):
        list(store.scan(""))


def racing_threads_lose_no_conditional_increment(store: Store) -> None:
    store.commit([Put(key="n", value=b"0")])

    def increment() -> None:
        for _ in range(20):
            while not try_once(store):
                pass

    threads = [threading.Thread(target=increment) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    entry = store.get("n")
    assert entry is not None
    assert entry.value == b"160"


def try_once(store: Store) -> bool:
    entry = store.get("n")
    assert entry is not None
    try:
        store.commit([Put(key="n", value=str(int(entry.value) + 1).encode(), after=entry.revision)])
    except Conflict:
        return False
    return True


def many_writes_are_one_commit(store: Store) -> None:
    store.commit([Put(key=f"old/{number:04d}", value=b"") for number in range(600)])
    gone = [Delete(key=f"old/{number:04d}") for number in range(600)]
    fresh = [Put(key=f"new/{number:04d}", value=b"x" * 100, after=0) for number in range(90)]

    with pytest.raises(Conflict):
        store.commit([*gone, *fresh, Put(key="other", value=b"", after=99)])
    assert len(keys(store, "old/")) == 600

    revision = store.commit([*gone, *fresh])

    assert keys(store, "old/") == []
    assert {revision} == {entry.revision for entry in store.scan("new/")}
    assert len(keys(store, "new/")) == 90


def a_scan_is_whole_however_long(store: Store) -> None:
    for first in range(0, 1000, 500):
        store.commit([Put(key=f"k/{number:04d}", value=b"") for number in range(first, first + 500)])

    assert keys(store, "k/") == [f"k/{number:04d}" for number in range(1000)]


def answer_of(store: Store, acts: Acts, prefix: str) -> list[object]:
    """Return what a store makes of `acts`, told without its own numbers for revisions."""
    answers: list[object] = []
    revisions = [0]
    for verb, key, chosen in acts:
        after = chosen if chosen is None else revisions[min(chosen, len(revisions) - 1)]
        write = Put(key=key, value=b"v", after=after) if verb == "put" else Delete(key=key, after=after)
        try:
            revisions.append(store.commit([write]))
            answers.append("done")
        except Conflict:
            answers.append("conflict")
    return [*answers, [entry.key for entry in store.scan(prefix)]]


QUESTIONS: tuple[Callable[[Store], None], ...] = (
    what_was_put_is_got_with_the_revision_of_its_commit,
    a_scan_can_be_limited_to_what_was_written_since,
    revisions_grow_and_a_key_made_again_gets_no_old_one,
    after_zero_means_absent,
    after_the_current_revision_writes_and_after_another_does_not,
    a_commit_with_one_conflict_writes_nothing,
    deleting_what_is_not_there_is_fine_unless_a_revision_was_asked,
    a_scan_holds_the_prefix_in_byte_order,
    a_prefix_has_no_wild_cards,
    a_scan_may_be_read_while_others_write,
    an_empty_commit_is_a_commit,
    a_closed_store_says_so,
    racing_threads_lose_no_conditional_increment,
    many_writes_are_one_commit,
    a_scan_is_whole_however_long,
)
