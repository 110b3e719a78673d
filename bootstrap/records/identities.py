"""Who claims what: which machines share a UUID, a serial number or a card. In memory, made anew from the records."""

import threading
from collections.abc import Callable, Iterable
from itertools import islice

from bootstrap.records.evidence import Clash, spellings, values
from bootstrap.records.model import Evidence


class Identities:
    """An index over all machines that are known, listed or not; a question costs the same for ten or ten thousand."""

    def __init__(self) -> None:
        self._values: dict[str, frozenset[str]] = {}
        self._spellings: dict[str, frozenset[str]] = {}
        self._owners: dict[str, set[str]] = {}
        self._cards: dict[str, frozenset[str]] = {}
        self._seen_in: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def put(
        self, mac: str, evidence: Evidence, *, cards: Iterable[str] = (), ignored: Iterable[str] = ()
    ) -> None:
        """Note what the machine `mac` claims, and which `cards` it has.

        `ignored` are values of which the operator has said that they tell nothing.
        """
        found = frozenset(cards)
        with self._lock:
            self._claim(mac, values(evidence, found - {mac}) - set(ignored))
            self._replace(self._cards, self._seen_in, mac, found)

    def drop(self, mac: str) -> None:
        """Forget the machine."""
        with self._lock:
            self._claim(mac, frozenset())
            self._replace(self._cards, self._seen_in, mac, frozenset())

    def clashes(self, mac: str, most: int | None = None) -> list[Clash]:
        """Return who else claims what the machine `mac` does, or any `most` of them; they may be thousands.

        Two MAC addresses of one machine clash with each other in nothing.
        """
        with self._lock:
            found = (
                Clash(other, value)
                for value in self._values.get(mac, frozenset())
                for other in self._owners[value]
                if other != mac and not self._is_same(mac, other)
            )
            return sorted(islice(found, most))

    def other_card(self, mac: str, is_listed: Callable[[str], bool]) -> str | None:
        """Return the MAC address by which the machine with the card `mac` is listed, if that is another one."""
        with self._lock:
            related = self._cards.get(mac, frozenset()) | self._seen_in.get(mac, set())
        return next((other for other in sorted(related - {mac}) if is_listed(other)), None)

    def _claim(self, mac: str, mine: frozenset[str]) -> None:
        self._values[mac] = mine
        if not mine:
            del self._values[mac]
        ways = frozenset(way for value in mine for way in spellings(value))
        self._replace(self._spellings, self._owners, mac, ways)

    def _is_same(self, one: str, other: str) -> bool:
        return one in self._cards.get(other, ()) or other in self._cards.get(one, ())

    @staticmethod
    def _replace(
        forward: dict[str, frozenset[str]], back: dict[str, set[str]], mac: str, new: frozenset[str]
    ) -> None:
        """Make `new` what `mac` has, in both directions."""
        old = forward.pop(mac, frozenset())
        for value in old - new:
            back[value].discard(mac)
            if not back[value]:
                del back[value]
        for value in new - old:
            back.setdefault(value, set()).add(mac)
        if new:
            forward[mac] = new
