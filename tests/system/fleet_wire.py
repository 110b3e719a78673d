"""What the firmware and iPXE of a simulated machine say on the wire: DHCP and TFTP, from raw bytes."""

import queue
import random
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

BROADCAST = ("255.255.255.255", 67)
MAGIC = b"\x63\x82\x53\x63"
DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6
SERVER_ID, ASKED_ADDRESS, ASKED_OPTIONS, MESSAGE, VENDOR_CLASS, BOOT_FILE, USER_CLASS, ARCH = (
    54,
    50,
    55,
    53,
    60,
    67,
    77,
    93,
)
BLOCK_BYTES = 1024
TRIES = 6


class NoAnswer(OSError):  # noqa: N818  # reads as a sentence where it is raised
    """Nobody answered in time."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """What an ACK gave: the address, the server's, and the file to boot."""

    address: str
    server: str
    boot_file: str


@dataclass(frozen=True)
class Firmware:
    """Who asks: the card's address, option 93, and option 77 (of iPXE; else empty)."""

    mac: str
    arch: int
    user_class: bytes

    def packet(self, message: int, more: Sequence[tuple[int, bytes]]) -> bytes:
        """Return a DHCP message with transaction id 0 that wants its answer by broadcast (RFC 2131, 4578)."""
        options = [(MESSAGE, bytes([message])), (ARCH, struct.pack(">H", self.arch)), *more]
        vendor = f"PXEClient:Arch:{self.arch:05d}:UNDI:003016".encode()
        options += [(VENDOR_CLASS, vendor), (ASKED_OPTIONS, bytes([1, 3, 66, 67]))]
        options += [(USER_CLASS, self.user_class)] if self.user_class else []
        head = struct.pack(">BBBBIHH", 1, 1, 6, 0, 0, 0, 0x8000)
        body = bytes(16) + bytes.fromhex(self.mac.replace(":", "")) + bytes(10 + 64 + 128) + MAGIC
        return head + body + b"".join(bytes([code, len(value)]) + value for code, value in options) + b"\xff"


class Card:
    """The network cards of all machines: one socket, answers told apart by their transaction id."""

    def __init__(self, interface: str) -> None:
        """Open the socket in the network namespace of the calling thread."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind(("0.0.0.0", 68))
        self._socket.settimeout(0.5)
        self._waiting: dict[int, queue.SimpleQueue[bytes]] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read, name="dhcp")
        self._thread.start()

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()
        self._socket.close()

    def lease(self, firmware: Firmware, dice: random.Random) -> Lease:
        """Return what DHCP gives; raises NoAnswer when each of a few packets met silence or a refusal."""
        for again in range(TRIES):
            offer = self._exchange(firmware.packet(DISCOVER, ()), dice, seconds=1.0 + again)
            if offer is None:
                continue
            wanted = ((ASKED_ADDRESS, offer[0]), (SERVER_ID, offer[1][SERVER_ID]))
            ack = self._exchange(firmware.packet(REQUEST, wanted), dice, seconds=1.0 + again)
            if ack is not None and ack[1][MESSAGE] == bytes([ACK]):
                return _lease(*ack)
        raise NoAnswer(f"no DHCP server answered {firmware.mac}")

    def _exchange(
        self, packet: bytes, dice: random.Random, seconds: float
    ) -> tuple[bytes, dict[int, bytes]] | None:
        xid = dice.getrandbits(32)
        answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._waiting[xid] = answers
        try:
            self._socket.sendto(packet[:4] + struct.pack(">I", xid) + packet[8:], BROADCAST)
            return _parsed(answers.get(timeout=seconds))
        except (queue.Empty, OSError):
            return None
        finally:
            del self._waiting[xid]

    def _read(self) -> None:
        while not self._is_over.is_set():
            try:
                packet = self._socket.recv(2048)
            except OSError:
                continue
            if len(packet) > 240 and packet[0] == 2:
                waiting = self._waiting.get(struct.unpack_from(">I", packet, 4)[0])
                if waiting is not None:
                    waiting.put(packet)


def _parsed(packet: bytes) -> tuple[bytes, dict[int, bytes]]:
    options: dict[int, bytes] = {}
    at = 240
    while at < len(packet) and packet[at] != 255:
        if packet[at]:
            options[packet[at]] = packet[at + 2 : at + 2 + packet[at + 1]]
        at += 2 + packet[at + 1] if packet[at] else 1
    options.setdefault(BOOT_FILE, packet[108:236].split(b"\0")[0])
    return packet[16:20], options


def _lease(address: bytes, options: dict[int, bytes]) -> Lease:
    return Lease(
        address=str(IPv4Address(address)),
        server=str(IPv4Address(options[SERVER_ID])),
        boot_file=options[BOOT_FILE].rstrip(b"\0").decode(),
    )


def tftp(server: str, name: str, address: str) -> bytes:
    """Return a file fetched from `address` (RFC 1350, 2348); raises OSError when the transfer breaks off."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        sock.settimeout(1.0)
        request = b"\0\x01" + name.encode() + b"\0octet\0blksize\0" + str(BLOCK_BYTES).encode() + b"\0"
        packet, peer = _asked(sock, request, (server, 69), lambda op, _: op in (3, 6))
        content = b""
        number = 0
        while True:
            if packet[1] == 3:
                content += packet[4:]
                if len(packet) < 4 + BLOCK_BYTES:
                    sock.sendto(b"\0\x04" + packet[2:4], peer)
                    return content
            wanted = number = (number + 1) & 0xFFFF
            acknowledge = b"\0\x04" + struct.pack(">H", wanted - 1)
            packet, peer = _asked(
                sock, acknowledge, peer, lambda op, n, wanted=wanted: (op, n) == (3, wanted)
            )


def _asked(
    sock: socket.socket, packet: bytes, peer: tuple[str, int], fits: object
) -> tuple[bytes, tuple[str, int]]:
    assert callable(fits)
    for _ in range(TRIES):
        sock.sendto(packet, peer)
        try:
            while True:
                answer, sender = sock.recvfrom(2048)
                op, number = struct.unpack_from(">HH", answer)
                if op == 5:
                    raise NoAnswer(f"TFTP error: {answer[4:-1]!r}")
                if fits(op, number):
                    return answer, sender
        except TimeoutError:
            continue
    raise NoAnswer(f"TFTP: {peer} went silent")
