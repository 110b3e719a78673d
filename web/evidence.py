"""Keeps the index of who claims what, and tells the machines that a new claim concerns."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from bootstrap.records import conflicts
from bootstrap.records.evidence import Clash, merged, told
from bootstrap.records.ledger import Change
from bootstrap.records.model import Evidence, MachineRecord
from web.site import Site

MOST_TOLD = 256  # machines that are told at once that another claims the same


def claim(site: Site, record: MachineRecord, now: datetime, said: Evidence) -> Change:
    """Return what the machine's own words make of it, in the light of what others said.

    Only listed machines count here: one that nobody listed cannot stop one that somebody did.
    """
    known = merged(record.evidence, said)
    site.identities.put(record.mac, known, cards=record.cards, ignored=record.ignored)
    clashes = site.identities.clashes(record.mac)
    return conflicts.claimed(record, now, said, told(listed(site, clashes), names(site, clashes)))


def know(site: Site, record: MachineRecord) -> None:
    """Take what is recorded of a machine into the index."""
    site.identities.put(record.mac, record.evidence, cards=record.cards, ignored=record.ignored)


def listed(site: Site, clashes: Iterable[Clash]) -> list[Clash]:
    """Return the clashes with machines that the configuration lists or an operator accepted."""
    return [clash for clash in clashes if site.cluster.machine_by_mac(clash.mac)]


def names(site: Site, clashes: Iterable[Clash]) -> dict[str, str]:
    """Return the names of machines in `clashes`, with their MAC addresses."""
    found = {clash.mac: site.cluster.machine_by_mac(clash.mac) for clash in clashes}
    return {mac: f"{machine.name} ({mac})" for mac, machine in found.items() if machine}


def tell_others(site: Site, mac: str) -> None:
    """Put every other listed machine that claims what the machine `mac` claims into conflict too.

    Raises:
        StateError: the store could not read or write.
    """
    if site.cluster.machine_by_mac(mac) is None:
        return
    for other in sorted({clash.mac for clash in listed(site, site.identities.clashes(mac))})[:MOST_TOLD]:
        shared = [clash for clash in site.identities.clashes(other) if site.cluster.machine_by_mac(clash.mac)]
        if shared:
            _tell(site, other, shared)


def _tell(site: Site, mac: str, shared: Sequence[Clash]) -> None:
    problem = told(shared, names(site, shared))

    def decide(record: MachineRecord | None, now: datetime) -> Change:
        return conflicts.conflicting(record, now, problem) if record else Change()

    site.ledger.change(mac, decide)
