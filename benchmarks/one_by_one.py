"""The appliance without group commit: each change is a transaction of its own, on a connection of its own.

`python -m benchmarks.one_by_one` takes the options of `python -m web`, and runs its code but for what commits.
Writers wait for each other in SQLite's busy handler, which sleeps and tries again.
"""

import sqlite3
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from bootstrap import stores
from bootstrap.records import ledger
from bootstrap.records.batch import Batch
from bootstrap.state import Entry, Store, Write
from bootstrap.state import sqlite as product
from web import __main__ as supervisor
from web import server

BUSY_SECONDS = 60.0

Result = TypeVar("Result")


class OneByOne:
    """Stands where the ledger has its Batches."""

    def __init__(self, store: Store) -> None:
        del store
        self._idle: deque[sqlite3.Connection] = deque()

    def run(self, act: Callable[[Batch], Result]) -> Result:
        """Return what `act` returns, once what it wrote is durable."""
        connection = self._idle.pop() if self._idle else _connect(stores.DATABASE)
        try:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                batch = Batch(cast("Store", _Inside(connection)))
                result = act(batch)
                batch.keep()
                batch.commit()
            return result
        finally:
            self._idle.append(connection)


class _Inside:
    """A store as one transaction sees it; who holds the write lock has no race to lose."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._ask = connection.execute

    def get(self, key: str) -> Entry | None:
        """Return the entry at `key`, or None."""
        row = self._ask(product._GET, (key,)).fetchone()  # noqa: SLF001  # the same statements, another way to wait
        return Entry(key=row[0], value=row[1], revision=row[2]) if row else None

    def scan(self, prefix: str, newer: int = 0) -> Iterator[Entry]:
        """Yield the entries whose key starts with `prefix`, which is ASCII."""
        values = (newer, prefix, f"{prefix}\x7f")
        for row in self._ask(product._SCAN, values).fetchall():  # noqa: SLF001  # as above
            yield Entry(key=row[0], value=row[1], revision=row[2])

    def commit(self, writes: Sequence[Write]) -> int:
        """Do all `writes`; the transaction around them commits."""
        return product._apply(self._connection, writes)  # noqa: SLF001  # as above


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def main() -> int:
    """Be the supervisor, or with no `--work` the application that it starts."""
    if "--work" not in sys.argv:
        of_ledger: Any = ledger
        of_ledger.Batches = OneByOne
        server.main()
        return 0
    of_supervisor: Any = supervisor
    child = of_supervisor.Child

    def start(name: str, command: Sequence[str], **more: Any) -> Any:
        ours = tuple(word.replace("web.server", "benchmarks.one_by_one") for word in command)
        return child(name, ours, **more)

    of_supervisor.Child = start
    return supervisor.main()


if __name__ == "__main__":
    sys.exit(main())
