"""TFTP as it looks on the wire (RFC 1350, RFC 2347): frames in, what became of a transfer out; pure.

Only what the program in `TAP` lets through is looked at: requests, OACKs and the first answer to one, errors, and the
whole of the transfers that are not dnsmasq's.
"""

import struct
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from pxe import bpf
from pxe.bpf import Instruction
from pxe.packets import ETHERTYPE_IPV4, PROTOCOL_UDP

PORT = 69
OWN_PORTS = (24_000, 24_999)
"""First and last port from which transfers come that are not dnsmasq's."""
REQUEST, DATA, ACK, ERROR, OACK = 1, 3, 4, 5, 6
PLAIN_BLOCK = 512
MOST_TRANSFERS = 4096  # that are remembered: anyone may ask, under any address
UNHEARD = 3  # OACKs to one port without an answer: dnsmasq sends the third some 5 s after the request
HEARD_SECONDS = (
    60.0  # who has acknowledged an OACK not longer ago is not deaf, only slow, as all are in a storm
)

_ETHERNET, _UDP, _TFTP = struct.Struct("!6s6sH"), struct.Struct("!HHHH"), struct.Struct("!HH")
_IP, _FRAGMENT_BITS = 14, 0x1FFF
_DROP, _KEEP = 21, 22  # the numbers of the last two instructions


def _to(target: int, at: int) -> int:
    return target - at - 1


def _tap() -> Sequence[Instruction]:
    """Return the program for the kernel; a packet that is too short for it is dropped."""
    low, high = OWN_PORTS

    def is_own(place: int, at: int) -> list[Instruction]:
        return [
            (bpf.LDH_X, 0, 0, _IP + place),
            (bpf.JEQ, _to(_KEEP, at + 1), 0, PORT),
            (bpf.JGE, 0, 1, low),
            (bpf.JGT, 0, _to(_KEEP, at + 3), high),
        ]

    return (
        (bpf.LDH, 0, 0, 12),  # the EtherType
        (bpf.JEQ, 0, _to(_DROP, 1), ETHERTYPE_IPV4),
        (bpf.LDB, 0, 0, _IP + 9),
        (bpf.JEQ, 0, _to(_DROP, 3), PROTOCOL_UDP),
        (bpf.LDH, 0, 0, _IP + 6),  # only the first fragment has a header
        (bpf.JSET, _to(_DROP, 5), 0, _FRAGMENT_BITS),
        (bpf.LDX_IP_HEADER, 0, 0, _IP),
        *is_own(0, 7),  # the port it comes from
        *is_own(2, 11),  # the port it goes to
        (bpf.LDH_X, 0, 0, _IP + 8),  # what kind of packet it would be if it is TFTP
        (bpf.JEQ, _to(_KEEP, 16), 0, OACK),
        (bpf.JEQ, _to(_KEEP, 17), 0, ERROR),
        (bpf.JEQ, 0, _to(_DROP, 18), ACK),
        (bpf.LDH_X, 0, 0, _IP + 10),
        (bpf.JEQ, _to(_KEEP, 20), 0, 0),  # block 0: the answer to an OACK
        (bpf.RETURN, 0, 0, 0),
        (bpf.RETURN, 0, 0, bpf.LONGEST_FRAME),
    )


TAP = _tap()


@dataclass(frozen=True, kw_only=True)
class Packet:
    """One packet between us and a machine: `mac` and `address` are its, `tid` its port, `size` the bytes of a block.

    Behind a router `mac` is the router's.
    """

    mac: str
    address: IPv4Address
    tid: int
    is_ours: bool
    kind: int
    number: int
    size: int
    file: str = ""


def packet_in(frame: bytes, own: IPv4Address) -> Packet | None:
    """Return the TFTP packet from or to `own` that `frame` holds, or None."""
    try:
        return _packet_in(frame, own)
    except (struct.error, IndexError, ValueError):
        return None


def _packet_in(frame: bytes, own: IPv4Address) -> Packet | None:
    target, source, ethertype = _ETHERNET.unpack_from(frame)
    if ethertype != ETHERTYPE_IPV4 or frame[_IP + 9] != PROTOCOL_UDP:
        return None
    begin = _IP + (frame[_IP] & 0x0F) * 4
    ports = _UDP.unpack_from(frame, begin)
    ends = (IPv4Address(frame[_IP + 12 : _IP + 16]), IPv4Address(frame[_IP + 16 : _IP + 20]))
    is_ours = ends[0] == own
    if not is_ours and ends[1] != own:
        return None
    text = frame[begin + _UDP.size : begin + ports[2]]  # a short frame is filled up to 60 bytes
    kind, number = _TFTP.unpack_from(text)
    return Packet(
        mac=(target if is_ours else source).hex(":"),
        address=ends[1] if is_ours else ends[0],
        tid=ports[1] if is_ours else ports[0],
        is_ours=is_ours,
        kind=kind,
        number=number,
        size=len(text) - _TFTP.size,
        file=text[2:].partition(b"\0")[0].decode("ascii", "replace") if kind == REQUEST else "",
    )


@dataclass(kw_only=True)
class _Transfer:
    """What is known of one: its file, how many OACKs were sent, the largest block, the number of the last."""

    file: str
    oacks: int = 0
    largest: int = PLAIN_BLOCK
    last: int | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What became of a transfer: it was sent to the end, or else its OACKs went unheard; `packet` is what showed it."""

    packet: Packet
    file: str
    is_sent: bool


class Transfers:
    """Remembers the transfers under way, the newest `most` of them."""

    def __init__(self, most: int = MOST_TRANSFERS) -> None:
        self._most = most
        self._open: OrderedDict[tuple[IPv4Address, int], _Transfer] = OrderedDict()
        self._heard: OrderedDict[IPv4Address, float] = OrderedDict()  # an OACK, and when

    def take(self, packet: Packet, now: float) -> Finding | None:
        """Take a packet, `now` in seconds; return what it shows, once for each transfer."""
        key = (packet.address, packet.tid)
        if packet.kind == REQUEST and not packet.is_ours:
            self._begin(key, packet.file)
            return None
        transfer = self._open.get(key)
        if transfer is None:
            return None
        if packet.is_ours:
            return self._sent_by_us(transfer, packet, now)
        if transfer.oacks and packet.kind == ACK:
            self._hears(packet.address, now)
        return self._answered(key, transfer, packet)

    def _begin(self, key: tuple[IPv4Address, int], file: str) -> None:
        before = self._open.pop(key, None)  # asked again from the same port: the OACKs of before still count
        self._open[key] = before if before and before.file == file else _Transfer(file=file)
        if len(self._open) > self._most:
            self._open.popitem(last=False)

    def _answered(self, key: tuple[IPv4Address, int], transfer: _Transfer, packet: Packet) -> Finding | None:
        if packet.kind == ERROR:
            del self._open[key]
            return None
        if packet.kind == ACK and packet.number == transfer.last:
            del self._open[key]
            return Finding(packet=packet, file=transfer.file, is_sent=True)
        return None

    def _sent_by_us(self, transfer: _Transfer, packet: Packet, now: float) -> Finding | None:
        if packet.kind == DATA:
            transfer.last = packet.number if packet.size < transfer.largest else None
            transfer.largest = max(transfer.largest, packet.size)
        if packet.kind == OACK:
            transfer.oacks += 1
            is_deaf = now - self._heard.get(packet.address, -HEARD_SECONDS) >= HEARD_SECONDS
            if transfer.oacks == UNHEARD and is_deaf:
                return Finding(packet=packet, file=transfer.file, is_sent=False)
        return None

    def _hears(self, address: IPv4Address, now: float) -> None:
        self._heard.pop(address, None)
        self._heard[address] = now
        if len(self._heard) > self._most:
            self._heard.popitem(last=False)
