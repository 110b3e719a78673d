"""What machines that nobody listed tell of themselves, and what they are to do next: wait, install, or go away."""

from typing import Any

from flask import Response, jsonify, request

from bootstrap.artifacts import Manifest
from bootstrap.model import Machine, Pool
from bootstrap.records.evidence import evidence_of
from bootstrap.records.model import MachineRecord
from bootstrap.render.machines import installer_task
from bootstrap.states import ON_DISK, RULES, State
from web.accepting import take_by_match
from web.answers import Refusal
from web.bodies import SMALL_BODY, Found, said
from web.identity import local_address, mac_of
from web.images import image_of, lack_of
from web.listeners import Access, Routes
from web.site import Site
from web.unlisted import card_of, misfit_of, problem_of

WAIT_SECONDS = (
    10  # how soon a machine that waits asks again; it adds some of its own, so that a rack is not in step
)


def add(routes: Routes, site: Site) -> None:
    """Add the two routes."""

    @routes.post("/v1/discovery", Access.MACHINE)
    def inventory() -> Response:
        found, _ = said(Found, limit=SMALL_BODY)
        take_in(site, found)
        return jsonify(next_step(site, found.mac, found.image))

    @routes.get("/v1/discovery/<mac>", Access.MACHINE)
    def what_next(mac: str) -> Response:
        return jsonify(next_step(site, mac_of(mac), request.args.get("image", "")))


def inventory_image(site: Site) -> tuple[Pool, Manifest] | None:
    """Return the first pool whose image is there: its live system can look at any machine."""
    for pool in site.cluster.pools:
        image = site.images(pool)
        if image is not None:
            return pool, image
    return None


def take_in(site: Site, found: Found) -> None:
    """Keep what an unlisted machine found in itself; a pool may accept it at once.

    Raises:
        Refusal: 429, too many come at a time.
        StateError: the store could not write.
    """
    if site.cluster.machine_by_mac(found.mac) or not site.cluster.appliance.discovery:
        return
    if not site.unknown_buckets.take("inventory"):
        raise Refusal(429, "too many unknown machines at a time; ask again")
    seen = found.inventory
    claims = evidence_of(uuid=seen.uuid, serial=seen.serial, manufacturer=seen.vendor)
    site.strangers.took(found.mac, claims, seen, local_address(site.cluster, found.address))
    stranger = site.strangers.get(found.mac)
    if stranger and not problem_of(site, stranger):
        take_by_match(site, stranger, seen)


def next_step(site: Site, mac: str, image: str) -> dict[str, Any]:
    """Return what a machine does that runs the live system `image` (the sum of its initrd) and waits."""
    machine, record = site.cluster.machine_by_mac(mac), site.ledger.machine(mac)
    if machine is None:
        return _unlisted(site, mac)
    if record is None:
        return _wait(f"{machine.name} is listed, but not read yet")
    if record.state in ON_DISK or record.state is State.RETIRED or record.keeps_system:
        return {"next": "restart", "reason": f"{machine.name} is {record.state}"}
    if record.state in (State.ARMED, State.INSTALLING) and record.arm:
        return _armed(site, machine, record, image)
    step = RULES[record.state].next_step.replace("NAME", machine.name)
    return _wait(f"{machine.name} is {record.state}: {record.reason or step}")


def _unlisted(site: Site, mac: str) -> dict[str, Any]:
    if owner := card_of(site, mac):
        return {"next": "restart", "reason": f"this card belongs to {owner}, which boots from another one"}
    if not site.cluster.appliance.discovery:
        return {"next": "restart", "reason": "the configuration leaves unknown machines alone"}
    stranger, seen = site.strangers.get(mac), site.strangers.inventory(mac)
    if stranger is None or seen is None:
        return {"next": "report", "seconds": WAIT_SECONDS}
    if seen.is_in_use:
        return {"next": "restart", "reason": f"its disks hold something; to install it: machine accept {mac}"}
    if site.unknown_buckets.take("waits"):
        site.strangers.waits(mac)
    if problem := problem_of(site, stranger):
        return _wait(f"in conflict: {problem}")
    step = misfit_of(site, seen) or f"to install it: machine accept {mac} --pool POOL"
    return _wait(f"discovered; {step}")


def _armed(site: Site, machine: Machine, record: MachineRecord, image: str) -> dict[str, Any]:
    pool = site.cluster.pool(machine.pool)
    wanted = image_of(site.images, pool, record.pin)
    if wanted is None:
        return _wait(
            f"{machine.name} is armed, but the image of pool {pool.name} {lack_of(site.images, pool)}"
        )
    if wanted.initrd.sha256 != image:
        return {"next": "restart", "reason": f"pool {pool.name} installs with another live system"}
    return {"next": "install", "arm": record.arm, "task": installer_task(site.cluster, machine)}


def _wait(reason: str) -> dict[str, Any]:
    return {"next": "wait", "seconds": WAIT_SECONDS, "reason": reason}
