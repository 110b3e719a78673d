"""Reads dnsmasq's log (option log-dhcp): lines in, events out; pure.

dnsmasq 2.90 writes one packet as a run of lines with the packet's transaction id in front: what the machine
said of itself, the message, the tags that matched, the reply, the reply's options. Only the end of the run
makes it whole, and nothing marks that end but what follows, or silence: hence `flush`.
"""

import dataclasses
import re
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import PurePath

from bootstrap.render.firmware import TABLE
from pxe.events import Event, Kind, clean

LONGEST_LINE = 2048  # characters; dnsmasq's own limit is 1,024 bytes (MAX_MESSAGE)
MOST_ADDRESSES = 4096  # addresses whose machine is remembered, for TFTP, which knows no MAC
MOST_MESSAGES = 8  # in one packet; there are two
IPXE, UNKNOWN = "ipxe", "unknown-firmware"  # tags of configs/dnsmasq

_LINE = re.compile(r"dnsmasq(?:-(?P<part>dhcp|tftp))?\[\d+\]: (?P<text>.*)")
_ROUTINE = re.compile(r"dnsmasq-dhcp\[\d+\]: \d+ ")
_NOISE = re.compile(
    r"dnsmasq-dhcp\[\d+\]: \d+ (?:requested options:|next server:|sent size: *\d+ option: *(?!67 )\d+ )"
)
_PACKET = re.compile(r"(?P<xid>\d+) (?P<text>.*)")
_MAC = r"(?P<mac>[0-9a-f]{2}(?::[0-9a-f]{2}){5})"
_MESSAGE = re.compile(
    rf"(?:DHCP|(?=PXE))(?P<name>[A-Z]+)\([^)]*\) (?:(?P<address>[\d.]+) )?{_MAC} ?(?P<tail>.*)"
)
_ARCH_CLASS = re.compile(r"(?:PXE|HTTP)Client:Arch:(\d{5})\b")
_FACT = re.compile(r"(?P<what>vendor class|user class|tags): (?P<text>.*)")
_BOOT_FILE = re.compile(r"(?:bootfile name: |sent size: *\d+ option: *67 bootfile-name +)(?P<file>.*)")
_STARTED = re.compile(r"started, version (?P<version>\S+)")
_ADDRESS = r"(?P<address>[\d.]+)$"
_TFTP = (
    (Kind.TFTP_SENT, re.compile(rf"sent (?P<file>.*) to {_ADDRESS}"), "{file}"),
    (Kind.TFTP_NOT_FOUND, re.compile(rf"file (?P<file>.*) not found for {_ADDRESS}"), "{file} is not there"),
    (Kind.TFTP_FAILED, re.compile(rf"failed sending (?P<file>.*) to {_ADDRESS}"), "{file} was cut off"),
)
# A line of its own just before "failed sending": what the machine gave as its reason.
_TFTP_ERROR = re.compile(rf"error \d+ (?P<text>.*) received from {_ADDRESS}")
_KINDS = {
    **{kind.value.upper(): kind for kind in Kind},
    "PXE": Kind.OFFER,  # proxy mode: another server gives the address, we add the boot answer
}
_IGNORED = "proxy-ignored"  # proxy mode: heard, and answered with nothing
_HIGHEST_ARCH = 0xFFFF


@dataclass(kw_only=True)
class _Packet:
    """What is known so far of the packet whose lines are coming."""

    xid: str
    said: dict[str, str] = field(default_factory=dict)  # by dnsmasq's words: vendor class, user class, tags
    boot_file: str = ""
    messages: list[tuple[Kind, str, str, str]] = field(default_factory=list)  # kind, address, mac, tail


class LogReader:
    """Turns the lines of one dnsmasq, in order, into events; `root` is its TFTP folder."""

    def __init__(self, root: PurePath | None = None) -> None:
        self._root = f"{root}/" if root else ""
        self._packet: _Packet | None = None
        self._reason = ""
        self._macs: OrderedDict[str, str] = OrderedDict()

    def feed(self, line: str) -> tuple[Event, ...]:
        """Return the events that `line` completes; one that says nothing to us gives none."""
        match = _LINE.match(line[:LONGEST_LINE])
        if match is None:
            return ()
        if match["part"] == "dhcp" and (packet := _PACKET.match(match["text"])):
            return self._feed_packet(packet["xid"], packet["text"])
        return self.flush() + (self._feed_tftp(match["text"]) if match["part"] == "tftp" else ())

    def flush(self) -> tuple[Event, ...]:
        """Return the events of the packet read so far: nothing followed for a moment, so it is whole."""
        packet, self._packet = self._packet, None
        if packet is None:
            return ()
        for kind, address, mac, _ in packet.messages:
            if kind is Kind.ACK and address:
                self._remember(address, mac)
        events = [_event(packet, *message) for message in packet.messages]
        return tuple(
            dataclasses.replace(event, firmware="") if number else event
            for number, event in enumerate(events)
        )

    def mac_at(self, address: str) -> str:
        """Return the machine that was last seen to get `address`, or an empty text."""
        return self._macs.get(address, "")

    @property
    def is_waiting(self) -> bool:
        """Return whether a packet has begun that `flush` would end."""
        return self._packet is not None

    def _feed_packet(self, xid: str, text: str) -> tuple[Event, ...]:
        begins = (
            text.startswith("available DHCP ") and self._packet is not None and bool(self._packet.messages)
        )
        done = self.flush() if begins or (self._packet is not None and self._packet.xid != xid) else ()
        packet = self._packet = self._packet or _Packet(xid=xid)
        if match := _MESSAGE.match(text):
            self._add_message(packet, match)
        elif match := _BOOT_FILE.match(text):
            packet.boot_file = match["file"]
        elif match := _FACT.match(text):
            packet.said[match["what"]] = match["text"]
        return done

    @staticmethod
    def _add_message(packet: _Packet, match: re.Match[str]) -> None:
        kind = _KINDS.get(match["name"])
        if match["tail"].startswith(_IGNORED):
            kind = Kind.DISCOVER
        if kind is not None and len(packet.messages) < MOST_MESSAGES:
            packet.messages.append((kind, match["address"] or "", match["mac"], match["tail"]))

    def _feed_tftp(self, text: str) -> tuple[Event, ...]:
        reason, self._reason = self._reason, ""
        if error := _TFTP_ERROR.match(text):
            self._reason = f", the machine said: {error['text']}"
        for kind, pattern, form in _TFTP:
            if match := pattern.match(text):
                address = match["address"]
                detail = clean(form.format(file=match["file"].removeprefix(self._root)) + reason)
                return (Event(mac=self._macs.get(address, ""), kind=kind, detail=detail, address=address),)
        return ()

    def _remember(self, address: str, mac: str) -> None:
        self._macs[address] = mac
        self._macs.move_to_end(address)
        if len(self._macs) > MOST_ADDRESSES:
            self._macs.popitem(last=False)


def version_started(line: str) -> str | None:
    """Return the version that dnsmasq names once its sockets are open and it serves, else None."""
    match = _LINE.match(line[:LONGEST_LINE]) if "started" in line else None
    started = _STARTED.match(match["text"]) if match and match["part"] is None else None
    return started["version"] if started else None


def is_noise(line: str) -> bool:
    """Return whether `line` lists options that we do not read: two lines of three, 20,000 a second in a storm."""
    return _NOISE.match(line) is not None


def is_routine(line: str) -> bool:
    """Return whether `line` only describes a packet, which the events tell better."""
    return _ROUTINE.match(line) is not None


def arch_of(vendor_class: str, tags: Collection[str]) -> int | None:
    """Return the client architecture (option 93, RFC 4578).

    dnsmasq logs no option 93: it is in option 60's text, or a tag names the table's row, whose first
    code then stands for it.
    """
    if found := _ARCH_CLASS.match(vendor_class):
        arch = int(found[1])
        return arch if arch <= _HIGHEST_ARCH else None
    return next((row.archs[0] for row in TABLE if row.name in tags), None)


def firmware_of(tags: Collection[str]) -> str:
    """Return what dnsmasq.conf took the machine for: ipxe, a row of the table, unknown-firmware, or nothing."""
    names = (IPXE, *(row.name for row in TABLE), UNKNOWN)
    return next((name for name in names if name in tags), "")


def _event(packet: _Packet, kind: Kind, address: str, mac: str, tail: str) -> Event:
    said = (address, *_words(packet, kind), tail if tail != packet.boot_file else "")
    detail = clean(", ".join(word for word in said if word))
    tags = packet.said.get("tags", "").split(", ")
    return Event(
        mac=mac,
        kind=kind,
        detail=detail,
        arch=arch_of(packet.said.get("vendor class", ""), tags),
        address=address,
        firmware=firmware_of(tags),
    )


def _words(packet: _Packet, kind: Kind) -> tuple[str, ...]:
    match kind:
        case Kind.DISCOVER | Kind.REQUEST:
            user_class = packet.said.get("user class", "")
            return (packet.said.get("vendor class", ""), user_class and f"user class {user_class}")
        case Kind.OFFER | Kind.ACK:
            return (packet.boot_file and f"boot file {packet.boot_file}",)
        case _:
            return ()
