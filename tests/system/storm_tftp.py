"""Hundreds of TFTP clients (RFC 1350, RFC 2348) in one process, as a rack of boot ROMs sounds to a server."""

import selectors
import socket
import struct
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.system.pxe_segment import Segment, inside

BLOCK_BYTES = 1400
ASK_AGAIN_SECONDS = 1.0
LIMIT_SECONDS = 60.0
_PORT = 69
_REQUEST, _DATA, _ACK, _OACK = 1, 3, 4, 6
_HEAD = struct.Struct("!HH")


@dataclass(kw_only=True)
class _Transfer:
    """One client: what it has, and the last packet it sent, with whom and when."""

    sock: socket.socket
    last: bytes
    peer: tuple[str, int]
    sent_at: float = 0.0
    blocks: list[bytes] = field(default_factory=list)
    block_bytes: int = 512  # until the server grants more
    done: bool = False

    def send(self) -> None:
        self.sock.sendto(self.last, self.peer)
        self.sent_at = time.monotonic()

    def take(self, packet: bytes, peer: tuple[str, int]) -> None:
        """Take an answer and acknowledge it; a block that came before is acknowledged again."""
        kind, number = _HEAD.unpack_from(packet + b"\0\0")
        assert kind in {_DATA, _OACK}, packet
        self.peer = peer
        if kind == _OACK:
            granted = packet[2:].split(b"\0")
            self.block_bytes = int(granted[granted.index(b"blksize") + 1])
        elif number == (len(self.blocks) + 1) & 0xFFFF:
            self.blocks.append(packet[4:])
            self.done = len(packet) - 4 < self.block_bytes
        self.last = _HEAD.pack(_ACK, len(self.blocks) & 0xFFFF)
        self.send()


def fetch(where: Segment, server: str, name: str, clients: int) -> list[bytes]:
    """Return what each of `clients` got for `name`, all asking in the same moment."""
    options = b"".join(
        word + b"\0" for word in (name.encode(), b"octet", b"blksize", str(BLOCK_BYTES).encode())
    )
    request = struct.pack("!H", _REQUEST) + options
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        transfers = []
        with inside(where.client):
            for _ in range(clients):
                sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                sock.setblocking(False)
                transfers.append(_Transfer(sock=sock, last=request, peer=(server, _PORT)))
        for one in transfers:
            selector.register(one.sock, selectors.EVENT_READ, one)
            one.send()
        _run(selector, transfers)
    return [b"".join(one.blocks) for one in transfers]


def _run(selector: selectors.BaseSelector, transfers: list[_Transfer]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not all(one.done for one in transfers) and time.monotonic() < deadline:
        for key, _ in selector.select(ASK_AGAIN_SECONDS):
            key.data.take(*key.data.sock.recvfrom(2048))
        late = time.monotonic() - ASK_AGAIN_SECONDS
        for one in transfers:
            if not one.done and one.sent_at < late:
                one.send()
