"""What the operator asks and orders, over the Unix socket that only the owner of the work folder can open."""

import json
from collections.abc import Iterator
from typing import Any

from flask import Response, jsonify, request

from bootstrap.errors import ServeError
from bootstrap.explain import breaker
from bootstrap.model import Host
from bootstrap.records import transitions
from bootstrap.records.ledger import UNKNOWN, Change
from bootstrap.records.model import DiskChoice, Event, MachineRecord, Stranger
from bootstrap.states import ON_DISK, RULES, State
from web import gpus
from web.answers import Refusal, json_of
from web.approver import message_of
from web.listeners import Access, Routes
from web.site import Site
from web.unlisted import stranger_called, stranger_json

MOST_EVENTS = 1000
DETAIL_EVENTS = 50
UNITS = ((1024**4, "TiB"), (1024**3, "GiB"), (1024**2, "MiB"))


def add(routes: Routes, site: Site) -> None:
    """Add the operator's routes."""

    @routes.get("/v1/machines", Access.OPERATOR)
    def machines() -> Response:
        known = [machine_json(site, record) for record in site.ledger.machines()]
        strangers = [stranger_json(site, stranger) for stranger in site.strangers.all()]
        hosts = [host_json(site, host) for host in site.cluster.control_plane.hosts if host.node]
        return jsonify(
            machines=sorted(known, key=lambda one: str(one["name"])), strangers=strangers, hosts=hosts
        )

    @routes.get("/v1/machines/<name>", Access.OPERATOR)
    def machine(name: str) -> Response:
        return jsonify(_told(site, name))

    @routes.post("/v1/machines/<name>/arm", Access.OPERATOR)
    def arm(name: str) -> Response:
        return jsonify(_arm(site, _listed(site, name), recheck=request.args.get("recheck") == "true"))

    @routes.post("/v1/machines/<name>/retire", Access.OPERATOR)
    def retire(name: str) -> Response:
        return jsonify(_retire(site, called(site, name)))

    @routes.get("/v1/events", Access.OPERATOR)
    def history() -> Response:
        return jsonify(events=[json_of(event) for event in _events(site)])

    @routes.post("/v1/reload", Access.OPERATOR)
    def reload() -> Response:
        try:
            return jsonify(machines=len(site.load().machines))
        except ServeError as error:
            raise Refusal(409, str(error)) from error


def machine_json(site: Site, record: MachineRecord) -> dict[str, Any]:
    """Return a machine as the operator sees it; one that is listed no more shows as retired."""
    machine = site.cluster.machine_by_mac(record.mac)
    state = record.state if machine else State.RETIRED
    reason = record.reason if machine else "no longer in the configuration"
    pool = site.cluster.pool(machine.pool) if machine else None
    reserved = str(machine.address) if machine and machine.address else None
    shown = json_of(record)
    names = ("mac", "arm", "firmware", "since", "stage", "percent", "attempts", "bootedAt", "contactAt")
    return {name: shown[name] for name in (*names, "sshAnswers", "sshHostKeys", "isStuck", "said")} | {
        "name": machine.name if machine else record.name,
        "pool": machine.pool if machine else None,
        "state": str(state),
        "reason": reason,
        "message": _clash(record) or _waits_for(record) or _of_node(site, record) or record.message or reason,
        "address": record.address or reserved,
        "disk": disk_text(record.disk),
        "joins": record.mac in site.nodes.planned,
        "planned": site.nodes.planned.get(record.mac),
        "claim": shown["claim"],
        "accessUntil": f"{record.access_until:%Y-%m-%dT%H:%M:%SZ}" if record.access_until else None,
        "running": shown["running"],
        "gpu": gpus.told(record, pool),
        "isLooping": record.loop.since is not None,
        "owner": RULES[state].owner,
        "nextStep": RULES[state].next_step.replace("NAME", record.name),
    }


def host_json(site: Site, host: Host) -> dict[str, Any]:
    """Return a control-plane host that is a node, with what it has in common with a machine."""
    node = site.host_nodes.get(host.name)
    state = "absent" if node is None else ("ready" if node.is_ready else "joined")
    return {
        "name": host.name,
        "pool": "control-plane",
        "state": state,
        "address": str(host.address),
        "message": "the cluster has no such node; apply makes it one" if node is None else message_of(node),
    }


def _clash(record: MachineRecord) -> str:
    """Return what contradicts a machine that runs from its disk, and the remedy; empty if nothing does."""
    step = RULES[State.CONFLICT].next_step.replace("NAME", record.name)
    return f"in conflict: {record.clash}; {step}" if record.clash and record.state in ON_DISK else ""


def _waits_for(record: MachineRecord) -> str:
    """Return why a machine that may install was told to wait at its last boot; empty if it was not."""
    decision, _, reason = record.answered.partition(": ")
    if record.loop.since is not None:
        return breaker.reason_of(record.name)
    return reason if record.state in (State.ARMED, State.INSTALLING) and decision == "wait" else ""


def _of_node(site: Site, record: MachineRecord) -> str:
    """Return what is to be said of its node and its GPUs, once the machine has claimed to be it."""
    if record.claim is None or record.state not in ON_DISK:
        return ""
    machine = site.cluster.machine_by_mac(record.mac)
    pool = site.cluster.pool(machine.pool) if machine else None
    return "; ".join(filter(None, (record.claim.message, gpus.message(record, pool))))


def disk_text(disk: DiskChoice | None) -> str | None:
    """Return a disk in a few words: its serial number (else WWN, else path) and its size."""
    if disk is None:
        return None
    name = disk.serial or disk.wwn or disk.path
    unit, word = next(((unit, word) for unit, word in UNITS if disk.size >= unit), (1, "B"))
    return f"{name} {disk.size / unit:.4g} {word}"


def _told(site: Site, name: str) -> dict[str, Any]:
    """Return all that is known of the machine called `name`, listed or not; raises Refusal 404."""
    stranger = stranger_called(site, name)
    return _stranger_detail(site, stranger) if stranger else _detail(site, called(site, name))


def _stranger_detail(site: Site, stranger: Stranger) -> dict[str, Any]:
    found = site.strangers.inventory(stranger.mac)
    facts = found.model_dump(mode="json", by_alias=True, exclude_defaults=True) if found else None
    events = _of_stranger(site, stranger)
    told = stranger_json(site, stranger)
    about = {"name": stranger.mac, "facts": facts, "events": [json_of(event) for event in events]}
    return told | about | gpus.of_stranger(site, found, told["pools"])


def _detail(site: Site, record: MachineRecord) -> dict[str, Any]:
    facts = site.store.get(f"facts/{record.mac}")
    events = site.ledger.events_of(record.mac)[-DETAIL_EVENTS:]
    about = {
        "facts": json.loads(facts.value) if facts else None,
        "events": [json_of(event) for event in events],
    }
    return machine_json(site, record) | about | gpus.of_machine(site, record.mac)


def called(site: Site, name: str) -> MachineRecord:
    """Return the machine called `name` or with that MAC, also one that is listed no more; raises Refusal 404."""
    machine = site.cluster.machine(name) or site.cluster.machine_by_mac(name.lower())
    if machine is not None and (record := site.ledger.machine(machine.mac)):
        return record
    for record in site.ledger.machines():
        if record.name == name:
            return record
    raise Refusal(404, f"no machine is called {name[:64]}")


def _listed(site: Site, name: str) -> MachineRecord:
    record = called(site, name)
    if site.cluster.machine_by_mac(record.mac) is None:
        raise Refusal(409, f"{record.name} is no longer in the configuration; list it, then arm it")
    return record


def _arm(site: Site, record: MachineRecord, *, recheck: bool) -> dict[str, Any]:
    """Arm a machine whose GPUs, as it showed them last, fit its pool; with `recheck` only the installer looks."""
    machine, seen = site.cluster.machine_by_mac(record.mac), gpus.last_seen(site, record.mac)
    if machine and seen is not None and not recheck:
        pool = site.cluster.pool(machine.pool)
        gpus.refuse_misfit(pool, seen, record.name, f"machine arm {record.name}")
    arm_id = site.new_id()
    return _change(
        site,
        record,
        lambda found, now: transitions.arm(
            found, arm_id, now, who=transitions.OPERATOR, reason="ordered by the operator", erases_system=True
        ),
    )


def _retire(site: Site, record: MachineRecord) -> dict[str, Any]:
    if record.state is State.RETIRED:
        return machine_json(site, record)
    return _change(site, record, transitions.retire)


def _change(site: Site, record: MachineRecord, decide: Any) -> dict[str, Any]:
    written = site.ledger.change(record.mac, lambda found, now: decide(found, now) if found else Change())
    return machine_json(site, written.record if written else record)


def _events(site: Site) -> Iterator[Any]:
    """Yield what the query asks for: `after` (default 0), and `machine` by name or "unknown"."""
    after = _number(request.args.get("after", "0"))
    name = request.args.get("machine")
    if name is None:
        yield from site.ledger.events_after(after, MOST_EVENTS)
        return
    if stranger := stranger_called(site, name):
        yield from _of_stranger(site, stranger, after=after)
        return
    log = UNKNOWN if name == UNKNOWN else called(site, name).mac
    yield from site.ledger.events_of(log, after=after)


def _of_stranger(site: Site, stranger: Stranger, *, after: int = 0) -> list[Event]:
    """Return the events of one machine that nobody listed, from the log that all of them share."""
    shared = site.ledger.events_of(UNKNOWN, after=after)
    return [event for event in shared if event.machine == stranger.mac]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(2**63))):
        raise Refusal(400, "after: a number")
    return int(text)
