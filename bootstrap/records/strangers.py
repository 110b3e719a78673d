"""The machines that the configuration does not list: noted, bounded, and left alone."""

from collections.abc import Callable, Iterator
from datetime import datetime

from bootstrap.records.ledger import UNKNOWN, Ledger, Note
from bootstrap.records.model import Introduction, Stranger
from bootstrap.state import Delete, Put, Write

MOST_STRANGERS = 4096
# When the table is full the ones not seen for longest go, this many at a time.
EVICTED_TOGETHER = 64


class Strangers:
    """The table of unlisted machines; it can fill up without any harm to the listed ones."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._count = sum(1 for _ in ledger.store.scan("stranger/"))

    def all(self) -> Iterator[Stranger]:
        """Yield them in MAC order."""
        for entry in self._ledger.store.scan("stranger/"):
            yield Stranger.from_bytes(entry.value)

    def saw(self, mac: str, said: Introduction) -> None:
        """Note that an unlisted machine asked for a boot; only its first time is an event.

        Raises:
            StateError: the store could not write.
        """
        now = self._clock()
        entry = self._ledger.store.get(f"stranger/{mac}")
        if entry is None:
            self._meet(Stranger(mac=mac, first_seen=now, last_seen=now, said=said))
            return
        known = Stranger.from_bytes(entry.value)
        again = known.but(last_seen=now, boots=known.boots + 1, said=said)
        self._ledger.store.commit([Put(key=entry.key, value=again.to_bytes())])

    def _meet(self, stranger: Stranger) -> None:
        room = self._room()
        news = Put(key=f"stranger/{stranger.mac}", value=stranger.to_bytes())
        told = Note(
            who="machine",
            what="discovered",
            log=UNKNOWN,
            machine=stranger.mac,
            decision="leave",
            reason="not in the configuration",
        )
        self._ledger.write([*room, news], told)
        self._count += 1 - len(room)

    def _room(self) -> list[Write]:
        if self._count < MOST_STRANGERS:
            return []
        oldest = sorted(self.all(), key=lambda stranger: stranger.last_seen)
        self._count = len(oldest)
        return [Delete(key=f"stranger/{one.mac}") for one in oldest[:EVICTED_TOGETHER]]
