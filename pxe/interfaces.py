"""The network interface to serve on: is it there, is it up, has it the address."""

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

from pyroute2 import DiagSocket, IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from bootstrap.errors import PreflightError

IFF_UP = 0x1  # linux/if.h
IFF_LOOPBACK = 0x8
NUD_USABLE = frozenset(
    {0x02, 0x04, 0x08, 0x10, 0x80}
)  # reachable, stale, delay, probe, permanent (linux/neighbour.h)


@dataclass(frozen=True, kw_only=True)
class Interface:
    """One network interface as the kernel has it now; `mtu` in bytes, `has_carrier` the link's own word."""

    name: str
    index: int
    mac: str
    mtu: int
    is_up: bool
    has_carrier: bool
    addresses: tuple[IPv4Interface, ...]


def interfaces() -> tuple[Interface, ...]:
    """Return the interfaces of this network namespace but loopback, by name."""
    with IPRoute() as route:
        addresses = [
            (message["index"], IPv4Interface((_attribute(message, "IFA_LOCAL"), message["prefixlen"])))
            for message in route.get_addr(family=socket.AF_INET)
        ]
        links = [link for link in route.get_links() if not link["flags"] & IFF_LOOPBACK]
    found = [_interface(link, (a for index, a in addresses if index == link["index"])) for link in links]
    return tuple(sorted(found, key=lambda interface: interface.name))


def _interface(link: Any, addresses: Iterable[IPv4Interface]) -> Interface:
    return Interface(
        name=_attribute(link, "IFLA_IFNAME"),
        index=link["index"],
        mac=_attribute(link, "IFLA_ADDRESS") or "",
        mtu=_attribute(link, "IFLA_MTU") or 0,
        is_up=bool(link["flags"] & IFF_UP),
        has_carrier=bool(_attribute(link, "IFLA_CARRIER")),
        addresses=tuple(addresses),
    )


def _attribute(message: Any, name: str) -> Any:
    return message.get_attr(name)


def choose(name: str, address: IPv4Interface, found: Iterable[Interface]) -> Interface:
    """Return the interface called `name` from `found` if it can serve on `address`; pure.

    Raises:
        PreflightError: it is not there, is down, or has not the address; the text says what is there and
            which command changes it.
    """
    by_name = {interface.name: interface for interface in found}
    interface = by_name.get(name)
    if interface is None:
        there = ", ".join(by_name) or "none"
        raise PreflightError(f"appliance.interface: {name} does not exist here; there are: {there}")
    if not interface.is_up:
        raise PreflightError(f"interface {name} is down; bring it up: ip link set {name} up")
    if address not in interface.addresses:
        has = ", ".join(str(a) for a in interface.addresses) or "no IPv4 address"
        raise PreflightError(
            f"interface {name} has not the address {address} of appliance.address; it has {has}; "
            f"add it: ip address add {address} dev {name}"
        )
    return interface


def neighbour(address: IPv4Address) -> str:
    """Return the MAC that the kernel last knew for `address`, or an empty text."""
    with IPRoute() as route:
        for message in route.get_neighbours(family=socket.AF_INET, dst=str(address)):
            mac = _attribute(message, "NDA_LLADDR")
            if mac and message["state"] in NUD_USABLE:
                return str(mac)
    return ""


def bound_sockets(interface: Interface, port: int) -> frozenset[int]:
    """Return the inodes of UDP sockets on `port` that are bound to exactly this interface.

    Servers for other interfaces of this computer (libvirt's, say) are no concern of ours. A kernel without
    socket diagnosis (CONFIG_INET_UDP_DIAG) has no answer: then dnsmasq's own bind has the word.
    """
    try:
        with DiagSocket() as diagnosis:
            diagnosis.bind()
            sockets = diagnosis.get_sock_stats(family=socket.AF_INET, protocol=socket.IPPROTO_UDP)
    except (NetlinkError, OSError):
        return frozenset()
    return frozenset(
        entry["idiag_inode"]
        for entry in sockets
        if entry["idiag_sport"] == port and entry["idiag_if"] == interface.index
    )
