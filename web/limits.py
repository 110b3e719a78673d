"""Token buckets: how often one caller may make us write."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

# Honest installers report every few seconds; a burst comes when reports were held up.
MACHINE_RATE = 10.0
MACHINE_BURST = 50.0
# What pxe saw of one listed machine: a boot is some 20 packets, and comes once in a minute at most.
SIGHTING_RATE = 2.0
SIGHTING_BURST = 100.0
# All unlisted machines together: a whole rack may be switched on at once, a flood of made-up MACs may not
# sync the disk two thousand times a second.
UNKNOWN_RATE = 20.0
UNKNOWN_BURST = 200.0
# What a node says of its GPUs, for each address that says it: every five minutes, and again if we were away.
REPORT_RATE = 1.0
REPORT_BURST = 20.0
REPORT_KEYS = 16384


@dataclass(frozen=True)
class _Level:
    tokens: float
    at: datetime


class Buckets:
    """One bucket per key; the caller takes care that there is a bounded number of keys, or names a bound.

    With `most` keys, the one that asked longest ago is forgotten for a new one: its bucket is full again.
    """

    def __init__(
        self, clock: Callable[[], datetime], *, per_second: float, burst: float, most: int | None = None
    ) -> None:
        self._clock = clock
        self._per_second = per_second
        self._burst = burst
        self._most = most
        self._levels: dict[str, _Level] = {}
        self._lock = threading.Lock()

    def take(self, key: str) -> bool:
        """Take one token of `key`'s bucket; return False if it is empty."""
        now = self._clock()
        with self._lock:
            level = self._levels.pop(key, None) or _Level(self._burst, now)
            if self._most is not None and len(self._levels) >= self._most:
                del self._levels[next(iter(self._levels))]
            # A clock that was set back must not empty the bucket for as long as the step was.
            passed = max(0.0, (now - level.at).total_seconds())
            tokens = min(self._burst, level.tokens + passed * self._per_second)
            granted = tokens >= 1
            self._levels[key] = _Level(tokens - 1 if granted else tokens, now)
        return granted
