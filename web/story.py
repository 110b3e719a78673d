"""What is told of a machine's boots: the operator's route, and the rescue page of one in a loop."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

from flask import Response, jsonify

from bootstrap.boot import Boot
from bootstrap.explain import breaker
from bootstrap.explain.boots import boots_of
from bootstrap.explain.diagnosis import About, diagnose, diagnose_try, last_try
from bootstrap.explain.steps import Request, Step, shown, story
from bootstrap.model import mac_from
from bootstrap.records.ledger import UNKNOWN, Change
from bootstrap.records.model import Event, MachineRecord
from web.accesslog import SHOWN
from web.answers import Refusal
from web.images import image_of
from web.listeners import Access, Routes
from web.site import Site

MOST_BOOTS = 5
PAGE_STEPS = 4
# Whoever stands before a machine that asks for its script need not be told of its address.
_DHCP = frozenset({"offer", "ack", "ipxe-dhcp", "firmware-dhcp", "os-dhcp"})


def add(routes: Routes, site: Site) -> None:
    """Add the route."""

    @routes.get("/v1/machines/<name>/story", Access.OPERATOR)
    def tell(name: str) -> Response:
        return jsonify(story_json(site, *_asked(site, name)))


def _asked(site: Site, name: str) -> tuple[str, str, Sequence[Event]]:
    """Return name, MAC and events of a machine by its name, or by the MAC of one that is not listed.

    Raises:
        Refusal: 404, nothing is known of it.
    """
    machine = site.cluster.machine(name)
    if machine is not None:
        return name, machine.mac, site.ledger.events_of(machine.mac)
    try:
        mac = mac_from(name)
    except ValueError as error:
        raise Refusal(404, f"no machine is called {name[:64]}") from error
    listed = site.cluster.machine_by_mac(mac)
    if listed is not None:
        return listed.name, mac, site.ledger.events_of(mac)
    return mac, mac, [event for event in site.ledger.events_of(UNKNOWN) if event.machine == mac]


def story_json(site: Site, name: str, mac: str, events: Sequence[Event]) -> dict[str, Any]:
    """Return the last boots and the diagnosis as the operator gets them."""
    steps = story(events, _requests(site, mac))
    found = diagnose(_about(site, name, mac), steps, site.clock())
    boots = boots_of(steps)[-MOST_BOOTS:]
    return {
        "name": name,
        "mac": mac,
        "boots": [[_step_json(step) for step in boot.steps] for boot in boots],
        "diagnosis": {
            "name": found.name,
            "cause": shown(found.cause, 1000),
            "remedy": shown(found.remedy, 1000),
            "isWell": found.is_well,
        },
    }


def _step_json(step: Step) -> dict[str, Any]:
    return {
        "time": f"{step.at:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z",
        "text": step.text,
        "marks": sorted(step.marks),
    }


def _about(site: Site, name: str, mac: str) -> About:
    return About(name=name, mac=mac, url=site.cluster.base_url, secure=site.cluster.secure_url)


def _requests(site: Site, mac: str) -> list[Request]:
    """Return what the machine asked nginx for, with artifacts called what they are to its image."""
    machine = site.cluster.machine_by_mac(mac)
    record = site.ledger.machine(mac)
    pin = record.pin if record else None
    image = image_of(site.images, site.cluster.pool(machine.pool), pin) if machine else None
    parts = {"kernel": image.kernel, "initrd": image.initrd, "image": image.disk} if image else {}
    names = {part.sha256[:SHOWN]: what for what, part in reversed(parts.items())}
    return [
        replace(request, what=names.get(request.name, request.what))
        if request.what == "artifact"
        else request
        for request in site.access_log.requests_of(mac)
    ]


def judged(site: Site, record: MachineRecord | None, boot: Boot, now: datetime) -> tuple[Boot, "Keep"]:
    """Return what the machine gets in place of `boot`, and what completes the change that notes it."""
    if record is None:
        return boot, _as_it_is

    @cache
    def events() -> Sequence[Event]:
        return site.ledger.events_of(record.mac)

    def page() -> tuple[str, ...]:
        boot = last_try(story(events(), _requests(site, record.mac)))
        if boot is None:
            return ()
        found = diagnose_try(_about(site, record.name, record.mac), boot)
        steps = [step for step in boot.steps if step.marks.isdisjoint(_DHCP)]
        last = [f"{step.at:%H:%M:%S} {step.text}" for step in steps[-PAGE_STEPS:]]
        return tuple(shown(line) for line in (f"cause: {found.cause}", f"to do: {found.remedy}", *last))

    given, loop = breaker.judged(boot, record, now, events=events, page=page)

    def keep(change: Change) -> Change:
        after = change.record or record
        if after.loop == loop:
            return change
        return Change(record=after.but(loop=loop), note=change.note, writes=change.writes)

    return given, keep


Keep = Callable[[Change], Change]


def _as_it_is(change: Change) -> Change:
    return change
