"""The dnsmasq that runs now, together with what must be done around its start, its log and its end."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pxe import urgent
from pxe.dnsmasq import Dnsmasq
from pxe.events import Event
from pxe.leases import Leases
from pxe.log import is_noise
from pxe.supervise import Listener

log = logging.getLogger("pxe")

MOST_GATHERED = 100  # events: as many as go to web in one request
GATHERED_SECONDS = 0.5


class Gatherer:
    """Hands events on in batches: a request to web for each of a storm's events would cost more than all the rest."""

    def __init__(self, hand_on: Callable[[Event], None]) -> None:
        self._hand_on = hand_on
        self._events: list[Event] = []
        self._since = 0.0

    def put(self, event: Event) -> None:
        """Take `event`; the batch goes on when it is large or old."""
        now = time.monotonic()
        self._since = self._since if self._events else now
        self._events.append(event)
        if len(self._events) >= MOST_GATHERED or now - self._since >= GATHERED_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Hand on what was gathered."""
        events, self._events = self._events, []
        for event in events:
            self._hand_on(event)


class Service:
    """Starts each dnsmasq with the leases of its predecessor; `on_ready` is called each time one serves."""

    def __init__(
        self, command: Sequence[str], work: Path, leases: Leases, on_ready: Callable[[], None]
    ) -> None:
        self._command = command
        self._work = work
        self._leases = leases
        self._on_ready = on_ready
        self._running: Dnsmasq | None = None

    def start(self) -> Dnsmasq:
        """Return a new dnsmasq, which knows who holds which address."""
        self._leases.restore()
        self._running = Dnsmasq(self._command, self._work, self._leases.hear)
        return self._running

    def serves(self) -> None:
        """Take notice that its sockets are open."""
        if self._running is not None:
            urgent.deepen_queues(self._running.pid)
        self._on_ready()

    def listener(self, observer: Listener, events: Gatherer) -> Listener:
        """Return a listener that keeps the leases, tells `observer`, and in silence flushes its `events`."""
        return _Listener(self, observer, events)

    def quiet(self) -> None:
        """Have dnsmasq forget what its predecessor knew, when it is time."""
        if self._leases.forget() and self._running is not None:
            self._running.read_hosts()


class _Listener:
    """What `supervise` tells: lines go to the observer, silence to all."""

    def __init__(self, service: Service, observer: Listener, events: Gatherer) -> None:
        self._service = service
        self._observer = observer
        self._events = events

    def heard(self, line: str) -> None:
        if is_noise(line) and not log.isEnabledFor(logging.DEBUG):
            return
        self._observer.heard(line)

    def quiet(self) -> None:
        self._service.quiet()
        self._observer.quiet()
        self._events.flush()
