"""Follows what is written to etcd, by whomever, and keeps what machines need to boot: the last-known state.

A watch does not survive much: a member that restarts ends it, a compaction cancels it, and one on a member that is
frozen or cut off from the others is silent for ever. So no watch lives longer than some seconds. Before each one a
majority is asked for the revision that it stands at, and the watch goes to the member that answered, from the
revision up to which we know. What a compaction has taken away is read anew as a whole.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bootstrap.errors import StateError
from bootstrap.state import Entry, Turn
from bootstrap.state.etcd_calls import Calls, Refused
from bootstrap.state.etcd_txn import Messages

WATCH_SECONDS = 5.0
PAUSE_SECONDS = 0.5
TOLD = ("accepted/", "machine/", "stranger/", "inventory/")
"""What other processes must hear of, and what is read again as a whole when some of it was missed."""
KEPT = ("machine/", "document/")
LIVE = "/live"  # the one document of a machine that is served without asking the store

log = logging.getLogger(__name__)

Pages = Callable[[str], Iterator[list[Entry]]]
Listen = Callable[[Sequence[Turn]], None]


class Compacted(Exception):  # noqa: N818  # reads as a sentence where it is raised
    """The revisions that a watch was to begin with are gone."""


class Follower:
    """Goes on in a thread of its own until it is stopped; `pages` reads all entries below a prefix."""

    def __init__(self, calls: Calls, messages: Messages, pages: Pages) -> None:
        self._calls = calls
        self._messages = messages
        self._pages = pages
        self._listen: Listen = lambda _: None
        self._kept: dict[str, Entry] = {}
        self._names: set[str] = set()
        self._revision = 0
        self._is_in_trouble = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="etcd-follow", daemon=True)

    def start(self, listen: Listen) -> None:
        """Start the thread; `listen` is called in it, and must not wait for long."""
        self._listen = listen
        self._thread.start()

    def stop(self) -> None:
        """End the thread as soon as its watch ends."""
        self._stop.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(2 * WATCH_SECONDS)

    def known(self, key: str) -> Entry | None:
        """Return the entry as it was heard of last."""
        return self._kept.get(key)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
                self._say(is_well=True)
            except (StateError, Refused) as error:
                self._say(is_well=False, why=str(error))
                self._stop.wait(PAUSE_SECONDS)
            except Exception:
                # The thread is the only one of its kind: whatever went wrong, it is to go on.
                log.exception("could not follow etcd")
                self._revision = 0
                self._stop.wait(WATCH_SECONDS)

    def look(self) -> None:
        """Take in what was written since the last time, and watch for some seconds.

        Raises:
            StateError, Refused: etcd did not answer, or not what it should.
        """
        try:
            if not self._revision:
                self._read_all()
            self._watch()
        except Compacted:
            log.info("etcd was compacted beyond what was heard of; reading all anew")
            self._revision = 0

    def _read_all(self) -> None:
        """Read everything that is followed; what is not there any more is told as gone."""
        revision = self._standing()
        found: dict[str, Entry] = {}
        for prefix in dict.fromkeys((*TOLD, *KEPT)):
            for page in self._pages(prefix):
                found |= {entry.key: entry for entry in page if prefix != "document/" or _is_kept(entry.key)}
        gone = self._names - set(found)
        self._kept = {key: entry for key, entry in found.items() if _is_kept(key)}
        told = {key: entry for key, entry in found.items() if key.startswith(TOLD)}
        self._names = set(told)
        self._listen(
            [
                *(Turn(key=key, value=None) for key in sorted(gone)),
                *(Turn(key=key, value=entry.value) for key, entry in told.items()),
            ]
        )
        self._revision = revision

    def _standing(self) -> int:
        """Return the revision at which a majority stands."""
        request = self._messages.page(self._messages.full(""), b"", limit=1)
        answer = self._calls.tried(lambda client, seconds: client.kvstub.Range(request, seconds))
        return int(answer.header.revision)

    def _watch(self) -> None:
        request = self._messages.watch("", self._revision + 1)
        ended = threading.Event()

        def asked() -> Iterator[Any]:
            yield request
            ended.wait(2 * WATCH_SECONDS)  # a stream whose asker has ended may be ended by the other side

        # Asks a majority through the member on which the watch then is: one that is cut off says nothing at all.
        client = self._calls.tried(self._answering)
        stream = self._messages.watching(client).Watch(asked(), WATCH_SECONDS)
        try:
            for answer in stream:
                self._take(answer)
                if self._stop.is_set():
                    return
        except Exception as error:
            code = getattr(error, "code", None)
            if not callable(code):
                raise
            if getattr(code(), "name", "") != "DEADLINE_EXCEEDED":
                time.sleep(PAUSE_SECONDS)
        finally:
            ended.set()
            stream.cancel()

    def _answering(self, client: Any, seconds: float) -> Any:
        client.kvstub.Range(self._messages.page(self._messages.full(""), b"", limit=1), seconds)
        return client

    def _take(self, answer: Any) -> None:
        if answer.compact_revision:
            raise Compacted
        if answer.canceled:
            raise StateError(f"etcd ({self._calls}): cancelled a watch: {answer.cancel_reason}")
        turns = [self._turn(event) for event in answer.events]
        if turns:
            self._listen([turn for turn in turns if turn.key.startswith(TOLD)])
            self._revision = max(self._revision, *(int(event.kv.mod_revision) for event in answer.events))

    def _turn(self, event: Any) -> Turn:
        """Take in one event, and return what it tells."""
        key = self._messages.ours(event.kv.key)
        is_gone = event.type == event.DELETE
        if key.startswith(TOLD):
            (self._names.discard if is_gone else self._names.add)(key)
        if is_gone:
            self._kept.pop(key, None)
        elif _is_kept(key):
            self._kept[key] = Entry(key=key, value=bytes(event.kv.value), revision=int(event.kv.mod_revision))
        return Turn(key=key, value=None if is_gone else bytes(event.kv.value))

    def _say(self, *, is_well: bool, why: str = "") -> None:
        """Log what changed, not what goes on."""
        if not is_well and not self._is_in_trouble:
            log.warning("cannot follow what others write: %s", why)
        elif is_well and self._is_in_trouble:
            log.info("following what others write again")
        self._is_in_trouble = not is_well


def _is_kept(key: str) -> bool:
    return key.startswith("machine/") or (key.startswith("document/") and key.endswith(LIVE))
