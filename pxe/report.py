"""Tells web what was seen on the wire, by HTTPS; a web that is away costs events, never a boot."""

import http
import logging
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import requests

from bootstrap import failpoints
from pxe.events import Event, clean

log = logging.getLogger("pxe")

MOST_WAITING = 20_000  # events: 4,000 machines that netboot once, some 8 MB
MOST_IN_ONE = 100  # a request stays far below web's limit of 1 MB
CONNECT_SECONDS, ANSWER_SECONDS = 2.0, 5.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0
LAST_CHANCE_SECONDS = 0.4  # per attempt while this process ends, which may take 1 s in all
CLOSE_SECONDS = 1.0
_USELESS_AGAIN = frozenset(
    {
        http.HTTPStatus.BAD_REQUEST,
        http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        http.HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)


class Waiting:
    """The events that web has not taken yet, oldest first; when it is full the oldest gives way."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._events: deque[Event] = deque()
        self._most = most
        self._lost = 0
        self._changed = threading.Condition()

    def put(self, event: Event) -> None:
        """Add `event`; never waits."""
        with self._changed:
            if len(self._events) >= self._most:
                self._events.popleft()
                self._lost += 1
            self._events.append(event)
            self._changed.notify()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait for an event, or `nudge`; return whether there is an event."""
        with self._changed:
            if not self._events:
                self._changed.wait(timeout_seconds)
            return bool(self._events)

    def nudge(self) -> None:
        """Wake the one that waits."""
        with self._changed:
            self._changed.notify_all()

    def take(self, most: int = MOST_IN_ONE) -> list[Event]:
        """Return the oldest events and forget them."""
        with self._changed:
            return [self._events.popleft() for _ in range(min(most, len(self._events)))]

    def put_back(self, events: Sequence[Event]) -> None:
        """Put events that `take` gave at the front again; those that no longer fit are lost."""
        with self._changed:
            room = max(self._most - len(self._events), 0)
            too_many = max(len(events) - room, 0)
            self._lost += too_many
            self._events.extendleft(reversed(events[too_many:]))

    def lost(self) -> int:
        """Return how many events were given up since the last call that told; 0 while it is still crowded."""
        with self._changed:
            if len(self._events) > self._most // 2:
                return 0  # more may follow: one line tells of the whole storm
            lost, self._lost = self._lost, 0
            return lost


class Reporter:
    """Posts events to web from a thread of its own, in order, until `close`."""

    def __init__(self, url: str, session: requests.Session, most_waiting: int = MOST_WAITING) -> None:
        self._url = url
        self._session = session
        self._waiting = Waiting(most_waiting)
        self._closing = threading.Event()
        self._pause = 0.0
        self._thread = threading.Thread(target=self._run, name="report", daemon=True)

    def start(self) -> None:
        """Start posting."""
        self._thread.start()

    def put(self, event: Event) -> None:
        """Have `event` posted some time; returns at once."""
        self._waiting.put(event)

    def close(self) -> None:
        """Post what still waits, for at most CLOSE_SECONDS, and stop."""
        self._closing.set()
        self._waiting.nudge()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._closing.is_set():
            if self._waiting.wait() and not self._post_some((CONNECT_SECONDS, ANSWER_SECONDS)):
                self._closing.wait(self._pause)
        while self._waiting.wait(0) and self._post_some((LAST_CHANCE_SECONDS, LAST_CHANCE_SECONDS)):
            pass

    def _post_some(self, timeouts: tuple[float, float]) -> bool:
        """Post a batch; return whether it is done with. One that web may take later is put back."""
        events = self._waiting.take()
        problem = self._post(events, timeouts)
        if problem:
            self._waiting.put_back(events)
            self._note_failure(problem)
            return False
        self._note_success()
        return True

    def _post(self, events: Sequence[Event], timeouts: tuple[float, float]) -> str:
        """Return why web has not taken `events`, or an empty text; one that it refuses costs itself alone."""
        try:
            body = [event.as_json() for event in events]
            failpoints.reached("pxe.report.before")
            answer = self._session.post(self._url, json=body, timeout=timeouts, allow_redirects=False)
            failpoints.reached("pxe.report.after")
        except OSError as error:  # all of requests' own errors are, and so is a missing certificate file
            return _cause(error)
        if answer.status_code in _USELESS_AGAIN:
            if half := len(events) // 2:
                return self._post(events[:half], timeouts) or self._post(events[half:], timeouts)
            log.error("%s: web refused an event (%d); it is lost", events[0].mac, answer.status_code)
            return ""
        return "" if answer.ok else f"it answered {answer.status_code}"

    def _note_failure(self, problem: str) -> None:
        if not self._pause:
            log.warning("web does not take events (%s); they wait, the machines boot on", problem)
        self._pause = min(max(2 * self._pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)

    def _note_success(self) -> None:
        if lost := self._waiting.lost():
            log.warning("%d events were lost while web was away", lost)
        if self._pause:
            log.info("web takes events again")
        self._pause = 0.0


def _cause(error: BaseException) -> str:
    """Return the innermost reason: requests wraps it three times."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return f"{type(error).__name__}: {clean(str(error))}"


def session(work: Path) -> requests.Session:
    """Return a session that trusts the provisioning CA alone and shows the certificate of pxe.

    Proxies of the environment are for the internet; web is on this very computer.
    """
    made = requests.Session()
    made.trust_env = False
    made.verify = str(work / "bundle" / "appliance" / "provisioning-ca.crt")
    key = work / "pki" / "provisioning" / "pxe"
    made.cert = (f"{key}.crt", f"{key}.key")
    return made
