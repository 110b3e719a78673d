"""GET and POST /v1/machine/kubelet: what a node is to run with, rendered ahead, and which revision it says it runs."""

from datetime import datetime
from typing import Annotated, Any

from flask import Response, request
from pydantic import Field
from werkzeug.exceptions import NotFound
from werkzeug.http import is_resource_modified

from bootstrap.records import claims
from bootstrap.records.documents import NODE, Document
from bootstrap.records.ledger import Change
from bootstrap.records.model import MachineRecord
from bootstrap.records.said import Line, Said
from bootstrap.render.node import revision_of, tar_of
from bootstrap.states import ON_DISK
from web.answers import Answer, Refusal, json_answer, response_of
from web.bodies import ARM, MacAddress, said
from web.identity import mac_of
from web.ignition import answer
from web.listeners import Access, Routes
from web.machine import current
from web.site import Site

MEDIA_TYPE = "application/x-tar"


class Confirmation(Said):
    """The revision that a node runs; with a `reason`, one that it went back to because a later one failed.

    `drift` are files of ours that another changed there, or put beside them.
    """

    mac: MacAddress
    arm: Annotated[str, Field(pattern=ARM)]
    revision: Annotated[str, Field(pattern=r"^(?:[0-9a-f]{64})?$")]
    reason: Line = ""
    drift: Line = ""


def add(routes: Routes, site: Site) -> None:
    """Add the two routes."""

    @routes.get("/v1/machine/kubelet", Access.MACHINE)
    def kubelet() -> Response:
        mac = mac_of(request.args.get("mac", ""))
        site.listed(mac)
        record, own, nodes = site.ledger.machine(mac), site.documents.get(mac, NODE), site.nodes
        if record is None or record.state not in ON_DISK or own is None:
            raise NotFound
        return response_of(_tar(own, nodes.shared, request.environ))

    @routes.post("/v1/machine/kubelet", Access.MACHINE)
    def confirm() -> Response:
        told, _ = said(Confirmation)
        site.listed(told.mac)

        def decide(record: MachineRecord | None, now: datetime) -> Change:
            found = current(record, told.arm)
            if found.state not in ON_DISK:
                raise Refusal(409, f"{found.name} is {found.state}: it runs nothing of ours")
            return claims.confirmed(found, now, revision=told.revision, reason=told.reason, drift=told.drift)

        written = site.ledger.change(told.mac, decide)
        return response_of(json_answer({"seq": written.seq if written else 0}))


def _tar(own: Document, shared: bytes, environ: dict[str, Any]) -> Answer:
    """Return the documents of a node as a tar; made only for one who has another revision."""
    revision = revision_of(own.content, shared)
    if not is_resource_modified(environ, etag=revision):
        return Answer(304, b"", (("ETag", f'"{revision}"'), ("Cache-Control", "no-cache")))
    whole = Document(content=tar_of(own.content, shared), revision=own.revision, etag=revision)
    return answer(whole, environ, MEDIA_TYPE)
