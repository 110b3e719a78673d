"""What a machine's GPUs mean for it: whether its pool takes it, and what the operator is told of them."""

import json
from collections.abc import Sequence
from typing import Any

from bootstrap.gpu import resolver
from bootstrap.gpu.machine import details_of, judged
from bootstrap.model import Pool
from bootstrap.records.inventory import Gpu, Inventory, nvidia_devices
from web.answers import Refusal
from web.site import Site


def misfit(pool: Pool, devices: Sequence[str]) -> str:
    """Return why a machine with these NVIDIA GPUs is not installed as one of `pool`; empty if it is."""
    answer = judged(pool, devices)
    return str(answer) if isinstance(answer, resolver.Refusal) else ""


def refuse_misfit(pool: Pool, devices: Sequence[str], name: str, command: str) -> None:
    """Return if `pool` takes a machine with these GPUs; `command` looks again once the cause is removed.

    Raises:
        Refusal: 409 with the reason.
    """
    if reason := misfit(pool, devices):
        raise Refusal(
            409, f"{name}: {reason}; if that has changed since it was looked at: {command} --recheck"
        )


def last_seen(site: Site, mac: str) -> tuple[str, ...] | None:
    """Return the NVIDIA GPUs that a machine of the cluster showed last; None if it never told of any or none."""
    facts = site.store.get(f"facts/{mac}")
    told = json.loads(facts.value).get("gpus") if facts else None
    return None if told is None else nvidia_devices(Gpu.model_validate(one) for one in told)


def of_machine(site: Site, mac: str) -> dict[str, Any]:
    """Return what is told of the GPUs of a machine of the cluster: which it showed, and what follows for it."""
    machine, devices = site.cluster.machine_by_mac(mac), last_seen(site, mac)
    if machine is None or devices is None:
        return {}
    return _told(devices, [site.cluster.pool(machine.pool)])


def of_stranger(site: Site, found: Inventory | None, pools: Sequence[str]) -> dict[str, Any]:
    """Return what is told of the GPUs of a machine that nobody listed; the decision is that of each of `pools`.

    Without any, it is that of each pool that says something of GPUs.
    """
    if found is None:
        return {}
    wanted = [pool for pool in site.cluster.pools if pool.name in pools] or site.cluster.pools
    return _told(found.nvidia_devices, wanted)


def _told(devices: Sequence[str], pools: Sequence[Pool]) -> dict[str, Any]:
    decisions = [(pool.name, judged(pool, devices)) for pool in pools]
    return {
        "gpus": details_of(devices) or "none",
        "gpuDecision": " | ".join(f"pool {name}: {answer}" for name, answer in decisions if answer) or None,
    }
