"""Who gives out addresses, and the networks behind relays."""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

from bootstrap.config.cross.addresses import (
    APPLIANCE,
    RANGE,
    SUBNETS,
    Further,
    Layout,
    edge,
    holds,
    layout_of,
)
from bootstrap.config.cross.view import View
from bootstrap.config.tree import Path
from bootstrap.errors import Problem
from bootstrap.model.addresses import address_from

MODE: Path = ("appliance", "dhcp", "mode")
UPSTREAM: Path = ("appliance", "dhcp", "upstream")
SMALLEST = 29
"""The longest prefix of a network with room for machines: six hosts."""


def dhcp_mode(view: View) -> Iterator[Problem]:
    """Only a DHCP server has ranges; only beside another one there is an upstream."""
    mode, has_range = _mode(view), view.has(*RANGE)
    if mode == "server" and not has_range and view.open("appliance", "dhcp"):
        yield view.problem(
            RANGE, "is missing: mode server gives out addresses; add range: [FIRST, LAST], or mode: proxy"
        )
    if mode in ("proxy", "off") and has_range:
        yield view.key_problem(
            RANGE, f"mode {mode} gives out no addresses; remove range, or write mode: server"
        )
    if mode == "server" and view.has(*UPSTREAM):
        advice = "remove upstream, or write mode: proxy"
        yield view.key_problem(UPSTREAM, f"mode server is the only DHCP server of its network; {advice}")


def upstream(view: View) -> Iterator[Problem]:
    """The site's servers are others than ours, each named once."""
    layout = layout_of(view)
    seen: dict[IPv4Address, Path] = {}
    for path in view.each(*UPSTREAM):
        address = view.read(address_from, *path)
        if address is None:
            continue
        if layout.interface and address == layout.interface.ip:
            where = view.where(APPLIANCE)
            yield view.problem(path, f"{address} is our own ({where}); write the site's DHCP server")
        if address in seen:
            yield view.problem(path, f"{address} is there already ({view.where(seen[address])}); remove one")
        seen.setdefault(address, path)


def further_networks(view: View) -> Iterator[Problem]:
    """A network behind a relay is one of its own, with room for machines."""
    layout = layout_of(view)
    earlier = [(APPLIANCE, layout.network)] if layout.network else []
    for one in layout.further:
        path = (*one.path, "subnet")
        if one.network.prefixlen > SMALLEST:
            example = f"{one.network.network_address}/24"
            yield view.problem(
                path, f"{one.network} has no room for machines; write a prefix length such as {example}"
            )
        for other, network in earlier:
            if one.network.overlaps(network):
                where = f"{network} ({view.where(other)})"
                yield view.problem(path, f"{one.network} overlaps {where}; write each network once")
        earlier.append((path, one.network))


def further_settings(view: View) -> Iterator[Problem]:
    """A network where we give out addresses has a router; beside another server both are its own affair."""
    mode = _mode(view)
    for path in view.each(*SUBNETS):
        if mode == "server" and view.open(*path) and not view.has(*path, "gateway"):
            advice = "machines there reach us by a router; add gateway: ADDRESS"
            yield view.problem((*path, "gateway"), f"is missing: {advice}")
        for key in ("gateway", "range"):
            if mode in ("proxy", "off") and view.has(*path, key):
                advice = f"remove {key}, or write mode: server"
                yield view.key_problem((*path, key), f"mode {mode} gives out no addresses; {advice}")


def further_addresses(view: View) -> Iterator[Problem]:
    """Router and range of a network are in it, and nobody with a fixed address is in the range."""
    layout = layout_of(view)
    for one in layout.further:
        if one.gateway and (one.gateway not in one.network or edge(one.gateway, one.network)):
            path = (*one.path, "gateway")
            yield view.problem(
                path, f"{one.gateway} is no host of {one.network}; write the router's address there"
            )
        yield from _range_ends(view, one)
        yield from _range_holds_nobody(view, layout, one)


def _range_ends(view: View, one: Further) -> Iterator[Problem]:
    path = (*one.path, "range")
    ends = [view.read(address_from, *path, end) for end in (0, 1)]
    outside = 0
    for number, end in enumerate(ends):
        if end and (end not in one.network or edge(end, one.network)):
            outside += 1
            advice = f"write one such as {one.network[-2]}"
            yield view.problem((*path, number), f"{end} is no host of {one.network}; {advice}")
    first, last = ends
    if first and last and first > last and not outside:
        yield view.problem(path, f"{first} to {last} runs backwards; write [{last}, {first}]")


def _range_holds_nobody(view: View, layout: Layout, one: Further) -> Iterator[Problem]:
    if one.range is None:
        return
    path, span = (*one.path, "range"), f"{one.range[0]}-{one.range[1]}"
    if one.gateway and holds(one.range, one.gateway):
        where = view.where((*one.path, "gateway"))
        yield view.problem(path, f"{span} holds {one.gateway} ({where}); write a range without it")
    for other, address in (*layout.hosts, *layout.machines):
        if holds(one.range, address):
            where = f"the DHCP range {span} ({view.where(path)})"
            yield view.problem(other, f"{address} lies in {where}; write an address outside of it")


def _mode(view: View) -> str:
    return view.text(*MODE) or "server"


RULES: tuple[Callable[[View], Iterator[Problem]], ...] = (
    dhcp_mode,
    upstream,
    further_networks,
    further_settings,
    further_addresses,
)
