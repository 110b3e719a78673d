"""The copy beside the store: whole, checked, replaced in one step, and good enough to go on from."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.errors import StateError
from bootstrap.state import Put
from bootstrap.state.lastgood import LastGood, copy_of
from bootstrap.state.sqlite import SqliteStore


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(database: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(database)
    store.commit([Put(key="machine/1", value=b"armed")])
    yield store
    store.close()


def test_the_copy_is_a_store_of_its_own(store: SqliteStore, database: Path, tmp_path: Path) -> None:
    assert LastGood(database, room_bytes=0).look()
    store.commit([Put(key="machine/1", value=b"installed")])

    # As the message says: into the place of the damaged file, which takes its logs with it.
    restored = tmp_path / "restored" / "state.db"
    restored.parent.mkdir()
    shutil.copy(copy_of(database), restored)
    again = SqliteStore(restored)
    entry = again.get("machine/1")
    again.close()

    assert entry is not None
    assert entry.value == b"armed"
    assert copy_of(database).stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.glob("*fresh*")) == []


def test_what_has_not_changed_is_not_copied_again(store: SqliteStore, database: Path) -> None:
    copies = LastGood(database, room_bytes=0)

    assert [copies.look(), copies.look()] == [True, False]
    store.commit([Put(key="machine/1", value=b"installed")])
    assert copies.look()


def test_a_damaged_file_never_replaces_the_good_copy(store: SqliteStore, database: Path) -> None:
    copies = LastGood(database, room_bytes=0)
    store.commit([Put(key=f"machine/{number}", value=bytes(2000)) for number in range(200)])
    copies.look()
    good = copy_of(database).read_bytes()
    store.commit([Put(key="machine/1", value=b"newer")])
    store.close()
    with database.open("r+b") as file:
        file.seek(4 * 4096)
        file.write(b"\xff" * 64 * 4096)

    with pytest.raises(StateError, match=r"no fresh \.last-good copy"):
        copies.look()

    assert copy_of(database).read_bytes() == good
    with pytest.raises(StateError, match=r"damaged .* put state\.db\.last-good beside it in its place"):
        SqliteStore(database)


def test_a_disk_that_is_nearly_full_is_left_to_the_events(store: SqliteStore, database: Path) -> None:
    with pytest.raises(StateError, match="MiB are free"):
        LastGood(database, room_bytes=1 << 60).look()

    assert not copy_of(database).exists()
    assert store.get("machine/1") is not None


def test_no_file_is_made_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="unable to open"):
        LastGood(tmp_path / "state.db").look()

    assert list(tmp_path.iterdir()) == []


def test_the_thread_copies_at_once_and_ends(store: SqliteStore, database: Path) -> None:
    copies = LastGood(database, every_seconds=0.01, room_bytes=0)
    copies.start()
    store.commit([Put(key="machine/1", value=b"installed")])
    copies.stop()

    with sqlite3.connect(copy_of(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
