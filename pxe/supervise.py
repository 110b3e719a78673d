"""Keeps dnsmasq running: reads it, starts it again when it dies, and gives up only on what cannot heal."""

import logging
import math
import select
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from bootstrap.errors import ServeError
from pxe import ports
from pxe.dnsmasq import END_SECONDS, Dnsmasq
from pxe.events import clean
from pxe.log import is_routine
from pxe.stop import Stop

log = logging.getLogger("pxe")

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
HEALTHY_SECONDS = 30.0  # one that ran so long starts with the first pause again
QUICK_SECONDS = 2.0  # dnsmasq finds every fault of its configuration and its ports at once
TRIES = 3  # a port may still be held by a process that is just ending
QUIET_SECONDS = 0.1  # the lines of one packet never come further apart
IDLE_SECONDS = 1.0
LAST_WORDS = 5
_REASONS = {  # dnsmasq(8), EXIT CODES
    1: "its configuration is wrong",
    2: "the network or a port refused it",
    3: "a file or folder refused it",
    4: "memory ran out",
    5: "a fault of its own",
}


class Listener(Protocol):
    """Hears what dnsmasq writes."""

    def heard(self, line: str) -> None:
        """Take one line."""

    def quiet(self) -> None:
        """Take notice that no line came for a moment."""


@dataclass(frozen=True, kw_only=True)
class End:
    """How a dnsmasq ended: exit status (negative: the signal), seconds it ran, and its last lines."""

    code: int
    seconds: float
    last_words: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it for people."""
        if self.code < 0:
            return f"was ended by {signal.Signals(-self.code).name} after {self.seconds:.1f} s"
        reason = f" ({_REASONS[self.code]})" if self.code in _REASONS else ""
        return f"ended with status {self.code}{reason} after {self.seconds:.1f} s"


class Patience:
    """Says how long to wait before the next start; pure but for what it remembers.

    A dnsmasq that ran once found its configuration and ports in order: it is started again for ever.
    """

    def __init__(self) -> None:
        self._has_served = False
        self._pause = FIRST_PAUSE_SECONDS
        self._quick_failures = 0

    def after(self, end: End) -> float | None:
        """Return the seconds to wait after `end`, or None if another try is useless."""
        is_quick_failure = end.code > 0 and end.seconds < QUICK_SECONDS
        self._quick_failures = self._quick_failures + 1 if is_quick_failure else 0
        self._has_served |= end.seconds >= QUICK_SECONDS
        if self._quick_failures >= TRIES and not self._has_served:
            return None
        pause = FIRST_PAUSE_SECONDS if end.seconds >= HEALTHY_SECONDS else self._pause
        self._pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        return pause


def supervise(
    start: Callable[[], Dnsmasq], listener: Listener, stop: Stop, on_end: Callable[[], None] = lambda: None
) -> None:
    """Keep a dnsmasq from `start` running until `stop` is asked; then end it and return.

    `on_end` is called each time one ended.

    Raises:
        ServeError: it ends by itself right after each start, and never served; the text holds its own words.
    """
    patience = Patience()
    while not stop.is_asked():
        end = _run_once(start(), listener, stop)
        on_end()
        if stop.is_asked():
            return
        pause = patience.after(end)
        if pause is None:
            raise ServeError(_verdict(end))
        log.warning("dnsmasq %s; starting it again in %.1f s", end, pause)
        stop.wait(pause)


def _run_once(process: Dnsmasq, listener: Listener, stop: Stop) -> End:
    words: deque[str] = deque(maxlen=LAST_WORDS)
    hand_on = partial(_hand_on, process, listener, words)
    try:
        _listen(process, listener, hand_on, wake=(stop.fileno(),))
        if stop.is_asked():
            process.ask_to_end()
            _listen(process, listener, hand_on, deadline=time.monotonic() + END_SECONDS)
    finally:
        code, seconds = process.reap()
    return End(code=code, seconds=seconds, last_words=tuple(words))


def _listen(
    process: Dnsmasq,
    listener: Listener,
    hand_on: Callable[[], None],
    *,
    wake: tuple[int, ...] = (),
    deadline: float = math.inf,
) -> None:
    """Hand on what `process` writes until it ends, a `wake` descriptor is readable, or it is late."""
    pause = QUIET_SECONDS
    is_over = False
    while not is_over and time.monotonic() < deadline:
        readable, _, _ = select.select([process.output, process.ended, *wake], [], [], pause)
        hand_on()
        if not readable:
            listener.quiet()
        pause = QUIET_SECONDS if readable else IDLE_SECONDS
        is_over = any(descriptor in readable for descriptor in (process.ended, *wake))
    listener.quiet()


def _hand_on(process: Dnsmasq, listener: Listener, words: deque[str]) -> None:
    for line in process.lines():
        if line.strip() and not is_routine(line):
            words.append(clean(line))
        listener.heard(line)


def _verdict(end: End) -> str:
    said = "; ".join(end.last_words) or "it said nothing"
    text = f"dnsmasq {end}, {TRIES} times: {said}"
    if any("in use" in word for word in end.last_words) and (held := ports.holders_of_ports()):
        text += f"; ports 67, 69 or 4011 are held by {', '.join(map(str, held))}"
    return text
