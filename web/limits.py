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


@dataclass(frozen=True)
class _Level:
    tokens: float
    at: datetime


class Buckets:
    """One bucket per key; the caller takes care that there is a bounded number of keys."""

    def __init__(self, clock: Callable[[], datetime], *, per_second: float, burst: float) -> None:
        self._clock = clock
        self._per_second = per_second
        self._burst = burst
        self._levels: dict[str, _Level] = {}
        self._lock = threading.Lock()

    def take(self, key: str) -> bool:
        """Take one token of `key`'s bucket; return False if it is empty."""
        now = self._clock()
        with self._lock:
            level = self._levels.get(key, _Level(self._burst, now))
            # A clock that was set back must not empty the bucket for as long as the step was.
            passed = max(0.0, (now - level.at).total_seconds())
            tokens = min(self._burst, level.tokens + passed * self._per_second)
            granted = tokens >= 1
            self._levels[key] = _Level(tokens - 1 if granted else tokens, now)
        return granted
