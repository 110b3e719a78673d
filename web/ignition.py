"""GET /v1/ignition/<mac>: stage A, rendered ahead; who may not install gets the answer of a stranger."""

import hashlib
import logging
from dataclasses import replace
from typing import Any

from flask import Response, request
from werkzeug.exceptions import NotFound
from werkzeug.http import is_resource_modified

from bootstrap import failpoints
from bootstrap.errors import StateError
from bootstrap.records import transitions
from bootstrap.records.documents import LIVE, Document
from bootstrap.states import State
from web import lastknown
from web.answers import Answer, response_of
from web.hot import Hot
from web.identity import mac_of
from web.listeners import STAGE_A, Routes
from web.site import Site

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/vnd.coreos.ignition+json"


def add(routes: Routes, site: Site) -> Hot:
    """Add the route, and return it: a whole rack asks it at once."""

    @routes.get("/v1/ignition/<mac>", *STAGE_A)
    def ignition(mac: str) -> Response:
        return response_of(answer(live_document(site, mac_of(mac)), request.environ))

    return Hot(
        "/v1/ignition/<mac>",
        "GET",
        STAGE_A,
        lambda asked: answer(live_document(site, mac_of(asked.rest)), asked.environ),
    )


def live_document(site: Site, mac: str) -> Document:
    """Return the stage A document of a machine that may install, and record that it was fetched.

    A store that cannot write is logged and never keeps a machine from booting.

    Raises:
        NotFound: there is none for it.
        StateError: the store cannot be read, and nothing is known from before.
    """
    record, is_stale = lastknown.machine(site, mac)
    if record is None and site.cluster.machine_by_mac(mac) is None:
        return _discovery(site)
    may_install = record is not None and record.state in (State.ARMED, State.INSTALLING)
    is_listed = site.cluster.machine_by_mac(mac) is not None
    document = lastknown.live_document(site, mac) if may_install and is_listed else None
    if document is None or record is None:
        raise NotFound
    document = replace(document, is_stale=document.is_stale or is_stale)
    failpoints.reached("ignition.answer.before")
    try:
        site.ledger.note(transitions.fetched(record, LIVE))
    except StateError as error:
        log.warning("%s: its document is sent but that is not recorded: %s", mac, error)
    return document


def _discovery(site: Site) -> Document:
    """Return the document of machines that nobody listed; raises NotFound if they are left alone."""
    if not (site.cluster.appliance.discovery and site.discovery):
        raise NotFound
    etag = hashlib.sha256(site.discovery).hexdigest()
    return Document(content=site.discovery, revision=0, etag=etag)


def answer(document: Document, environ: dict[str, Any], media_type: str = MEDIA_TYPE) -> Answer:
    """Return a document with its ETag, or 304 if the asker has it (RFC 9110, section 13.1.2)."""
    headers: tuple[tuple[str, str], ...] = (("ETag", f'"{document.etag}"'), ("Cache-Control", "no-cache"))
    if document.is_stale:
        headers = (*headers, lastknown.WARNING)
    if not is_resource_modified(environ, etag=document.etag):
        return Answer(304, b"", headers)
    return Answer(200, document.content, (("Content-Type", media_type), *headers))
