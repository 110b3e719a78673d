"""Says on the rack's network that there is no IPv6 router: iPXE waits 16 seconds for one at every boot.

It answers a router solicitation with an advertisement of lifetime 0 and no prefix: "no default router, no address from
me" (RFC 4861, section 4.2). Nobody gets an IPv6 address by it. It runs as a process of its own in the rack's namespace
and ends with it.
"""

import contextlib
import socket
import struct
import sys
from ipaddress import IPv6Address

from bootstrap.lab.daemon import to_background

ETHERTYPE_IPV6 = 0x86DD
ICMPV6 = 58
SOLICITATION = 133
ADVERTISEMENT = 134
UNSPECIFIED = bytes(16)
ALL_NODES = IPv6Address("ff02::1").packed
ALL_NODES_MAC = bytes.fromhex("333300000001")
HOP_LIMIT = 255  # anything less has come through a router, and is to be dropped (RFC 4861, section 6.1)

ETHERNET_BYTES = 14
HEADERS_BYTES = ETHERNET_BYTES + 40
LONGEST_FRAME = 2048


def answer(frame: bytes, mac: bytes) -> bytes | None:
    """Return the Ethernet frame that answers `frame`, from `mac` (6 bytes); None if it is no router solicitation."""
    if len(frame) <= HEADERS_BYTES or frame[12:14] != ETHERTYPE_IPV6.to_bytes(2, "big"):
        return None
    next_header, hop_limit = frame[ETHERNET_BYTES + 6], frame[ETHERNET_BYTES + 7]
    if (next_header, hop_limit, frame[HEADERS_BYTES]) != (ICMPV6, HOP_LIMIT, SOLICITATION):
        return None
    # To the asker alone, by both addresses: iPXE drops what is for all nodes and comes in a frame for it alone.
    asker, card = frame[ETHERNET_BYTES + 8 : ETHERNET_BYTES + 24], frame[6:12]
    if asker == UNSPECIFIED:
        asker, card = ALL_NODES, ALL_NODES_MAC
    source = link_local(mac)
    message = advertisement(source, asker)
    header = struct.pack("!IHBB", 6 << 28, len(message), ICMPV6, HOP_LIMIT) + source + asker
    return card + mac + ETHERTYPE_IPV6.to_bytes(2, "big") + header + message


def advertisement(source: bytes, asker: bytes) -> bytes:
    """Return the ICMPv6 message from one packed address to another: no flags, lifetime 0, no option."""
    body = struct.pack("!BBHBBHII", ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0)
    pseudo_header = source + asker + struct.pack("!II", len(body), ICMPV6)
    return body[:2] + struct.pack("!H", checksum(pseudo_header + body)) + body[4:]


def checksum(content: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(content) // 2}H", content))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def link_local(mac: bytes) -> bytes:
    """Return the link-local address that follows from a MAC address (RFC 4291, appendix A), packed."""
    return bytes.fromhex("fe80000000000000") + bytes((mac[0] ^ 2, *mac[1:3], 0xFF, 0xFE, *mac[3:]))


def main(interface: str, pid_file: str) -> None:
    """Go to the background, as QEMU does, and answer on `interface` until SIGTERM; the pid is in `pid_file` by then."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE_IPV6)) as wire:
        wire.bind((interface, ETHERTYPE_IPV6))
        if not to_background(pid_file):
            return
        serve(wire)


def serve(wire: socket.socket) -> None:
    """Answer what is heard on `wire`, until its interface goes down; the next `lab up` starts us again."""
    mac = wire.getsockname()[4]
    while True:
        said = answer(wire.recv(LONGEST_FRAME), mac)
        if said is not None:
            with contextlib.suppress(OSError):  # the bridge is down: who asked will ask again
                wire.send(said)


if __name__ == "__main__":
    main(*sys.argv[1:])
