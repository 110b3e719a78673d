"""What only the SQLite store can get wrong: damage, full disks, power cuts, permissions."""

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bootstrap.errors import StateError
from bootstrap.state import Put
from bootstrap.state.sqlite import FORMAT, SqliteStore


def open_store(folder: Path) -> SqliteStore:
    return SqliteStore(folder / "state.db")


def test_the_file_and_its_companions_are_their_owners_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([Put(key="a", value=b"1")])

    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    store.close()

    assert modes == {"state.db": 0o600, "state.db-shm": 0o600, "state.db-wal": 0o600}


def test_every_commit_is_synced(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    pragmas = [
        store._writer.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")
    ]
    store.close()

    assert pragmas == [2, "wal"]


def test_an_opened_again_store_goes_on(tmp_path: Path) -> None:
    first = open_store(tmp_path)
    revision = first.commit([Put(key="a", value=b"1")])
    first.close()

    again = open_store(tmp_path)

    assert again.commit([Put(key="b", value=b"2")]) == revision + 1
    assert [entry.key for entry in again.scan("")] == ["a", "b"]
    again.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"this is a text file" * 100)

    with pytest.raises(StateError, match=r"state\.db: the file is damaged .* backup"):
        open_store(tmp_path)


def test_a_damaged_page_is_found_at_open(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for n in range(200):
        store.commit([Put(key=f"k{n}", value=b"v" * 200)])
    store.close()
    path = tmp_path / "state.db"
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 4] = b"\xff" * 4096
    path.write_bytes(content)

    with pytest.raises(StateError, match="damaged"):
        open_store(tmp_path)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store._writer.execute(f"PRAGMA user_version = {FORMAT + 1}")
    store.close()

    with pytest.raises(StateError, match="later firstlight"):
        open_store(tmp_path)


def test_a_folder_that_is_not_there_is_a_state_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot open: No such file"):
        open_store(tmp_path / "none")


def test_a_full_disk_tears_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([Put(key="kept", value=b"1")])
    pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(StateError, match="cannot write: database or disk is full"):
        store.commit([Put(key="kept", value=b"2"), Put(key="big", value=b"x" * 100_000)])

    entry = store.get("kept")
    assert entry is not None
    assert entry.value == b"1"
    store._writer.execute(f"PRAGMA max_page_count = {pages + 1000}")
    store.commit([Put(key="big", value=b"x" * 100_000)])
    store.close()


def test_a_read_only_file_is_a_state_error(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store._writer.execute("PRAGMA query_only = ON")

    with pytest.raises(StateError, match="cannot write: attempt to write a readonly database"):
        store.commit([Put(key="a", value=b"1")])
    assert store.get("a") is None
    store.close()


def test_a_kernel_that_refuses_the_write_tears_nothing(tmp_path: Path) -> None:
    """A file size limit makes write(2) fail as a broken disk would, in the middle of the commits."""
    program = """
import resource, sys
from pathlib import Path
from bootstrap.errors import StateError
from bootstrap.state import Put
from bootstrap.state.sqlite import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
n = 0
try:
    while True:
        store.commit([Put(key=f"a{n}", value=b"x" * 3000), Put(key=f"b{n}", value=b"x" * 3000)])
        n += 1
except StateError as error:
    print(n, error)
"""
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "state.db")],
        check=True,
        capture_output=True,
        text=True,
    )
    count, _, text = run.stdout.partition(" ")

    assert int(count) > 5
    assert "cannot write" in text
    store = open_store(tmp_path)
    assert sorted(e.key for e in store.scan("")) == sorted(f"{c}{n}" for c in "ab" for n in range(int(count)))
    store.close()


COMMIT_FOR_EVER = """
import sys
from pathlib import Path
from bootstrap.state import Put
from bootstrap.state.sqlite import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
start = sum(1 for _ in store.scan("a"))
for n in range(start, 10**9):
    store.commit([Put(key=f"a{n:08}", value=b"v"), Put(key=f"b{n:08}", value=b"v")])
    print(n, flush=True)
"""


@pytest.mark.system
def test_twenty_kills_lose_no_answered_commit(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    chance = random.Random(7)  # a fixed seed, to fail the same way twice
    for _ in range(20):
        answered = answered_before_kill(path, chance.uniform(0.0, 0.08))
        store = SqliteStore(path)
        a, b = (sum(1 for _ in store.scan(prefix)) for prefix in "ab")
        store.close()
        assert a == b > answered


def answered_before_kill(path: Path, seconds: float) -> int:
    """Return the last number that the program said it had committed before it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMIT_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    lines = [first, *process.stdout.read().splitlines()]
    process.stdout.close()
    process.wait()
    return int(lines[-1])


def test_readers_are_not_held_up_by_a_writer(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([Put(key="a", value=b"1")])
    with store._transaction():
        found: list[object] = []
        reader = threading.Thread(target=lambda: found.append(store.get("a")))
        reader.start()
        reader.join(2)
    store.close()

    assert len(found) == 1


def test_many_short_threads_leave_few_connections(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for _ in range(50):
        thread = threading.Thread(target=store.get, args=("a",))
        thread.start()
        thread.join()

    assert len(store._idle) == 1
    store.close()
