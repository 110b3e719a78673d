"""The write-ahead log has its blocks before they are needed."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bootstrap.errors import StateError
from bootstrap.state import Put, log_room
from bootstrap.state.log_room import RESERVED_BYTES
from bootstrap.state.sqlite import SqliteStore


def test_commits_do_not_grow_the_log_so_that_no_sync_waits_for_the_journal(tmp_path: Path) -> None:
    """Symptom: an answered event was lost when the file system gave up its journal during the sync."""
    log, sizes, blocks = tmp_path / "state.db-wal", set(), set()
    store = SqliteStore(tmp_path / "state.db")
    for number in range(600):
        store.commit([Put(key=str(number), value=os.urandom(5000))])
        sizes.add(log.stat().st_size)
        blocks.add(log.stat().st_blocks)
    store.close()

    assert {RESERVED_BYTES} == sizes
    assert 1 == len(blocks), "each block was written before, none is a hole"


def test_what_a_killed_process_has_left_in_the_log_is_kept(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path / "state.db")
    first.commit([Put(key="a", value=b"1")])
    left = {name: (tmp_path / name).read_bytes() for name in ("state.db", "state.db-wal")}
    first.close()
    used = len(left["state.db-wal"].rstrip(b"\0"))
    for name, content in left.items():
        (tmp_path / name).write_bytes(content[: used + 4096] if name == "state.db-wal" else content)

    second = SqliteStore(tmp_path / "state.db")

    entry = second.get("a")
    assert entry is not None
    assert b"1" == entry.value
    assert RESERVED_BYTES == (tmp_path / "state.db-wal").stat().st_size
    second.close()


def failing(number: int) -> Callable[..., int]:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_on_a_full_disk_the_store_opens_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(os, call, failing(errno.ENOSPC))
    log_room.reserve(tmp_path / "state.db-wal")

    assert 0 == (tmp_path / "state.db-wal").stat().st_size


def test_a_log_that_cannot_be_synced_is_not_taken_for_one_that_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(StateError, match=r"state\.db: cannot open: Input/output error"):
            SqliteStore(tmp_path / "state.db")

    assert RESERVED_BYTES > (tmp_path / "state.db-wal").stat().st_size
    SqliteStore(tmp_path / "state.db").close()
