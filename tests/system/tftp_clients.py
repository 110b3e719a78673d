"""TFTP clients as boot ROMs are, by hand: what they ask for, what they never answer to, and whom they listen to."""

import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.system.pxe_segment import SERVER, Segment, inside

PORT = 69
REQUEST, DATA, ACK, ERROR, OACK = 1, 3, 4, 5, 6  # RFC 1350, 5; RFC 2347
PLAIN_BLOCK = 512
SO_NO_CHECK = 11  # asm-generic/socket.h
_HEAD = struct.Struct("!HH")


@dataclass(kw_only=True)
class Rom:
    """One client. `obeys_options`: whether it acknowledges an OACK; `hears`: the one port it listens to, or any.

    `has_checksums`: whether it sends UDP's checksum, which RFC 768 leaves to it.
    """

    options: Mapping[str, int] = field(default_factory=dict)
    obeys_options: bool = True
    hears: int | None = None
    has_checksums: bool = True
    seconds: float = 6.0
    blocks: list[bytes] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    longest: int = 0

    def fetch(self, where: Segment, name: str) -> bytes | None:
        """Return the whole file, or None if it did not come in time; `seen` then holds the kinds of packets."""
        words = [name.encode(), b"octet"]
        for option, value in self.options.items():
            words += [option.encode(), str(value).encode()]
        request = struct.pack("!H", REQUEST) + b"".join(word + b"\0" for word in words)
        with inside(where.client), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.2)
            sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, int(not self.has_checksums))
            sock.sendto(request, (SERVER, PORT))
            deadline = time.monotonic() + self.seconds
            while time.monotonic() < deadline:
                try:
                    packet, peer = sock.recvfrom(65535)
                except TimeoutError:
                    continue
                if self.hears in {None, peer[1]} and self._take(sock, packet, peer):
                    return b"".join(self.blocks)
        return None

    def _take(self, sock: socket.socket, packet: bytes, peer: tuple[str, int]) -> bool:
        """Answer a packet; return whether it was the last of the file."""
        kind, number = _HEAD.unpack_from(packet + b"\0\0")
        self.seen.append(kind)
        if kind == OACK and self.obeys_options:
            sock.sendto(_HEAD.pack(ACK, 0), peer)
        if kind != DATA:
            return False
        size = len(packet) - _HEAD.size
        self.longest = max(self.longest, size)
        if number == (len(self.blocks) + 1) & 0xFFFF:
            self.blocks.append(packet[_HEAD.size :])
        sock.sendto(_HEAD.pack(ACK, len(self.blocks) & 0xFFFF), peer)
        granted = self.options.get("blksize", PLAIN_BLOCK) if OACK in self.seen else PLAIN_BLOCK
        return size < min(granted, self.longest)
