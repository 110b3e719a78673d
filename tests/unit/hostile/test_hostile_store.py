"""A damaged store says so and is not believed (promise S-06)."""

from pathlib import Path

import pytest

from bootstrap.errors import StateError
from bootstrap.state import Put, wal
from bootstrap.state.lastgood import LastGood, copy_of
from bootstrap.state.sqlite import FORMAT, SqliteStore
from tests.tier import dice
from tests.unit.hostile.stores import Original, try_damaged

FEW = 40


def test_no_damage_to_a_store_is_taken_for_an_answer(tmp_path: Path) -> None:
    original, random = Original(tmp_path), dice("store")

    assert {try_damaged(tmp_path, original, random) for _ in range(FEW)} <= {"refused", "right", "cut"}


def test_a_flipped_bit_in_a_value_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = SqliteStore(path)
    store.commit([Put(key="a", value=b"armed"), Put(key="b", value=b"fine")])
    store.close()
    path.write_bytes(path.read_bytes().replace(b"armed", b"arned"))

    store = SqliteStore(path)
    assert store.get("b") is not None
    with pytest.raises(
        StateError, match=r"state\.db: the file is damaged \(the entry 'a' is not what was written\)"
    ):
        store.get("a")
    with pytest.raises(StateError, match="damaged"):
        list(store.scan(""))
    store.close()


def test_a_lost_commit_in_the_middle_of_the_log_is_refused(tmp_path: Path) -> None:
    original, path = Original(tmp_path), tmp_path / "again.db"
    log = bytearray(original.log)
    log[len(log) // 2] ^= 1
    path.write_bytes(original.file)
    path.with_name("again.db-wal").write_bytes(log)

    with pytest.raises(StateError, match=r"again\.db-wal has lost commits that were answered"):
        SqliteStore(path)


def test_a_log_that_starts_over_is_never_called_damaged(tmp_path: Path) -> None:
    random = dice("log")
    store = SqliteStore(tmp_path / "state.db")
    for number in range(120):
        store.commit([Put(key=str(number % 9), value=random.randbytes(random.choice((10, 5000, 120_000))))])
        if number % 10 == 0:
            assert not wal.is_damaged(tmp_path / "state.db-wal")
    assert (tmp_path / "state.db-wal").stat().st_size < 5 << 20
    store.close()


@pytest.mark.parametrize("witness", ["state.db-wal", "state.db.last-good"])
def test_a_store_that_is_gone_or_empty_is_not_made_anew(tmp_path: Path, witness: str) -> None:
    """Made anew, it would arm and erase every machine of a pool that arms by itself."""
    path = tmp_path / "state.db"
    (tmp_path / witness).write_bytes(b"x" * 5000)
    assert copy_of(path).name == "state.db.last-good"

    for is_there in (False, True):
        if is_there:
            path.touch()
        with pytest.raises(StateError, match="is empty or gone, and was in use before"):
            SqliteStore(path)


def test_a_file_of_the_first_format_gets_its_sums(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = SqliteStore(path)
    store.commit([Put(key="a", value=b"1")])
    store._writer.execute("ALTER TABLE entries DROP COLUMN sum")
    store._writer.execute("PRAGMA user_version = 1")
    store.close()

    for _ in range(2):
        store = SqliteStore(path)
        entry = store.get("a")
        assert entry is not None
        assert entry.value == b"1"
        assert store._writer.execute("PRAGMA user_version").fetchone() == (FORMAT,)
        store.close()


def test_a_value_that_rotted_never_replaces_the_good_copy(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = SqliteStore(path)
    store.commit([Put(key="a", value=b"armed")])
    copies = LastGood(path, room_bytes=0)
    assert copies.look()
    good = copy_of(path).read_bytes()
    store.commit([Put(key="b", value=b"more")])
    store.close()
    path.write_bytes(path.read_bytes().replace(b"armed", b"arned"))

    with pytest.raises(StateError, match="the entry 'a' is not what was written"):
        copies.look()
    assert copy_of(path).read_bytes() == good
