"""The store in one SQLite file: an answered commit survives a power cut.

Commits of all threads queue at one lock, for the one connection that writes. SQLite's own way to wait for a
writer is to sleep and try again, by which some writers starve (measured: 36 times the tail at 16 writers);
the same lock is the place where a later group commit gathers what waits.

No connection is ever used by two threads at once, as their transactions would mix. Readers take one from a
pool rather than from a thread-local: a server that calls Python from its own threads may present each request
as a new thread, and would open the file anew each time.

SQLite sees a damaged page structure, but takes any value as it comes: a bit that a disk has lost would be an arm, an
address or a line of a document. So each entry carries a sum over its key, revision and value.
"""

import os
import sqlite3
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bootstrap import failpoints
from bootstrap.errors import Conflict, StateError
from bootstrap.state import Delete, Entry, Put, Write, log_room, wal
from bootstrap.state.lastgood import copy_of, sum_of

FORMAT = 2  # kept in the file's user_version, so that a later format is told apart
BUSY_SECONDS = 5.0  # a backup or another process may hold the file for a moment

_SCHEMA = (
    """CREATE TABLE entries
        (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL, sum INTEGER) STRICT""",
    "CREATE TABLE counter (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL) STRICT",
    "INSERT INTO counter VALUES (1, 0)",
    f"PRAGMA user_version = {FORMAT}",
)
_WRITE = """INSERT INTO entries VALUES (?, ?, ?, ?) ON CONFLICT (key)
    DO UPDATE SET value = excluded.value, revision = excluded.revision, sum = excluded.sum"""


_MAKE = "INSERT INTO entries VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
_CHANGE = "UPDATE entries SET value = ?, revision = ?, sum = ? WHERE key = ? AND revision = ?"

_GET = "SELECT key, value, revision, sum FROM entries WHERE key = ?"
_SCAN_ALL = "SELECT key, value, revision, sum FROM entries WHERE revision > ? AND key >= ? ORDER BY key"
_SCAN = (
    "SELECT key, value, revision, sum FROM entries WHERE revision > ? AND key >= ? AND key < ? ORDER BY key"
)
_REMOVE = "DELETE FROM entries WHERE key = ? AND revision = ?"


Row = tuple[str, bytes, int, int]


class SqliteStore:
    """Keeps entries in the file at `path`, made with mode 0600 if it is not there.

    Raises:
        StateError: the file is damaged, of a later format, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._idle: deque[sqlite3.Connection] = deque()
        self._writing = threading.Lock()
        self._closed = False
        with self._speaking_plainly("open"):
            self._check_files()
            _make_private(path)
            self._writer = self._connect()
            self._check(self._writer)
            with self._transaction() as connection:
                _make_tables(connection)
                _sum_all(connection)
            log_room.reserve(self._log)
            _sync_folder(path.parent)

    def get(self, key: str) -> Entry | None:
        """Return the entry at `key`, or None."""
        rows = self._read(_GET, [key])
        return self._entry(rows[0]) if rows else None

    def scan(self, prefix: str, newer: int = 0) -> Iterator[Entry]:
        """Yield the entries below `prefix` with a revision above `newer`, in key order, all from one moment."""
        end = _first_key_after(prefix)
        rows = self._read(_SCAN_ALL if end is None else _SCAN, [newer, prefix, *([end] if end else [])])
        yield from map(self._entry, rows)

    def commit(self, writes: Sequence[Write]) -> int:
        """Do all `writes` or none, durably; return the new revision."""
        with self._speaking_plainly("write"), self._transaction() as connection:
            return _apply(connection, writes)

    def close(self) -> None:
        """Close all connections; the last one folds the write-ahead log into the file."""
        with self._writing:
            self._closed = True
            while self._idle:
                self._idle.pop().close()
            self._writer.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        # NORMAL may lose answered commits of the last moments in a power cut; FULL syncs each one.
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _read(self, query: str, values: Sequence[str | int]) -> list[Row]:
        self._must_be_open()
        with self._speaking_plainly("read"):
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            rows = connection.execute(query, values).fetchall()
            self._idle.append(connection)
        return rows

    def _entry(self, row: Row) -> Entry:
        key, value, revision, found = row
        if not isinstance(value, bytes) or found != sum_of(key, value, revision):
            raise StateError(_damaged(self._path, f"the entry {key!r:.80} is not what was written"))
        return Entry(key=key, value=value, revision=revision)

    def _must_be_open(self) -> None:
        if self._closed:
            raise StateError(f"{self._path}: the store is closed")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._writing:
            self._must_be_open()
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                failpoints.reached("store.commit.before")
                self._writer.execute("COMMIT")
                failpoints.reached("store.commit.after")
            except BaseException:
                # After some errors (disk full) SQLite has rolled back by itself and refuses to do it twice.
                with suppress(sqlite3.Error):
                    self._writer.execute("ROLLBACK")
                raise

    def _check_files(self) -> None:
        """Refuse what SQLite would take for a new file, or for a log that ends early."""
        if _size(self._path) == 0 and (_size(self._log) or _size(copy_of(self._path))):
            raise StateError(_damaged(self._path, "it is empty or gone, and was in use before"))
        if wal.is_damaged(self._log):
            raise StateError(_damaged(self._path, f"{self._log.name} has lost commits that were answered"))

    def _check(self, connection: sqlite3.Connection) -> None:
        # Not the quick one: where an index has lost a key, a machine would seem unknown.
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise StateError(_damaged(self._path, found))
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT:
            raise StateError(
                f"{self._path}: written by a later firstlight (format {version}, this one: {FORMAT})"
            )

    @contextmanager
    def _speaking_plainly(self, verb: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if _is_damage(error):
                raise StateError(_damaged(self._path, str(error))) from error
            raise StateError(f"{self._path}: cannot {verb}: {error}") from error
        except OSError as error:
            raise StateError(f"{self._path}: cannot {verb}: {error.strerror}") from error


def _is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error tells of the file's content, and not of what surrounds it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest is detail
    # A table that is not there, or a text that is none, is an SQL error; our statements are right.
    return code in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_FORMAT,
    ) or ("decode to UTF-8" in str(error))


def _damaged(path: Path, found: str) -> str:
    copy = f"{copy_of(path).name} beside it" if copy_of(path).exists() else "a copy from a backup"
    said = " ".join(found.split())
    return f"{path}: the file is damaged ({said}); stop the appliance and put {copy} in its place"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _make_private(path: Path) -> None:
    """Make the file with mode 0600 before SQLite makes it; its -wal and -shm take the same mode."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)


def _sync_folder(folder: Path) -> None:
    """Bring the names of the file and its log to the disk: SQLite tries, and says nothing when that fails."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_tables(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        for statement in _SCHEMA:
            connection.execute(statement)


def _sum_all(connection: sqlite3.Connection) -> None:
    """Give the entries of a file of format 1 their sums."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == FORMAT:
        return
    connection.create_function("sum_of", 3, sum_of, deterministic=True)
    connection.execute("ALTER TABLE entries ADD COLUMN sum INTEGER")
    connection.execute("UPDATE entries SET sum = sum_of(key, value, revision)")
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def _apply(connection: sqlite3.Connection, writes: Sequence[Write]) -> int:
    connection.execute("UPDATE counter SET revision = revision + 1")
    revision: int = connection.execute("SELECT revision FROM counter").fetchone()[0]
    for write in writes:
        if write.after is not None:
            _write_after(connection, write, write.after, revision)
        elif isinstance(write, Put):
            whole = sum_of(write.key, write.value, revision)
            connection.execute(_WRITE, (write.key, write.value, revision, whole))
        else:
            connection.execute("DELETE FROM entries WHERE key = ?", (write.key,))
    return revision


def _write_after(connection: sqlite3.Connection, write: Write, after: int, revision: int) -> None:
    """Write only if the entry is at `after`: the condition and the write are one statement."""
    match write:
        case Put(key=key, value=value) if after == 0:
            changed = connection.execute(_MAKE, (key, value, revision, sum_of(key, value, revision)))
        case Put(key=key, value=value):
            whole = sum_of(key, value, revision)
            changed = connection.execute(_CHANGE, (value, revision, whole, key, after))
        case Delete():
            changed = connection.execute(_REMOVE, (write.key, after))
    if changed.rowcount == 0:
        _refuse_unless_absent(connection, write, after)


def _refuse_unless_absent(connection: sqlite3.Connection, write: Write, after: int) -> None:
    """Raise Conflict, but for the one case where nothing was to be done: an absent entry is to be absent."""
    row = connection.execute("SELECT revision FROM entries WHERE key = ?", (write.key,)).fetchone()
    if row or after:
        raise Conflict(f"{write.key} is at revision {row[0] if row else 0}, not {after}")


def _first_key_after(prefix: str) -> str | None:
    """Return the smallest key above all that start with `prefix`; None if there is none (empty prefix)."""
    kept = prefix.rstrip(chr(0x10FFFF))
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    # U+D800 to U+DFFF are no characters: UTF-8 (RFC 3629) goes from U+D7FF straight to U+E000.
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)  # noqa: PLR2004  # RFC 3629's own number
