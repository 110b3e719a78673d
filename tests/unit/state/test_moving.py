"""The state moves between two stores: whole, one home at any moment, and on again after it was killed anywhere."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from bootstrap.errors import StateError, UsageError
from bootstrap.progress import Progress, silent
from bootstrap.state import MOVE, Delete, Put, Room, Store, Write, moving
from bootstrap.state.memory import MemoryStore
from bootstrap.state.moving import End, move, why_not_home
from bootstrap.state.sqlite import SqliteStore
from tests.contract.etcd_likeness import serving, store_at


class Killed(Exception):  # noqa: N818  # what happens, not what is wrong
    """The process ends here."""


class Mortal(MemoryStore):
    """A store whose process is killed before or after its Nth commit."""

    dies_at = -1
    dies_before = False

    def commit(self, writes: Sequence[Write]) -> int:
        Mortal.dies_at -= 1
        if Mortal.dies_at == 0 and self.dies_before:
            raise Killed
        revision = super().commit(writes)
        if Mortal.dies_at == 0:
            raise Killed
        return revision


def filled(store: Store, machines: int = 20) -> Store:
    store.commit([Put(key=f"machine/{n:05d}", value=b"x" * 50) for n in range(machines)])
    store.commit([Put(key=f"event/{n:012d}", value=b"e") for n in range(3 * machines)])
    store.commit(
        [Put(key="meta/last-event", value=b"60"), Put(key="ä\ud7ff\U0001f600", value=bytes(range(256)))]
    )
    return store


def ends(source: Store, target: Store) -> tuple[End, End]:
    return End(kind="sqlite", store=source), End(kind="etcd", store=target)


def content(store: Store) -> dict[str, bytes]:
    return {entry.key: entry.value for entry in store.scan("") if entry.key != MOVE}


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Store]:
    with serving(tmp_path) as (_, urls):
        made = store_at(urls)
        made._own_conditions = {}
        yield made
        made.close()


@pytest.mark.system
def test_everything_moves_there_and_back(tmp_path: Path, etcd: Store) -> None:
    file = filled(SqliteStore(tmp_path / "state.db"), 1500)
    before = content(file)
    there, back = ends(file, etcd), ends(file, etcd)[::-1]

    found = move(*there, silent)

    assert (found.entries, found.machines, found.events, found.written) == (6002, 1500, 4500, 6002)
    assert content(etcd) == before
    assert why_not_home(etcd) == ""
    assert why_not_home(file).startswith("the state was moved to etcd: write appliance.store: etcd")

    etcd.commit([Put(key="machine/00001", value=b"new"), Delete(key="machine/00002")])
    again = move(*back, silent)

    assert (again.machines, again.written) == (1499, 2)
    assert content(file) == content(etcd)
    assert why_not_home(file) == ""
    assert why_not_home(etcd).startswith("the state was moved to sqlite")
    file.close()


def test_a_second_run_changes_nothing(etcd: Store) -> None:
    source = filled(MemoryStore())
    first = move(*ends(source, etcd), silent)
    etcd.commit([Put(key="machine/later", value=b"")])

    again = move(*ends(source, etcd), silent)

    assert first.written
    assert again.written == 0
    assert again.machines == first.machines + 1
    assert "machine/later" in content(etcd)


@pytest.mark.parametrize("is_before", [True, False])
def test_killed_at_any_commit_it_goes_on_and_never_has_two_homes(
    monkeypatch: pytest.MonkeyPatch, *, is_before: bool
) -> None:
    monkeypatch.setattr(moving, "AT_ONCE", Room(writes=10, content=10_000))
    monkeypatch.setattr(Mortal, "dies_before", is_before)
    commits = 0
    while True:
        commits += 1
        Mortal.dies_at = -1
        source, target = filled(Mortal()), Mortal()
        before = content(source)
        Mortal.dies_at = commits
        try:
            move(*ends(source, target), silent)
        except Killed:
            homes = [store for store in (source, target) if why_not_home(store) == "" and content(store)]
            assert len(homes) <= 1
            assert content(source) == before
            move(*ends(source, target), silent)
        assert content(target) == before
        assert why_not_home(target) == ""
        assert why_not_home(source)
        if Mortal.dies_at > 0:
            break

    assert commits == 14  # two marks, nine parts, the two marks of the end, and one run that nobody killed


def test_killed_on_the_way_it_can_be_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "AT_ONCE", Room(writes=10, content=10_000))
    for commits in range(1, 12):
        Mortal.dies_at = -1
        source, target = filled(Mortal()), Mortal()
        before = content(source)
        Mortal.dies_at = commits
        with suppress(Killed):
            move(*ends(source, target), silent)
        Mortal.dies_at = -1
        there, back = ends(source, target)

        move(back, there, silent)

        assert content(source) == before
        assert why_not_home(source) == ""
        assert why_not_home(target)
        move(there, back, silent)
        assert content(target) == before


def test_a_target_with_a_state_of_its_own_is_refused_and_left_as_it_is() -> None:
    source, target = filled(MemoryStore()), filled(MemoryStore(), 3)
    before = (content(source), content(target))

    with pytest.raises(UsageError, match=r"etcd holds a state of this cluster already \(3 machines\)"):
        move(*ends(source, target), silent)

    assert (content(source), content(target)) == before
    assert (why_not_home(source), why_not_home(target)) == ("", "")
    assert move(*ends(source, target), silent, replace=True).machines == 20
    assert content(target) == before[0]


def test_a_source_without_a_state_is_refused() -> None:
    source, target = MemoryStore(), filled(MemoryStore())

    with pytest.raises(UsageError, match="sqlite holds no state of this cluster"):
        move(*ends(source, target), silent, replace=True)

    assert why_not_home(target) == ""


def test_an_unfinished_copy_of_somewhere_else_is_never_taken_for_the_state() -> None:
    source, copy, stranger = filled(Mortal()), Mortal(), MemoryStore()
    Mortal.dies_at = 3
    with pytest.raises(Killed):
        move(*ends(source, copy), silent)

    with pytest.raises(UsageError, match="sqlite is not what it was made from"):
        move(End(kind="etcd", store=copy), End(kind="sqlite", store=stranger), silent)

    assert content(stranger) == {}


def test_a_copy_that_differs_in_the_end_is_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = filled(MemoryStore()), MemoryStore()
    real = moving._copied

    def meddled(one: Store, other: Store, progress: Progress) -> int:
        done = real(one, other, progress)
        other.commit([Put(key="machine/00003", value=b"another")])
        return done

    monkeypatch.setattr(moving, "_copied", meddled)
    with pytest.raises(StateError, match="somebody else writes there; end it, then run this again"):
        move(*ends(source, target), silent)

    assert why_not_home(target)
    assert "a move to etcd was interrupted" in why_not_home(source)
