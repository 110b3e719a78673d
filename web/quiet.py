"""Keeps the log readable, and the disk from filling, while the store is in trouble.

A rack that asks again every few seconds meets the same trouble hundreds of times a minute.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from bootstrap.errors import StateError

EVERY_SECONDS = 60.0
MOST_TROUBLES = 64  # different texts remembered; a disk in trouble has two or three


@dataclass
class _Trouble:
    told_at: float
    held_back: int = 0


class OneAMinute(logging.Filter):
    """Lets the same StateError through once a minute, whoever logs it, and says how many were held back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._turn = threading.Lock()
        self._troubles: dict[str, _Trouble] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether `record` is to be written."""
        values = record.args if isinstance(record.args, tuple) else ()
        text = next((str(value) for value in values if isinstance(value, StateError)), None)
        if text is None:
            return True
        with self._turn:
            return self._is_due(text, record)

    def _is_due(self, text: str, record: logging.LogRecord) -> bool:
        now = self._clock()
        trouble = self._troubles.get(text)
        if trouble is not None and now - trouble.told_at < EVERY_SECONDS:
            trouble.held_back += 1
            return False
        if trouble is not None and trouble.held_back:
            record.msg = f"{record.msg} ({trouble.held_back} more like it since it was last told)"
        if len(self._troubles) >= MOST_TROUBLES:
            self._troubles.clear()
        self._troubles[text] = _Trouble(now)
        return True
