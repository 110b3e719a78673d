"""POST /v1/machine/gpus: what a node found of its GPUs, signed with the key that it joined with.

The arm says which machine speaks, but it stands in documents that were served to whoever asked. On this word a taint
goes, so it counts only with the signature of the key that never left the node.
"""

import base64
import json
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from flask import Response, request
from pydantic import Field

from bootstrap.gpu.reported import Report
from bootstrap.model import Machine
from bootstrap.records import gpus
from bootstrap.records.ledger import Change
from bootstrap.records.model import MachineRecord, SignedReport
from bootstrap.records.said import Said
from bootstrap.state import Put
from bootstrap.states import ON_DISK
from certs.errors import RefusedRequest
from certs.statements import LONGEST_SIGNATURE, signer_of
from web.answers import Refusal, json_answer, response_of
from web.bodies import ARM, SMALL_BODY, MacAddress, json_from, said, typed
from web.gpu_targets import answer_to
from web.listeners import ADDRESS_HEADER, Access, Routes
from web.machine import current
from web.site import Site

log = logging.getLogger(__name__)


class Told(Said):
    """A node's report as the text that it signed, and the signature (ECDSA with SHA-256, DER, base64)."""

    mac: MacAddress
    arm: Annotated[str, Field(pattern=ARM)]
    report: Annotated[str, Field(max_length=SMALL_BODY)]
    signature: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{4,352}={0,2}$")]


@dataclass(frozen=True)
class Checked:
    """A report that its node has signed, and the certificate of the key."""

    report: Report
    certificate: str


def add(routes: Routes, site: Site) -> None:
    """Add the route."""

    @routes.post("/v1/machine/gpus", Access.MACHINE)
    def report() -> Response:
        told, _ = said(Told)
        return response_of(json_answer(take(site, told, request.headers.get(ADDRESS_HEADER, "")[:45])))


def take(site: Site, told: Told, address: str) -> dict[str, Any]:
    """Take in a report from `address`; return the number of its event, and the driver for these GPUs, if known.

    Raises:
        NotFound: the configuration does not list the machine.
        Refusal: 429 too often, 409 another arm or no node of ours, 400 not signed by the node or no report.
    """
    machine = site.signing(told.mac, address)
    pool = site.cluster.pool(machine.pool)
    checked = _checked(site, machine, told)
    expected = pool.gpu.expected if pool.gpu else None

    def decide(record: MachineRecord | None, now: datetime) -> Change:
        found = _joined(record, told.arm)
        change = gpus.heard(found, checked.report, now, expected=expected)
        kept = SignedReport(
            report=told.report, signature=told.signature, certificate=checked.certificate, heard_at=now
        )
        put = Put(key=f"gpu/{told.mac}", value=kept.to_bytes())
        return Change(record=change.record, note=change.note, writes=(put,))

    written = site.ledger.change(told.mac, decide)
    known = written.record if written else None
    return {"seq": written.seq if written else 0, "driver": answer_to(pool, known, checked.report.ids)}


def _joined(record: MachineRecord | None, arm: str) -> MachineRecord:
    found = current(record, arm)
    if found.state not in ON_DISK or found.claim is None:
        raise Refusal(409, f"{found.name} is {found.state}, and no node of ours")
    return found


def _checked(site: Site, machine: Machine, told: Told) -> Checked:
    """Return the report, if the key that the machine claimed with has signed it, for this arm and this node."""
    claim = _joined(site.ledger.machine(machine.mac), told.arm).claim
    entry = site.store.get(f"certificate/{machine.mac}")
    if claim is None or entry is None:
        raise Refusal(409, f"{machine.name} has no certificate yet")
    certificate: str = json.loads(entry.value)["certificate"]
    try:
        signature = base64.b64decode(told.signature, validate=True)[: LONGEST_SIGNATURE + 1]
        key = signer_of(certificate.encode(), told.report.encode(errors="replace"), signature)
    except (RefusedRequest, ValueError) as error:
        log.warning("%s: a report of GPUs is refused: %s", machine.name, error)
        raise Refusal(400, f"signature: {error}") from error
    report: Report = typed(Report, json_from(told.report.encode(errors="replace")))
    if key != claim.key or (report.node, report.arm) != (claim.node, told.arm):
        raise Refusal(409, "the report is of another node, another arm or another key")
    return Checked(report, certificate)
