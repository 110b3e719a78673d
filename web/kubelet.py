"""GET and POST /v1/machine/kubelet: what a node is to run with, rendered ahead, and which revision it says it runs."""

from datetime import datetime
from typing import Annotated

from flask import Response, request
from pydantic import Field
from werkzeug.exceptions import NotFound

from bootstrap.records import claims
from bootstrap.records.documents import NODE
from bootstrap.records.ledger import Change
from bootstrap.records.model import MachineRecord
from bootstrap.states import ON_DISK
from web.answers import Refusal, json_answer, response_of
from web.bodies import ARM, Line, MacAddress, Said, said
from web.identity import mac_of
from web.ignition import answer
from web.listeners import Access, Routes
from web.machine import current
from web.site import Site

MEDIA_TYPE = "application/x-tar"


class Confirmation(Said):
    """The revision that a node runs; with a `reason`, one that it went back to because a later one failed."""

    mac: MacAddress
    arm: Annotated[str, Field(pattern=ARM)]
    revision: Annotated[str, Field(pattern=r"^(?:[0-9a-f]{64})?$")]
    reason: Line = ""


def add(routes: Routes, site: Site) -> None:
    """Add the two routes."""

    @routes.get("/v1/machine/kubelet", Access.MACHINE)
    def kubelet() -> Response:
        mac = mac_of(request.args.get("mac", ""))
        site.listed(mac)
        record, document = site.ledger.machine(mac), site.documents.get(mac, NODE)
        if record is None or record.state not in ON_DISK or document is None:
            raise NotFound
        return response_of(answer(document, request.environ, MEDIA_TYPE))

    @routes.post("/v1/machine/kubelet", Access.MACHINE)
    def confirm() -> Response:
        told, _ = said(Confirmation)
        site.listed(told.mac)

        def decide(record: MachineRecord | None, now: datetime) -> Change:
            found = current(record, told.arm)
            if found.state not in ON_DISK:
                raise Refusal(409, f"{found.name} is {found.state}: it runs nothing of ours")
            return claims.confirmed(found, now, revision=told.revision, reason=told.reason)

        written = site.ledger.change(told.mac, decide)
        return response_of(json_answer({"seq": written.seq if written else 0}))
