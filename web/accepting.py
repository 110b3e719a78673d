"""Takes a machine that nobody listed into the cluster: by the operator's word, or because a pool describes it."""

import logging
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address
from typing import Any

from flask import Response, jsonify
from pydantic import ValidationError

from bootstrap import accepted
from bootstrap.errors import RenderError
from bootstrap.model import Machine
from bootstrap.records import conflicts, transitions
from bootstrap.records.inventory import Inventory
from bootstrap.records.ledger import Change
from bootstrap.records.matching import matching_pools
from bootstrap.records.model import Accepted, MachineRecord, Stranger
from bootstrap.state import Entry, Put, Write
from web import evidence
from web.answers import Refusal
from web.bodies import Acceptance, said
from web.composing import machine_documents
from web.gpus import refuse_misfit, seen_in
from web.listeners import Access, Routes
from web.operator import called, machine_json
from web.site import Site
from web.unlisted import card_of, problem_of, stranger_called

log = logging.getLogger(__name__)

MOST_TRIES = 4
LAST = "meta/last-accepted"
"""Who was accepted last: two that are accepted at once, by two appliances on one store, could get the same name."""


class Overtaken(Exception):  # noqa: N818  # reads as a sentence where it is raised
    """Another machine was accepted meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a machine is to become: `who` says so and why, `resolve` although something else claims the same.

    `recheck` leaves the question whether its GPUs fit to the installer, which looks before it writes.
    """

    pool: str
    name: str
    who: str
    reason: str
    resolve: bool = False
    recheck: bool = False


def add(routes: Routes, site: Site) -> None:
    """Add the operator's route."""

    @routes.post("/v1/machines/<name>/accept", Access.OPERATOR)
    def accept(name: str) -> Response:
        asked, _ = said(Acceptance)
        stranger = stranger_called(site, name)
        if stranger is None:
            return jsonify(_resolved(site, name, asked))
        pool = asked.pool or _only_pool(site, stranger)
        wish = Wish(
            pool=pool,
            name=asked.name,
            who=transitions.OPERATOR,
            reason=f"accepted into pool {pool}",
            resolve=asked.resolve,
            recheck=asked.recheck,
        )
        return jsonify(machine_json(site, take(site, stranger, wish)))


def take(site: Site, stranger: Stranger, wish: Wish) -> MachineRecord:
    """Make the machine a part of the cluster and arm it; the disks of a system of ours stay as they are.

    What another appliance or another thread has accepted just so since `stranger` was read stays as it is.

    Raises:
        Refusal: 400 or 409 with the reason; nothing was changed.
        StateError: the store could not write.
    """
    with site.changing:
        for _ in range(MOST_TRIES):
            try:
                record = _taken(site, stranger, wish)
                break
            except Overtaken:
                site.load()
        else:
            raise Refusal(409, "other appliances accept machines at this moment; ask again")
        site.strangers.count_again()
        evidence.know(site, record)
        site.load()
        return record


def _taken(site: Site, stranger: Stranger, wish: Wish) -> MachineRecord:
    """Take the machine in, unless another appliance on the same store has taken in one since ours was loaded."""
    last = site.store.get(LAST)
    if any(site.cluster.machine_by_mac(one.mac) is None for one in site.accepted()):
        site.load()
    if machine := site.cluster.machine_by_mac(stranger.mac):
        return _taken_meanwhile(site, machine, wish)
    latest = site.strangers.get(stranger.mac)
    if latest is None:
        raise Refusal(409, f"{stranger.mac} is not waiting any more; look at `machine list`")
    _refuse_conflicts(site, latest, wish)
    new = _entry(site, latest, wish)
    _refuse_misfit(site, latest, wish)
    _refuse_unrenderable(site, new)
    return _written(site, latest, new, wish, last)


def _taken_meanwhile(site: Site, machine: Machine, wish: Wish) -> MachineRecord:
    """Return the record of a machine that was accepted since it was read as a stranger, if that was what `wish` says.

    Its arm stays what it is: an installer may hold it by now.

    Raises:
        Refusal: 409, it has become something else.
    """
    if site.store.get(f"accepted/{machine.mac}") is None:
        raise Refusal(
            409, f"{machine.mac} is listed as {machine.name} by now; the configuration says what it is"
        )
    record = site.ledger.machine(machine.mac)
    if record and (machine.name, machine.pool) == (wish.name or default_name(machine.mac), wish.pool):
        return record
    raise Refusal(
        409,
        f"{machine.mac} has been accepted as {machine.name} into pool {machine.pool} meanwhile; nothing was changed",
    )


def take_by_match(site: Site, stranger: Stranger, found: Inventory) -> None:
    """Accept the machine if exactly one pool describes it, and that pool accepts by itself.

    Raises:
        StateError: the store could not write.
    """
    pools = matching_pools(site.cluster, found)
    if len(pools) != 1 or not pools[0].auto_accept:
        return
    pool = pools[0].name
    wish = Wish(
        pool=pool,
        name="",
        who=transitions.APPLIANCE,
        reason=f"pool {pool} describes it and accepts by itself",
    )
    try:
        take(site, stranger, wish)
    except Refusal as error:
        log.warning("%s: pool %s describes it, but it is not accepted: %s", stranger.mac, pool, error.reason)


def default_name(mac: str) -> str:
    """Return the host name of a machine that was given none."""
    return f"m-{mac.replace(':', '')}"


def _resolved(site: Site, name: str, asked: Acceptance) -> dict[str, Any]:
    """Resolve the conflict of a listed machine."""
    record = called(site, name)
    if not asked.resolve:
        raise Refusal(
            409, f"{record.name} is known and {record.state}; to resolve a conflict: machine accept --resolve"
        )
    shared = {clash.value for clash in site.identities.clashes(record.mac)}

    def decide(found: MachineRecord | None, now: datetime) -> Change:
        return conflicts.resolve(found or record, now, shared)

    written = site.ledger.change(record.mac, decide)
    after = written.record if written else record
    evidence.know(site, after)
    return machine_json(site, after)


def _only_pool(site: Site, stranger: Stranger) -> str:
    found = site.strangers.inventory(stranger.mac)
    pools = matching_pools(site.cluster, found) if found else []
    if len(pools) == 1:
        return pools[0].name
    choices = ", ".join(pool.name for pool in pools or site.cluster.pools)
    raise Refusal(400, f"which pool? write --pool with one of: {choices}")


def _refuse_conflicts(site: Site, stranger: Stranger, wish: Wish) -> None:
    if owner := card_of(site, stranger.mac):
        raise Refusal(409, f"{stranger.mac} is a card of {owner}, which is known by another one")
    problem = problem_of(site, stranger)
    if problem and not wish.resolve:
        raise Refusal(
            409,
            f"{stranger.mac} is in conflict: {problem}; find out which is which, then repeat with --resolve",
        )


def _refuse_misfit(site: Site, stranger: Stranger, wish: Wish) -> None:
    """Ask the pool about the GPUs that the machine showed, if it was looked at."""
    found = site.strangers.inventory(stranger.mac)
    if found and not wish.recheck:
        command = f"machine accept {stranger.mac} --pool {wish.pool}"
        refuse_misfit(site.cluster.pool(wish.pool), seen_in(found), stranger.mac, command)


def _entry(site: Site, stranger: Stranger, wish: Wish) -> Accepted:
    """Return what the configuration would say of the machine.

    Raises:
        Refusal: 400 or 409, it cannot be that.
    """
    cluster, name = site.cluster, wish.name or default_name(stranger.mac)
    if wish.pool not in {pool.name for pool in cluster.pools}:
        choices = ", ".join(pool.name for pool in cluster.pools)
        raise Refusal(400, f"no pool is called {wish.pool[:64]}; there are: {choices}")
    try:
        Machine(name=name, mac=stranger.mac, pool=wish.pool)
    except ValidationError as error:
        raise Refusal(400, str(error.errors(include_url=False)[0]["msg"])) from error
    if cluster.machine(name) or name in {host.name for host in cluster.control_plane.hosts}:
        raise Refusal(409, f"another machine is called {name}; choose a --name")
    return Accepted(mac=stranger.mac, name=name, pool=wish.pool, address=_address(site, stranger))


def _address(site: Site, stranger: Stranger) -> str:
    """Return the address that others reach its pods by, where that must not change: the one that it has."""
    if site.cluster.kubernetes.cni.plugin != "bridge" or not site.cluster.control_plane.hosts:
        return ""
    if not stranger.address:
        raise Refusal(409, f"{stranger.mac} has not said which address it has; let it boot from the network")
    if IPv4Address(stranger.address) not in site.cluster.appliance.address.network:
        raise Refusal(409, f"{stranger.address} is behind a router, where cni bridge reaches no pods")
    if stranger.address in map(str, accepted.addresses(site.cluster)):
        raise Refusal(409, f"{stranger.mac} has the address {stranger.address}, which is another machine's")
    return stranger.address


def _refuse_unrenderable(site: Site, new: Accepted) -> None:
    """Make its documents once before anything is written: what cannot be made must not stay in the way."""
    trial = accepted.composed(site.cluster, [new])
    try:
        machine_documents(trial, trial.machines[-1:], b"", site.read_joining(trial))
    except RenderError as error:
        raise Refusal(409, str(error)) from error


def _written(site: Site, stranger: Stranger, new: Accepted, wish: Wish, last: Entry | None) -> MachineRecord:
    at = last.revision if last else 0
    arm_id, found = site.new_id(), site.strangers.inventory(stranger.mac)
    when = "when it boots from the network again" if found and found.is_in_use else "by itself"
    ignored = tuple(sorted({clash.value for clash in site.identities.clashes(stranger.mac)}))
    writes: list[Write] = [
        Put(key=f"accepted/{new.mac}", value=new.to_bytes()),
        Put(key=LAST, value=new.mac.encode(), after=at),
        *site.strangers.gone(new.mac),
    ]
    if found:
        facts = found.model_dump_json(by_alias=True, exclude_defaults=True)
        writes.append(Put(key=f"facts/{new.mac}", value=facts.encode()))

    def decide(record: MachineRecord | None, now: datetime) -> Change:
        latest = site.store.get(LAST)
        if (latest.revision if latest else 0) != at:
            raise Overtaken
        fresh = record or transitions.enrol(new.mac, new.name, now)
        known = fresh.but(
            name=new.name,
            said=stranger.said,
            address=stranger.address or fresh.address,
            evidence=stranger.evidence,
            cards=stranger.cards,
            ignored=ignored,
            clash="",
        )
        armed = transitions.arm(known, arm_id, now, who=wish.who, reason=wish.reason)
        after = armed.record or known
        told = transitions.note(after, wish.who, "accepted", decision=arm_id, reason=wish.reason)
        return Change(
            record=after.but(message=f"accepted and armed: it installs {when}"),
            note=told,
            writes=tuple(writes),
        )

    written = site.ledger.change(new.mac, decide)
    if written is None:
        raise Refusal(409, f"{new.mac} is gone")
    return written.record
