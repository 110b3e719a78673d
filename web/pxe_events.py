"""POST /v1/pxe/events: what pxe saw on the wire, from the one holder of its certificate."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated

from flask import Response, jsonify
from pydantic import Field

from bootstrap.records.ledger import UNKNOWN, Note
from web import alarms
from web.bodies import FACTS_BODY, Sighting, said
from web.listeners import Access, Routes
from web.site import Site

MOST_SIGHTINGS = 1000
LONGEST_DELAY_SECONDS = 120.0  # pxe holds events while web is away
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")  # with which pxe's account of an ACK begins
Sightings = Annotated[tuple[Sighting, ...], Field(max_length=MOST_SIGHTINGS)]


def add(routes: Routes, site: Site) -> None:
    """Add the route."""

    @routes.post("/v1/pxe/events", Access.PXE)
    def pxe_events() -> Response:
        sightings, _ = said(Sightings, limit=FACTS_BODY)
        for sighting in sightings:
            alarms.take(site, sighting)
            _learn(site, sighting)
        notes = list(_notes(site, [one for one in sightings if one.kind not in alarms.KINDS]))
        if notes:
            site.ledger.note(*notes)
        return jsonify(accepted=len(notes))


def _notes(site: Site, sightings: Sequence[Sighting]) -> Iterator[Note]:
    """Yield an event per sighting; unlisted machines share one bounded log and one bucket."""
    for sighting in sightings:
        if _may_be_noted(site, sighting):
            yield _note(site, sighting)


def _learn(site: Site, sighting: Sighting) -> None:
    """Take notice of who holds an address: nginx's log knows machines by that alone."""
    if sighting.kind == "ack" and sighting.mac and (found := _ADDRESS.match(sighting.detail)):
        site.access_log.hears(sighting.mac, found[0])


def _may_be_noted(site: Site, sighting: Sighting) -> bool:
    """Return whether there is room: anyone may send packets with a listed machine's MAC, and each is a write."""
    if site.cluster.machine_by_mac(sighting.mac) is None:
        return site.unknown_buckets.take("sighting")
    return site.sighting_buckets.take(sighting.mac)


def _seen_at(site: Site, sighting: Sighting) -> datetime | None:
    """Return when pxe saw it, if that makes sense: it was not long ago. Without it the log's own time counts."""
    now = site.clock()
    if sighting.at is None or not 0 <= now.timestamp() - sighting.at <= LONGEST_DELAY_SECONDS:
        return None
    return datetime.fromtimestamp(sighting.at, UTC)


def _note(site: Site, sighting: Sighting) -> Note:
    cluster = site.cluster
    machine = cluster.machine_by_mac(sighting.mac)
    arch = f" (architecture {sighting.arch})" if sighting.arch is not None else ""
    return Note(
        who="pxe",
        what=sighting.kind,
        log=machine.mac if machine else UNKNOWN,
        machine=machine.name if machine else sighting.mac,
        detail=f"{sighting.detail}{arch}",
        at=_seen_at(site, sighting),
    )
