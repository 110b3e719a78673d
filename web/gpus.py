"""What a machine's GPUs mean for it: whether its pool takes it, and what the operator is told of them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from flask import Response, jsonify
from pydantic.alias_generators import to_camel

from bootstrap.gpu import resolver
from bootstrap.gpu.machine import details_of, judged
from bootstrap.gpu.reported import kept_report
from bootstrap.model import Pool
from bootstrap.records.gpus import alarm_of, is_minded, silence_of
from bootstrap.records.inventory import Gpu, Inventory, nvidia_devices
from bootstrap.records.model import MachineRecord, SignedReport
from web.answers import Refusal, json_of
from web.gpu_targets import target_of
from web.listeners import Access, Routes
from web.site import Site


def add(routes: Routes, site: Site) -> None:
    """Add the operator's route."""

    @routes.get("/v1/gpus", Access.OPERATOR)
    def known() -> Response:
        nodes = sorted(_nodes(site), key=lambda one: str(one["name"]))
        return jsonify(nodes=nodes, trouble=site.gate_trouble)


def _nodes(site: Site) -> Iterator[dict[str, Any]]:
    """Yield what is known of the GPUs of each machine in a pool that has some."""
    for record in site.ledger.machines():
        machine = site.cluster.machine_by_mac(record.mac)
        if machine is None:
            continue
        pool = site.cluster.pool(machine.pool)
        if pool.gpu is not None:
            target = target_of(site.images, pool)
            yield {"name": machine.name, "pool": machine.pool, "target": target, **_known(site, record, pool)}


def _known(site: Site, record: MachineRecord, pool: Pool) -> dict[str, Any]:
    entry = site.store.get(f"gpu/{record.mac}") if record.gpu else None
    signed = SignedReport.from_bytes(entry.value) if entry else None
    report = kept_report(signed.report) if signed else None
    cards = report.cards if report else ()
    return {
        **told(record, pool),
        "machineState": str(record.state),
        "silent": silence_of(record, pool, signed.heard_at if signed else None, site.clock()),
        "arm": record.arm,
        "heardAt": f"{signed.heard_at:%Y-%m-%dT%H:%M:%SZ}" if signed else None,
        "driver": report.driver if report else None,
        "flavour": report.flavour if report else None,
        "devices": [f"{one.address} 10de:{one.id}" for one in report.devices] if report else [],
        "mig": [one.model_dump(mode="json", by_alias=True) for one in report.mig] if report else [],
        "migFailure": report.mig_failure if report else None,
        "cards": [{to_camel(key): value for key, value in asdict(card).items()} for card in cards],
    }


def told(record: MachineRecord, pool: Pool | None) -> dict[str, Any]:
    """Return what is known of the GPUs of a node in a few words; where nobody minds them, nothing holds it back."""
    known = json_of(record.gpu) if record.gpu else {}
    known |= {} if is_minded(record, pool) else {"part": "", "verdict": ""}
    names = ("state", "reason", "since", "part", "verdict", "passedAt", "gone", "verified")
    more = {"alarm": alarm_of(record, pool), "pin": json_of(record.pin) if record.pin else None}
    return {name: known.get(name) for name in names} | more


def message(record: MachineRecord, pool: Pool | None) -> str:
    """Return what is to be said of a node's GPUs beside the rest; empty where there is nothing."""
    if not is_minded(record, pool) or record.claim is None:
        return ""
    known = record.gpu
    if alarm := alarm_of(record, pool):
        return f"ALARM: {alarm}"
    if known is None:
        return "GPUs: not heard of yet"
    if known.part or known.passed_at:
        back = f"; set back to driver {record.pin.driver}, gpu upgrade tries again" if record.pin else ""
        return (known.verdict if known.passed_at else f"GPUs held back: {known.verdict}") + back
    return f"GPUs: {known.state}" + (f", {known.reason}" if known.reason else "")


class Seen(NamedTuple):
    """What a machine showed: its NVIDIA GPUs by their device ids, and whether Secure Boot is on, if it said so."""

    devices: Sequence[str]
    secure_boot: bool | None = None


def seen_in(found: Inventory) -> Seen:
    """Return what an unlisted machine showed."""
    return Seen(found.nvidia_devices, found.firmware.secure_boot)


def misfit(pool: Pool, seen: Seen) -> str:
    """Return why a machine that shows this is not installed as one of `pool`; empty if it is."""
    answer = judged(pool, seen.devices, secure_boot=seen.secure_boot)
    return str(answer) if isinstance(answer, resolver.Refusal) else ""


def refuse_misfit(pool: Pool, seen: Seen, name: str, command: str) -> None:
    """Return if `pool` takes a machine that shows this; `command` looks again once the cause is removed.

    Raises:
        Refusal: 409 with the reason.
    """
    if reason := misfit(pool, seen):
        raise Refusal(
            409, f"{name}: {reason}; if that has changed since it was looked at: {command} --recheck"
        )


def last_seen(site: Site, mac: str) -> Seen | None:
    """Return what a machine of the cluster showed last; None if it never told of GPUs, or that it has none."""
    facts = site.store.get(f"facts/{mac}")
    told = json.loads(facts.value) if facts else {}
    if told.get("gpus") is None:
        return None
    # An installer says it beside the rest, and one that looked at the machine before it was listed in `firmware`.
    firmware = told.get("firmware")
    said = firmware.get("secureBoot") if isinstance(firmware, dict) else told.get("secureBoot")
    return Seen(nvidia_devices(Gpu.model_validate(one) for one in told["gpus"]), said)


def of_machine(site: Site, mac: str) -> dict[str, Any]:
    """Return what is told of the GPUs of a machine of the cluster: which it showed, and what follows for it."""
    machine, seen = site.cluster.machine_by_mac(mac), last_seen(site, mac)
    if machine is None or seen is None:
        return {}
    return _told(seen, [site.cluster.pool(machine.pool)])


def of_stranger(site: Site, found: Inventory | None, pools: Sequence[str]) -> dict[str, Any]:
    """Return what is told of the GPUs of a machine that nobody listed; the decision is that of each of `pools`.

    Without any, it is that of each pool that says something of GPUs.
    """
    if found is None:
        return {}
    wanted = [pool for pool in site.cluster.pools if pool.name in pools] or site.cluster.pools
    return _told(seen_in(found), wanted)


def _told(seen: Seen, pools: Sequence[Pool]) -> dict[str, Any]:
    decisions = [(pool.name, judged(pool, seen.devices, secure_boot=seen.secure_boot)) for pool in pools]
    return {
        "gpus": details_of(seen.devices) or "none",
        "gpuDecision": " | ".join(f"pool {name}: {answer}" for name, answer in decisions if answer) or None,
    }
