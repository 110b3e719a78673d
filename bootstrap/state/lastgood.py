"""Keeps `state.db.last-good` beside the store's file: a whole, checked copy for the day that the file is damaged.

It is no backup: it lies on the same disk. It is made under another name and renamed, so it is whole at any moment.
"""

import logging
import os
import shutil
import sqlite3
import threading
import zlib
from contextlib import closing
from pathlib import Path

from bootstrap.errors import StateError

EVERY_SECONDS = 600.0
ROOM_BYTES = 64 << 20  # what must stay free: events go before copies
SUFFIX = ".last-good"

log = logging.getLogger(__name__)


def sum_of(key: str, value: bytes, revision: int) -> int:
    """Return the sum that an entry carries; it finds every error of up to 32 bits in a row."""
    return zlib.crc32(value, zlib.crc32(f"{revision} {key}".encode()))


def copy_of(database: Path) -> Path:
    """Return where the copy of `database` lies."""
    return database.with_name(database.name + SUFFIX)


def copy_to(database: Path, target: Path) -> None:
    """Make `target`, which must not exist, a whole and checked copy of one moment of the store in `database`.

    Whoever writes to the store meanwhile is not held up.

    Raises:
        StateError: it is damaged, or the copy could not be written.
    """
    try:
        with closing(_opened(database)) as source:
            _copy(source, target)
    except (sqlite3.Error, OSError) as error:
        raise StateError(f"{database}: cannot be copied: {error}") from error


def revision_of(database: Path) -> int:
    """Return the revision of the last commit in the store in `database`.

    Raises:
        StateError: it is damaged or not there.
    """
    try:
        with closing(_opened(database)) as source:
            return int(source.execute("SELECT revision FROM counter").fetchone()[0])
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise StateError(f"{database}: cannot be read: {error}") from error


class LastGood:
    """Copies the file in a thread of its own, at once and then every `every_seconds` if it has changed."""

    def __init__(
        self, database: Path, every_seconds: float = EVERY_SECONDS, room_bytes: int = ROOM_BYTES
    ) -> None:
        self._database = database
        self._every_seconds = every_seconds
        self._room_bytes = room_bytes
        self._copied = -1
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="last-good", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the copy that it makes now."""
        self._stop.set()
        self._thread.join()

    def look(self) -> bool:
        """Copy the file if it has changed since the last copy; return whether it was copied.

        Raises:
            StateError: it could not be copied, or is damaged; the earlier copy is as it was.
        """
        fresh = self._database.with_name(f".{self._database.name}.fresh")
        try:
            with closing(_opened(self._database)) as source:
                revision: int = source.execute("SELECT revision FROM counter").fetchone()[0]
                if revision == self._copied:
                    return False
                self._check_room()
                fresh.unlink(missing_ok=True)
                _copy(source, fresh)
            _settle(fresh, copy_of(self._database))
        except (sqlite3.Error, OSError) as error:
            raise StateError(f"{self._database}: no fresh {SUFFIX} copy: {error}") from error
        finally:
            fresh.unlink(missing_ok=True)
        self._copied = revision
        return True

    def _check_room(self) -> None:
        wanted = self._database.stat().st_size + self._room_bytes
        free = shutil.disk_usage(self._database.parent).free
        if free < wanted:
            raise OSError(f"{free >> 20} MiB are free, it takes {wanted >> 20}")

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except StateError as error:
                log.warning("%s", error)
            if self._stop.wait(self._every_seconds):
                return


def _opened(database: Path) -> sqlite3.Connection:
    # By its URI: a plain name would make an empty file where there is none.
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True)


def _copy(source: sqlite3.Connection, target: Path) -> None:
    """Make `target` from one moment of `source`, and check it."""
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        source.backup(copy)
        # One file, without a log beside it that would have to be copied as well.
        copy.execute("PRAGMA journal_mode = DELETE").fetchone()
        found = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
        for key, value, revision, known in copy.execute("SELECT key, value, revision, sum FROM entries"):
            if known != sum_of(key, value, revision):
                found = f"the entry {key!r:.80} is not what was written"
    if found != "ok":
        raise sqlite3.DatabaseError(f"the file is damaged ({found})")


def _settle(fresh: Path, target: Path) -> None:
    """Bring `fresh` to the disk, then give it the name of `target`."""
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    fresh.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
