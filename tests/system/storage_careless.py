"""The control of the experiments: a SQLite that does not sync, so that a test must see acknowledged events lost.

It uses the standard library alone: the VM of the power cuts runs this text as its sitecustomize.
"""

import sqlite3
from typing import Any


def forget_to_sync(level: str = "OFF") -> None:
    """Make every connection of this process hear `level` where FULL is said."""

    class Careless(sqlite3.Connection):
        def execute(self, sql: str, *more: Any) -> sqlite3.Cursor:
            return super().execute(sql.replace("synchronous = FULL", f"synchronous = {level}"), *more)

    connect = sqlite3.connect
    sqlite3.connect = lambda *given, **named: connect(*given, **{**named, "factory": Careless})
