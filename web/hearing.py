"""Takes in what other web processes on the same store have done: who claims what, who was accepted, who is a stranger.

All else is read from the store at each request, and needs no news.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from bootstrap.errors import ServeError
from bootstrap.records.model import Evidence, MachineRecord, Stranger
from bootstrap.state import Shared, Turn
from web import evidence
from web.site import Site

log = logging.getLogger(__name__)

Said = tuple[Evidence, tuple[str, ...], tuple[str, ...]]

COUNT_EVERY = timedelta(seconds=10)  # a flood of strangers is counted now and then, not one by one


class Hearing:
    """Keeps a site in line with a store that others write to.

    What a machine in conflict has said since stands in the index of who heard it, and not in its record: so a record
    is taken in when what it says of the machine's evidence is another than before, and not each time it is written.
    Of what was known before the first turns came nothing is presumed: between the moment at which the site read the
    records and that one, others may have written.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._evidence: dict[str, Said] = {}
        self._counted: datetime | None = None

    def start(self) -> None:
        """Listen from now on, if the store is one that others write to."""
        if isinstance(self._site.store, Shared):
            self._site.store.follow(self.heard)

    def heard(self, turns: Sequence[Turn]) -> None:
        """Take in `turns`, our own among them, which change nothing.

        Raises:
            StateError: the store could not read or write; the same turns are told again.
        """
        has_strangers = has_accepted = False
        for turn in turns:
            kind, _, mac = turn.key.partition("/")
            match kind:
                case "machine" if turn.value is not None:
                    self._machine(MachineRecord.from_bytes(turn.value))
                case "stranger":
                    has_strangers = True
                    self._stranger(mac, turn.value)
                case "inventory":
                    has_strangers = True
                case "accepted":
                    has_accepted |= self._is_news(mac, turn.value)
        if has_strangers:
            self._count()
        if has_accepted:
            self._load()

    def _machine(self, record: MachineRecord) -> None:
        said = _said(record)
        if self._evidence.get(record.mac) != said:
            self._evidence[record.mac] = said
            evidence.know(self._site, record)

    def _stranger(self, mac: str, value: bytes | None) -> None:
        if value is not None:
            stranger = Stranger.from_bytes(value)
            self._site.identities.put(mac, stranger.evidence, cards=stranger.cards)
        elif self._site.ledger.machine(mac) is None:
            self._site.identities.drop(mac)  # else it was accepted, and its record says what it claims

    def _is_news(self, mac: str, value: bytes | None) -> bool:
        return (value is not None) != (self._site.cluster.machine_by_mac(mac) is not None)

    def _count(self) -> None:
        now = self._site.clock()
        if self._counted is None or now - self._counted >= COUNT_EVERY:
            self._counted = now
            self._site.strangers.count_again()

    def _load(self) -> None:
        log.info("another appliance has accepted a machine; loading anew")
        try:
            self._site.load()
        except ServeError as error:
            log.warning("could not load: %s", error)


def _said(record: MachineRecord) -> Said:
    return record.evidence, record.cards, record.ignored
