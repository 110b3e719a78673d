"""GET /v1/ignition/<mac>: stage A, rendered ahead; who may not install gets the answer of a stranger."""

from flask import Response, request
from werkzeug.exceptions import NotFound

from bootstrap.records.documents import LIVE, Document
from bootstrap.states import State
from web.identity import mac_of
from web.listeners import Access, Routes
from web.site import Site

MEDIA_TYPE = "application/vnd.coreos.ignition+json"


def add(routes: Routes, site: Site) -> None:
    """Add the route."""

    @routes.get("/v1/ignition/<mac>", Access.PUBLIC)
    def ignition(mac: str) -> Response:
        return answer(_live_document(site, mac_of(mac)))


def _live_document(site: Site, mac: str) -> Document:
    record = site.ledger.machine(mac)
    may_install = record is not None and record.state in (State.ARMED, State.INSTALLING)
    document = site.documents.get(mac, LIVE) if may_install and site.cluster.machine_by_mac(mac) else None
    if document is None:
        raise NotFound
    return document


def answer(document: Document) -> Response:
    """Return a document with its ETag, or 304 if the asker has it."""
    response = Response(document.content, content_type=MEDIA_TYPE)
    response.set_etag(document.etag)
    response.headers["Cache-Control"] = "no-cache"
    response.make_conditional(request)
    return response
