"""What there is to say of a machine that nobody listed."""

from typing import Any

from bootstrap.model import mac_from
from bootstrap.records.evidence import told
from bootstrap.records.inventory import Inventory, brief
from bootstrap.records.matching import matching_pools
from bootstrap.records.model import Stranger
from bootstrap.states import State
from web import evidence
from web.answers import json_of
from web.gpus import misfit, seen_in
from web.site import Site

MOST_NAMED = 16
"""Of all that claim the same: thousands of made-up machines may."""


def stranger_called(site: Site, name: str) -> Stranger | None:
    """Return the unlisted machine whose MAC address is `name`, or None."""
    try:
        mac = mac_from(name)
    except ValueError:
        return None
    return None if site.cluster.machine_by_mac(mac) else site.strangers.get(mac)


def problem_of(site: Site, stranger: Stranger) -> str:
    """Return what is in conflict about an unlisted machine; empty if nothing is."""
    clashes = site.identities.clashes(stranger.mac, MOST_NAMED)
    return stranger.contradiction or told(clashes, evidence.names(site, clashes))


def misfit_of(site: Site, found: Inventory | None) -> str:
    """Return why the one pool that describes a machine does not take its GPUs; empty if it does, or there is none."""
    pools = matching_pools(site.cluster, found) if found else []
    return misfit(pools[0], seen_in(found)) if found and len(pools) == 1 else ""


def card_of(site: Site, mac: str) -> str:
    """Return the name of the listed machine that has the card `mac` too; empty if there is none."""
    other = site.identities.other_card(mac, lambda one: site.cluster.machine_by_mac(one) is not None)
    machine = site.cluster.machine_by_mac(other) if other else None
    return machine.name if machine else ""


def stranger_json(site: Site, stranger: Stranger) -> dict[str, Any]:
    """Return an unlisted machine as the operator sees it."""
    problem, owner = problem_of(site, stranger), card_of(site, stranger.mac)
    found = site.strangers.inventory(stranger.mac)
    pools = matching_pools(site.cluster, found) if found else []
    state = State.CONFLICT if problem else State.DISCOVERED
    return json_of(stranger) | {
        "state": str(state),
        "reason": problem,
        "belongsTo": owner,
        "pools": [pool.name for pool in pools],
        "misfit": misfit_of(site, found),
        "inventory": brief(found) if found else "",
    }
