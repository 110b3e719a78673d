"""POST /v1/pxe/events: what pxe saw on the wire, from the one holder of its certificate."""

from collections.abc import Iterator, Sequence
from typing import Annotated

from flask import Response, jsonify
from pydantic import Field

from bootstrap.model import Cluster
from bootstrap.records.ledger import UNKNOWN, Note
from web import alarms
from web.bodies import FACTS_BODY, Sighting, said
from web.listeners import Access, Routes
from web.site import Site

MOST_SIGHTINGS = 1000
Sightings = Annotated[tuple[Sighting, ...], Field(max_length=MOST_SIGHTINGS)]


def add(routes: Routes, site: Site) -> None:
    """Add the route."""

    @routes.post("/v1/pxe/events", Access.PXE)
    def pxe_events() -> Response:
        sightings, _ = said(Sightings, limit=FACTS_BODY)
        for sighting in sightings:
            alarms.take(site, sighting)
        notes = list(_notes(site, [one for one in sightings if one.kind not in alarms.KINDS]))
        if notes:
            site.ledger.note(*notes)
        return jsonify(accepted=len(notes))


def _notes(site: Site, sightings: Sequence[Sighting]) -> Iterator[Note]:
    """Yield an event per sighting; unlisted machines share one bounded log and one bucket."""
    for sighting in sightings:
        if _is_listed(site.cluster, sighting) or site.unknown_buckets.take("sighting"):
            yield _note(site.cluster, sighting)


def _is_listed(cluster: Cluster, sighting: Sighting) -> bool:
    return cluster.machine_by_mac(sighting.mac) is not None


def _note(cluster: Cluster, sighting: Sighting) -> Note:
    machine = cluster.machine_by_mac(sighting.mac)
    arch = f" (architecture {sighting.arch})" if sighting.arch is not None else ""
    return Note(
        who="pxe",
        what=sighting.kind,
        log=machine.mac if machine else UNKNOWN,
        machine=machine.name if machine else sighting.mac,
        detail=f"{sighting.detail}{arch}",
    )
