"""Attackers as a process of their own: `python -m tests.system.hostile_flood loris|macs ...` prints its counts."""

import contextlib
import json
import random
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.unit.hostile.packets import COOKIE, discover, frame

SERVER, PORT = "10.77.0.1", 8080
TICK_SECONDS = 0.01
CONNECTIONS = 16
PIPELINED = 25


@dataclass
class Counts:
    """What the attackers did."""

    done: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, count: int = 1) -> None:
        """Count something."""
        self.done[what] = self.done.get(what, 0) + count


def loris(seconds: float, drippers: int, readers: int, path: str) -> Counts:
    """Hold connections: some send a byte of a header now and then, some read a byte of a big file now and then."""
    counts, until = Counts(), time.monotonic() + seconds
    held: list[tuple[socket.socket, bool]] = []
    while time.monotonic() < until:
        while len(held) < drippers + readers:
            is_reader = sum(reads for _, reads in held) < readers
            if (made := _hold(path if is_reader else None)) is None:
                break
            held.append((made, is_reader))
            counts.add("connections")
        held = [(wire, reads) for wire, reads in held if _keep(wire, counts, reads=reads)]
        counts.done["most held"] = max(counts.done.get("most held", 0), len(held))
        time.sleep(1.0)
    for wire, _ in held:
        wire.close()
    return counts


def _hold(path: str | None) -> socket.socket | None:
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    wire.settimeout(2)
    try:
        wire.connect((SERVER, PORT))
        start = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n" if path else "GET /ipxe HTTP/1.1\r\nHost: x\r\nX-"
        wire.sendall(start.encode())
    except OSError:
        wire.close()
        return None
    wire.setblocking(False)
    return wire


def _keep(wire: socket.socket, counts: Counts, *, reads: bool) -> bool:
    """Send or read one byte; return whether the server still holds the connection."""
    try:
        is_open = wire.recv(1) != b"" if reads else wire.send(b"a") == 1
    except BlockingIOError:
        return True
    except OSError:
        is_open = False
    if not is_open:
        wire.close()
        counts.add("cut off")
    return is_open


def macs(seconds: float, per_second: int, seed: int) -> Counts:
    """Make up machines: each sends a DISCOVER and asks for its script; some ask for addresses, others' as well."""
    counts, dice = Counts(), random.Random(seed)
    until = time.monotonic() + seconds
    web = _Web(counts)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("cli0", 0))
        began, sent = time.monotonic(), 0
        while (now := time.monotonic()) < until:
            due = int((now - began) * per_second)
            more = min(due - sent, 100)
            for _ in range(more):
                mac = b"\x52\x54\x00" + dice.randbytes(3)
                _send(raw, discover_of(mac, dice), counts, "DISCOVER")
                if dice.random() < 0.1:  # a part of them, so that the pool runs out
                    _send(raw, request_of(mac, dice), counts, "REQUEST")
                web.ask(mac)
            sent += more
            web.turn(0 if due > sent else TICK_SECONDS)
    return counts


def _send(raw: socket.socket, packet: bytes, counts: Counts, what: str) -> None:
    with contextlib.suppress(OSError):  # a full queue of the card drops, as a real one does
        raw.send(packet)
        counts.add(what)


def discover_of(mac: bytes, dice: random.Random) -> bytes:
    """Return the frame of an honest DISCOVER."""
    return frame(mac, discover(mac, dice))


def request_of(mac: bytes, dice: random.Random) -> bytes:
    """Return the frame of a REQUEST for any address, the reserved ones of listed machines included."""
    payload = bytearray(discover(mac, dice)[:236])
    wanted = bytes([10, 77, 0, dice.choice((dice.randrange(101, 121), dice.randrange(150, 200)))])
    payload += COOKIE + b"\x35\x01\x03\x32\x04" + wanted + b"\x36\x04" + bytes([10, 77, 0, 1]) + b"\xff"
    return frame(mac, bytes(payload))


class _Web:
    """A few connections on which requests are sent without waiting for the answers."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._selector = selectors.DefaultSelector()
        self._open: list[socket.socket] = []
        self._next = 0
        self._waiting: list[bytes] = []

    def ask(self, mac: bytes) -> None:
        """Ask for the script of `mac`; while the server does not keep up, what is too much is not sent."""
        text = mac.hex("-")
        self._waiting.append(f"GET /ipxe?mac={text}&platform=pcbios HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        del self._waiting[: -CONNECTIONS * PIPELINED]

    def turn(self, seconds: float) -> None:
        """Read what came, and send what waits."""
        while len(self._open) < CONNECTIONS and self._connect():
            pass
        for key, _ in self._selector.select(seconds):
            self._read(key.fileobj)  # type: ignore[arg-type]
        for wire in list(self._open):
            batch = self._waiting[:PIPELINED]
            if batch and self._attempt(wire, lambda wire=wire, batch=batch: wire.send(b"".join(batch))):  # type: ignore[misc]
                self._counts.add("asked", len(batch))
                del self._waiting[:PIPELINED]

    def _connect(self) -> bool:
        wire = socket.socket()
        wire.settimeout(1)
        try:
            wire.connect((SERVER, PORT))
        except OSError:
            wire.close()
            return False
        wire.setblocking(False)
        self._open.append(wire)
        self._selector.register(wire, selectors.EVENT_READ)
        return True

    def _read(self, wire: socket.socket) -> None:
        answers = b""

        def receive() -> bool:
            nonlocal answers
            answers = wire.recv(1 << 16)
            return answers != b""

        if not self._attempt(wire, receive):
            return
        self._counts.add("answered 200", answers.count(b"HTTP/1.1 200"))
        self._counts.add("answered otherwise", answers.count(b"HTTP/1.1 ") - answers.count(b"HTTP/1.1 200"))

    def _attempt(self, wire: socket.socket, action: Callable[[], object]) -> bool:
        """Do it; a connection that is gone is forgotten (nginx ends each after 1,000 requests)."""
        try:
            if action():
                return True
        except BlockingIOError:
            return False
        except OSError:
            pass
        self._selector.unregister(wire)
        self._open.remove(wire)
        wire.close()
        return False


@dataclass
class Dhcp:
    """A machine's own side of DHCP on a raw socket, which skips the answers for all others quickly."""

    raw: socket.socket
    mac: bytes

    def lease(self, seconds: float, dice: random.Random) -> str | None:
        """Return the address that this machine gets, asking again and again for so long; None if it gets none."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            xid = dice.getrandbits(32)
            self.raw.send(frame(self.mac, self._message(xid, b"\x35\x01\x01")))
            if (offer := self._answer(xid, 2, 1.0)) is None:
                continue
            wanted = b"\x35\x01\x03\x32\x04" + offer + b"\x36\x04" + bytes([10, 77, 0, 1])
            self.raw.send(frame(self.mac, self._message(xid, wanted)))
            if (address := self._answer(xid, 5, 1.0)) is not None:
                return socket.inet_ntoa(address)
        return None

    def _message(self, xid: int, options: bytes) -> bytes:
        fixed = struct.pack(">4BIHH", 1, 1, 6, 0, xid, 0, 0x8000) + bytes(16)
        return fixed + self.mac + bytes(10) + bytes(192) + COOKIE + options + b"\xff"

    def _answer(self, xid: int, kind: int, seconds: float) -> bytes | None:
        until, wanted = time.monotonic() + seconds, struct.pack(">I", xid)
        while (left := until - time.monotonic()) > 0:
            self.raw.settimeout(left)
            try:
                data = self.raw.recv(2048)
            except TimeoutError:
                return None
            if data[46:50] == wanted and data[42] == 2 and data[278:285].find(bytes([0x35, 1, kind])) >= 0:
                return data[58:62]
        return None


def main() -> None:
    """Run one kind of attack."""
    kind, seconds, *rest = sys.argv[1:]
    if kind == "loris":
        counts = loris(float(seconds), int(rest[0]), int(rest[1]), rest[2])
    else:
        counts = macs(float(seconds), int(rest[0]), int(rest[1]))
    print(json.dumps(counts.done))  # noqa: T201  # the result


if __name__ == "__main__":
    main()
