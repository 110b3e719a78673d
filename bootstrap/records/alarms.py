"""What is wrong with the network itself: shown as long as it is heard of again and again."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from bootstrap.records.ledger import UNKNOWN, Ledger, Note
from bootstrap.records.model import Alarm
from bootstrap.state import Delete, Put

MOST_ALARMS = 64
LASTS = timedelta(seconds=180)
"""An alarm that nobody repeats is of the past: who looks does so each minute."""


class Alarms:
    """The alarms that stand, by an identity of theirs."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._clock = clock

    def all(self) -> Iterator[Alarm]:
        """Yield those that stand, in the order of their identities."""
        now = self._clock()
        yield from (alarm for alarm in self._kept() if now - alarm.last_seen <= LASTS)

    def raised(self, identity: str, kind: str, machine: str, text: str) -> None:
        """Note that `text` is the case; only the first time is an event.

        Raises:
            StateError: the store could not write.
        """
        now = self._clock()
        kept = {alarm.identity: alarm for alarm in self._kept()}
        known = kept.get(identity)
        if known is not None and now - known.last_seen <= LASTS:
            again = known.but(last_seen=now, text=text)
            self._ledger.write([Put(key=_key(identity), value=again.to_bytes())], None)
            return
        old = [one for one in kept.values() if now - one.last_seen > LASTS and one.identity != identity]
        if len(kept) - len(old) >= MOST_ALARMS:
            return
        fresh = Alarm(identity=identity, kind=kind, text=text, first_seen=now, last_seen=now)
        told = Note(who="pxe", what="alarm", log=UNKNOWN, machine=machine, decision=kind, reason=text)
        gone = [Delete(key=_key(one.identity)) for one in old]
        self._ledger.write([*gone, Put(key=_key(identity), value=fresh.to_bytes())], told)

    def cleared(self, identity: str, machine: str, text: str) -> None:
        """Note that it is the case no more; nothing if nobody knew of it.

        Raises:
            StateError: the store could not write.
        """
        if self._ledger.store.get(_key(identity)) is None:
            return
        told = Note(who="pxe", what="alarm-cleared", log=UNKNOWN, machine=machine, reason=text)
        self._ledger.write([Delete(key=_key(identity))], told)

    def _kept(self) -> Iterator[Alarm]:
        for entry in self._ledger.store.scan("alarm/"):
            yield Alarm.from_bytes(entry.value)


def _key(identity: str) -> str:
    return f"alarm/{identity}"
