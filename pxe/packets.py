"""A DHCP question and its answers as bytes (RFC 2131, options of RFC 2132 and 4578); pure.

The question must be able to say option 93, which the DHCP message of pyroute2 has no room for.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

BROADCAST = b"\xff" * 6
ETHERTYPE_IPV4 = 0x0800
PROTOCOL_UDP = 17
SERVER_PORT, CLIENT_PORT = 67, 68
BOOTREQUEST, BOOTREPLY = 1, 2
FLAG_BROADCAST = 0x8000  # the asker has no address, and its MAC is not the interface's: answer to all
MAGIC = b"\x63\x82\x53\x63"
DISCOVER = 1
PAD, END = 0, 255
HOST_NAME, MESSAGE_TYPE, SERVER_ID = 12, 53, 54
_ETHERNET = struct.Struct("!6s6sH")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_BOOTP = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")

_WANTED = bytes((1, 3, 6, 15, 43, 54, 60, 66, 67))
PLAIN: Mapping[int, bytes] = {MESSAGE_TYPE: bytes((DISCOVER,)), 55: _WANTED}
PXE_CLIENT: Mapping[int, bytes] = {
    **PLAIN,
    60: b"PXEClient:Arch:00007:UNDI:003016",
    93: b"\x00\x07",  # x64 UEFI
    94: b"\x01\x03\x10",  # UNDI 3.16
    97: b"\x00" + bytes(16),  # some proxies ignore PXE clients that have no UUID
}


@dataclass(frozen=True, order=True)
class Answer:
    """What a DHCP server said to a DISCOVER: its address (option 54, else the packet's source) and its MAC.

    `offered` is the address it would give; a proxyDHCP server offers none.
    """

    server: IPv4Address
    mac: str
    offered: IPv4Address | None

    def __str__(self) -> str:
        """Return who answered and with what, for people."""
        what = f"offers {self.offered}" if self.offered else "is a proxyDHCP server"
        return f"{self.server} (MAC {self.mac}), which {what}"


def discover(mac: bytes, xid: int, options: Mapping[int, bytes]) -> bytes:
    """Return an Ethernet frame with a broadcast DHCPDISCOVER from `mac` (6 bytes) with these options."""
    packed = b"".join(bytes((code, len(value))) + value for code, value in options.items())
    bootp = _BOOTP.pack(
        BOOTREQUEST, 1, 6, 0, xid, 0, FLAG_BROADCAST, *[bytes(4)] * 4, mac, bytes(64), bytes(128), MAGIC
    )
    payload = bootp + packed + bytes((END,))
    udp = _UDP.pack(CLIENT_PORT, SERVER_PORT, _UDP.size + len(payload), 0)  # 0: no checksum (RFC 768)
    return _ETHERNET.pack(BROADCAST, mac, ETHERTYPE_IPV4) + _ipv4(len(udp) + len(payload)) + udp + payload


def _ipv4(length: int) -> bytes:
    fields = (0x45, 0, _IPV4.size + length, 0, 0, 64, PROTOCOL_UDP)
    blank = _IPV4.pack(*fields, 0, bytes(4), b"\xff" * 4)
    return _IPV4.pack(*fields, _checksum(blank), bytes(4), b"\xff" * 4)


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def answer_in(frame: bytes, xid: int) -> Answer | None:
    """Return the DHCP server's answer to question `xid` that `frame` holds, or None if it holds none."""
    try:
        return _answer_in(frame, xid)
    except (struct.error, IndexError):
        return None


def _answer_in(frame: bytes, xid: int) -> Answer | None:
    _, source_mac, kind = _ETHERNET.unpack_from(frame)
    ip = memoryview(frame)[_ETHERNET.size :]
    header = (ip[0] & 0x0F) * 4
    if kind != ETHERTYPE_IPV4 or ip[9] != PROTOCOL_UDP:
        return None
    _, port, _, _ = _UDP.unpack_from(ip, header)
    start = header + _UDP.size
    fields = _BOOTP.unpack_from(ip, start)
    if port != CLIENT_PORT or fields[0] != BOOTREPLY or fields[4] != xid or fields[-1] != MAGIC:
        return None
    options = dict(_options(bytes(ip[start + _BOOTP.size :])))
    server = options.get(SERVER_ID, b"")
    offered = IPv4Address(fields[8])
    return Answer(
        IPv4Address(server) if len(server) == 4 else IPv4Address(bytes(ip[12:16])),  # noqa: PLR2004  # an address
        source_mac.hex(":"),
        offered if int(offered) else None,
    )


def _options(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data) and data[position] != END:
        if data[position] == PAD:
            position += 1
            continue
        length = data[position + 1]
        yield data[position], data[position + 2 : position + 2 + length]
        position += 2 + length
