"""What is wrong with the network itself: told by pxe, asked for by the operator."""

from flask import Response, jsonify

from web.answers import json_of
from web.bodies import Sighting
from web.listeners import Access, Routes
from web.site import Site

ROGUE, ROGUE_GONE = "rogue-dhcp", "rogue-dhcp-gone"
KINDS = frozenset({ROGUE, ROGUE_GONE})
"""Sightings that are no machine's."""


def add(routes: Routes, site: Site) -> None:
    """Add the route."""

    @routes.get("/v1/alarms", Access.OPERATOR)
    def alarms() -> Response:
        return jsonify(alarms=[json_of(alarm) for alarm in site.alarms.all()])


def take(site: Site, sighting: Sighting) -> None:
    """Raise or clear the alarm that a strange DHCP server is; any other sighting is none.

    Raises:
        StateError: the store could not write.
    """
    identity = f"{ROGUE}/{sighting.server or 'unknown'}/{sighting.mac or 'unknown'}"
    if sighting.kind == ROGUE:
        site.alarms.raised(identity, ROGUE, sighting.mac, sighting.detail)
    elif sighting.kind == ROGUE_GONE:
        site.alarms.cleared(identity, sighting.mac, sighting.detail)
