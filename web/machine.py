"""What an installer and an installed system ask and tell over HTTPS: begin, events, config."""

import hmac
from datetime import datetime
from typing import Any

from flask import Response, jsonify, request
from werkzeug.exceptions import NotFound, RequestEntityTooLarge

from bootstrap.artifacts import Manifest
from bootstrap.model import Cluster
from bootstrap.records import transitions
from bootstrap.records.documents import INSTALLED, Document
from bootstrap.records.evidence import evidence_of
from bootstrap.records.inventory import nvidia_devices, own_cards
from bootstrap.records.ledger import Change, Note
from bootstrap.records.model import MachineRecord
from bootstrap.render.machines import family_of
from bootstrap.state import Put, Write
from bootstrap.states import IllegalTransition, State
from web import evidence
from web.answers import Answer, Refusal, json_answer, response_of
from web.bodies import (
    FACTS_BODY,
    NO_FACTS,
    SMALL_BODY,
    Begin,
    Facts,
    Report,
    facts_beside,
    json_from,
    said,
    typed,
)
from web.gpus import Seen, misfit
from web.hot import Asked, Hot
from web.identity import local_address, mac_of
from web.ignition import answer
from web.images import image_of, path_of, url_of
from web.listeners import Access, Routes
from web.site import Site

BRING_FACTS = ("facts", "failed")  # the inventory comes with these


def add(routes: Routes, site: Site) -> Hot:
    """Add the three routes; return the one of which there are most."""

    @routes.post("/v1/machine/begin", Access.MACHINE)
    def begin() -> Response:
        asked, _ = said(Begin, limit=FACTS_BODY)
        return jsonify(grant(site, asked))

    @routes.post("/v1/machine/events", Access.MACHINE)
    def events() -> Response:
        report, body = said(Report, limit=FACTS_BODY)
        if report.kind not in BRING_FACTS and (request.content_length or 0) > SMALL_BODY:
            raise RequestEntityTooLarge
        return response_of(took(site, report, body))

    @routes.get("/v1/machine/config", Access.MACHINE)
    def config() -> Response:
        mac, arm = mac_of(request.args.get("mac", "")), request.args.get("arm", "")
        site.listed(mac)
        return response_of(answer(_config(site, current(site.ledger.machine(mac), arm)), request.environ))

    def take(asked: Asked) -> Answer:
        body = json_from(asked.body)
        return took(site, typed(Report, body), body)

    return Hot("/v1/machine/events", "POST", (Access.MACHINE,), take)


def took(site: Site, report: Report, body: Any) -> Answer:
    """Take a report in and return the number of its event, once it is durable."""
    return json_answer({"seq": tell(site, report, body)})


def grant(site: Site, asked: Begin) -> dict[str, Any]:
    """Grant one write pass and return what to write.

    Raises:
        Refusal: 409 with the reason, 503 if there is nothing to write yet.
        Refused: the machine's state forbids it.
    """
    cluster, machine = site.cluster, site.listed(asked.mac)
    pool, known = cluster.pool(machine.pool), site.ledger.machine(asked.mac)
    image = image_of(site.images, pool, known.pin if known else None)
    document = site.documents.get(asked.mac, INSTALLED)
    if image is None or document is None:
        # Looked at before the grant: an attempt is not spent on what is missing here.
        raise Refusal(
            503, f"the image or the configuration of {machine.name} is not there; image build, reload"
        )

    def decide(record: MachineRecord | None, now: datetime) -> Change:
        armed = current(record, asked.arm)
        if stop := refused_begin(site, armed, asked, now):
            return stop
        change = transitions.begin(armed, now, disk=asked.disk.choice(), nonce=asked.nonce)
        return with_writes(change, _facts(asked.mac, asked.facts))

    written = site.ledger.change(asked.mac, decide)
    if written is None or written.record.state is not State.INSTALLING:
        raise Refusal(409, written.record.reason if written else "not known")
    return _granted(cluster, written.record, image, document)


def refused_begin(site: Site, record: MachineRecord, asked: Begin, now: datetime) -> Change | None:
    """Return what ends the arm before anything is written; None if nothing stands in the way.

    It is another machine than the one that booted, its disk holds a system of ours that may not be erased, or its GPUs
    do not fit its pool.
    """
    if record.state not in (State.ARMED, State.INSTALLING):
        return None
    facts = asked.facts
    claims = evidence_of(uuid=facts.uuid, serial=facts.serial, manufacturer=facts.vendor)
    claimed = evidence.claim(site, record, now, claims)
    if claimed.record and claimed.record.state is State.CONFLICT:
        return claimed
    system = asked.system
    is_ours = system.cluster == site.cluster.metadata.name and system.state == "installed"
    if is_ours and system.arm != record.arm and not record.erases_system:
        return transitions.kept(record, now, machine=system.machine)
    return _misfit(site, record, asked, now)


def _misfit(site: Site, record: MachineRecord, asked: Begin, now: datetime) -> Change | None:
    """Return what ends the arm of a machine whose pool does not take its GPUs; None if it does, or it named none."""
    if asked.facts.gpus is None:
        return None
    # Not `listed`: this runs again for each race that the commit loses, and one report is one.
    machine = site.cluster.machine_by_mac(record.mac)
    if machine is None:
        raise NotFound
    seen = Seen(nvidia_devices(asked.facts.gpus), asked.facts.secure_boot)
    reason = misfit(site.cluster.pool(machine.pool), seen)
    if not reason:
        return None
    return with_writes(transitions.unfit(record, now, reason=reason), _facts(asked.mac, asked.facts))


def _granted(cluster: Cluster, record: MachineRecord, image: Manifest, document: Document) -> dict[str, Any]:
    config = f"{cluster.secure_url}/v1/machine/config?mac={record.mac.replace(':', '-')}&arm={record.arm}"
    return {
        "attempt": record.attempts,
        "image": {
            "url": _image_url(cluster, record, image),
            "sha256": image.disk.sha256,
            "size": image.disk.size,
            "rawSize": image.raw_size,
        },
        "config": {"url": config, "sha256": document.etag},
    }


def _image_url(cluster: Cluster, record: MachineRecord, image: Manifest) -> str:
    """Return where the installer fetches the image: a maker's over TLS, ours by its sum alone."""
    machine = cluster.machine_by_mac(record.mac)
    if machine is None or family_of(cluster.pool(machine.pool)).maker is None:
        return url_of(cluster, image.disk)
    return f"{cluster.secure_url}/{path_of(image.disk)}"


def _config(site: Site, record: MachineRecord) -> Document:
    if record.state is not State.INSTALLING:
        raise Refusal(409, f"{record.name} is {record.state}: it is not being installed")
    document = site.documents.get(record.mac, INSTALLED)
    if document is None:
        raise NotFound
    return document


def current(record: MachineRecord | None, arm: str) -> MachineRecord:
    """Return `record` if `arm` is the permission that it holds now.

    Raises:
        Refusal: 409, it is another one or there is none.
    """
    if record is None or not is_current(record, arm):
        raise Refusal(409, "this arm is not the machine's current one; it was armed again, or never")
    return record


def is_current(record: MachineRecord, arm: str) -> bool:
    """Return whether `arm` is the machine's current permission."""
    return record.arm is not None and hmac.compare_digest(record.arm.encode(), arm.encode())


def tell(site: Site, report: Report, body: Any) -> int:
    """Take a report in and return the number of its event; 0 if it was no news.

    A report that ended the arm and comes again gets the number that it got first.
    """
    site.listed(report.mac)
    facts = (report.facts or facts_beside(body)) if report.kind in BRING_FACTS else NO_FACTS

    def decide(record: MachineRecord | None, now: datetime) -> Change:
        if report.kind == "booted":
            return _booted(site.cluster, record, report, now)
        return _installing(current(record, report.arm), report, facts, now)

    written = site.ledger.change(report.mac, decide)
    if written is None:
        raise NotFound
    if facts.cards:
        evidence.know(site, written.record)
    return written.seq or (written.record.settled if report.kind != "progress" else 0)


def _installing(record: MachineRecord, report: Report, facts: Facts, now: datetime) -> Change:
    """Return what a report of the installer changes."""
    match report.kind:
        case "progress":
            return _progress(record, report, now)
        case "complete" | "already-installed":
            return transitions.installed(record, now, what=report.kind)
        case "attempt-failed":
            reason = report.message or "the installer gave no reason"
            return transitions.attempt_failed(record, now, reason=reason)
        case "failed":
            reason = report.message or "the installer gave no reason"
            failed = transitions.failed(record, now, reason=reason, detail=report.stage)
            return with_writes(failed, _facts(record.mac, facts))
        case _:
            told = transitions.found(
                record, now, firmware=facts.firmware, detail=report.message, cards=own_cards(facts.cards)
            )
            return with_writes(told, _facts(record.mac, facts))


def _progress(record: MachineRecord, report: Report, now: datetime) -> Change:
    if record.state is not State.INSTALLING:
        raise Refusal(409, f"{record.name} is {record.state}: it is not being installed")
    return transitions.progress(
        record, now, stage=report.stage or "install", percent=report.percent, message=report.message
    )


def _booted(cluster: Cluster, record: MachineRecord | None, report: Report, now: datetime) -> Change:
    """Return what the report of an installed system changes; that of an earlier arm moves nothing."""
    if record is None:
        return Change()
    if not is_current(record, report.arm):
        return Change(note=_only_told(record, "it carries an earlier arm"))
    boot = transitions.Boot(
        ssh_host_keys=report.ssh_host_keys,
        address=local_address(cluster, report.address) or None,
        firmware=report.firmware,
    )
    try:
        return transitions.booted(record, now, boot)
    except IllegalTransition as error:
        return Change(note=_only_told(record, str(error)))


def _only_told(record: MachineRecord, reason: str) -> Note:
    return transitions.note(record, transitions.MACHINE, "booted", decision="ignored", reason=reason)


def _facts(mac: str, facts: Facts) -> Write | None:
    if facts is NO_FACTS or facts == NO_FACTS:
        return None
    text = facts.model_dump_json(by_alias=True, exclude_defaults=True)
    return Put(key=f"facts/{mac}", value=text.encode())


def with_writes(change: Change, write: Write | None) -> Change:
    """Return `change` with one more write in its commit; none if it changes nothing and tells nothing."""
    if write is None or change == Change():
        return change
    return Change(record=change.record, note=change.note, writes=(*change.writes, write))
