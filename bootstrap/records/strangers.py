"""The machines that the configuration does not list: noted with what they say of themselves, and bounded.

They have tables of their own: however many come, no record of a listed machine gives way to one of theirs.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from bootstrap.records.evidence import contradiction, merged, said_evidence
from bootstrap.records.identities import Identities
from bootstrap.records.inventory import Inventory
from bootstrap.records.ledger import UNKNOWN, Ledger, Note
from bootstrap.records.model import Evidence, Introduction, Stranger
from bootstrap.state import Delete, Put, Write

MOST_STRANGERS = 4096
MOST_INVENTORIES = 1024
# When a table is full the ones not seen for longest go, this many at a time.
EVICTED_TOGETHER = 64
SEEN_EVERY = timedelta(seconds=60)  # a machine that waits asks often, and each write is a sync of the disk


class Strangers:
    """The table of unlisted machines; it can fill up without any harm to the listed ones."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime], identities: Identities) -> None:
        self._ledger = ledger
        self._clock = clock
        self._identities = identities
        self._count = 0
        for stranger in self.all():
            self._count += 1
            identities.put(stranger.mac, stranger.evidence, cards=stranger.cards)
        self._inventories = sum(1 for _ in ledger.store.scan("inventory/"))

    def all(self) -> Iterator[Stranger]:
        """Yield them in MAC order."""
        for entry in self._ledger.store.scan("stranger/"):
            yield Stranger.from_bytes(entry.value)

    def get(self, mac: str) -> Stranger | None:
        """Return what is known of the machine, or None."""
        entry = self._ledger.store.get(f"stranger/{mac}")
        return Stranger.from_bytes(entry.value) if entry else None

    def inventory(self, mac: str) -> Inventory | None:
        """Return the inventory of the machine, or None."""
        entry = self._ledger.store.get(f"inventory/{mac}")
        return Inventory.model_validate_json(entry.value) if entry else None

    def saw(self, mac: str, said: Introduction) -> None:
        """Note that an unlisted machine asked for a boot; only its first time is an event.

        Raises:
            StateError: the store could not write.
        """
        now, known = self._clock(), self.get(mac)
        if known is None:
            self._meet(Stranger(mac=mac, first_seen=now, last_seen=now, said=said))
            return
        again = known.but(last_seen=now, boots=known.boots + 1, said=said)
        self._put(self._claiming(again, said_evidence(said)))

    def took(self, mac: str, said: Evidence, inventory: Inventory, address: str) -> None:
        """Keep the `inventory` of an unlisted machine at `address`, whose firmware claims `said`.

        Raises:
            StateError: the store could not write.
        """
        if self.get(mac) is None:
            self.saw(mac, Introduction())
        known = self.get(mac)
        if known is None:
            return
        seen = self._claiming(
            known.but(last_seen=self._clock(), cards=inventory.own_cards, address=address), said
        )
        is_new = self.inventory(mac) is None
        room = self._room_for_inventory() if is_new else []
        text = inventory.model_dump_json(by_alias=True, exclude_defaults=True).encode()
        self._put(seen, *room, Put(key=f"inventory/{mac}", value=text))
        self._inventories += is_new

    def waits(self, mac: str) -> None:
        """Note that an unlisted machine is still there.

        Raises:
            StateError: the store could not write.
        """
        known, now = self.get(mac), self._clock()
        if known is not None and now - known.last_seen >= SEEN_EVERY:
            self._put(known.but(last_seen=now))

    def gone(self, mac: str) -> tuple[Write, ...]:
        """Return the writes that take the machine out of the tables; it is known otherwise from then on."""
        return (Delete(key=f"stranger/{mac}"), Delete(key=f"inventory/{mac}"))

    def count_again(self) -> None:
        """Count the tables after somebody else has written to them."""
        self._count = sum(1 for _ in self._ledger.store.scan("stranger/"))
        self._inventories = sum(1 for _ in self._ledger.store.scan("inventory/"))

    def _meet(self, stranger: Stranger) -> None:
        room = self._room()
        known = self._claiming(stranger, said_evidence(stranger.said))
        news = Put(key=f"stranger/{stranger.mac}", value=known.to_bytes())
        told = Note(
            who="machine",
            what="discovered",
            log=UNKNOWN,
            machine=stranger.mac,
            decision="leave",
            reason="not in the configuration",
        )
        self._ledger.write([*room, news], told)
        self._count += 1

    def _claiming(self, stranger: Stranger, said: Evidence) -> Stranger:
        problem = contradiction(stranger.evidence, said)
        known = merged(stranger.evidence, said)
        self._identities.put(stranger.mac, known, cards=stranger.cards)
        return stranger.but(evidence=known, contradiction=problem or stranger.contradiction)

    def _put(self, stranger: Stranger, *more: Write) -> None:
        news = Put(key=f"stranger/{stranger.mac}", value=stranger.to_bytes())
        self._ledger.store.commit([*more, news])

    def _room(self) -> list[Write]:
        if self._count < MOST_STRANGERS:
            return []
        oldest = self._oldest()
        self._count = len(oldest)
        gone: list[Write] = []
        for one in oldest[:EVICTED_TOGETHER]:
            self._identities.drop(one.mac)
            self._inventories -= self.inventory(one.mac) is not None
            gone += self.gone(one.mac)
        self._count -= len(gone) // 2
        return gone

    def _room_for_inventory(self) -> list[Write]:
        if self._inventories < MOST_INVENTORIES:
            return []
        kept = (one for one in self._oldest() if self.inventory(one.mac) is not None)
        gone: list[Write] = [
            Delete(key=f"inventory/{one.mac}") for one, _ in zip(kept, range(EVICTED_TOGETHER), strict=False)
        ]
        self._inventories -= len(gone)
        return gone

    def _oldest(self) -> list[Stranger]:
        """Return them all, the one not seen for longest first."""
        return sorted(self.all(), key=lambda stranger: stranger.last_seen)
