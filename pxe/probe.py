"""Is there another DHCP server on the segment? Two of them give one address to two machines."""

import secrets
import select
import socket
import struct
import time
from collections.abc import Collection, Iterable

from bootstrap.errors import PreflightError
from pxe import packets, ports
from pxe.interfaces import Interface, bound_sockets
from pxe.packets import Answer
from pxe.stop import Stop

# A server that pings an address before it offers it answers after 3 s (dnsmasq without no-ping).
PATIENCE_SECONDS = 5.0
ASK_EVERY_SECONDS = 1.5
AFTER_FIRST_SECONDS = 0.5  # long enough to name a second server too
ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1  # linux/if_packet.h
LONGEST_FRAME = 65_535


def refuse_other_servers(
    interface: Interface, stop: Stop, patience_seconds: float = PATIENCE_SECONDS
) -> None:
    """Return if no DHCP server but ours serves the segment of `interface`; takes `patience_seconds`.

    Our own dnsmasq must not run yet: then every answer is a stranger's.

    Raises:
        PreflightError: one answered, or a process of this computer serves that interface already.
    """
    if local := ports.holders(bound_sockets(interface, packets.SERVER_PORT)):
        who = ", ".join(map(str, local))
        raise PreflightError(f"{who} on this computer serves DHCP on {interface.name} already; end it first")
    if answers := ask(interface, stop, patience_seconds):
        raise PreflightError(_refusal(interface, answers))


def _refusal(interface: Interface, answers: Collection[Answer]) -> str:
    servers = "; ".join(str(answer) for answer in sorted(answers))
    return (
        f"another DHCP server answers on {interface.name}: {servers}. "
        "Two servers give one address to two machines: switch that one off, or leave the addresses to it "
        "(appliance.dhcp.mode: proxy)"
    )


def ask(interface: Interface, stop: Stop, patience_seconds: float) -> frozenset[Answer]:
    """Return who answers a DISCOVER; we ask as a plain and as a PXE client, with a random MAC."""
    mac = random_mac()
    questions = {secrets.randbits(32): options for options in (packets.PLAIN, packets.PXE_CLIENT)}
    frames = [packets.discover(mac, xid, options) for xid, options in questions.items()]
    answers: dict[tuple[str, str], Answer] = {}
    with _raw_socket(interface) as sock:
        end = time.monotonic() + patience_seconds
        ask_at = 0.0
        while (now := time.monotonic()) < end and not stop.is_asked():
            if now >= ask_at and not answers:
                _send(sock, frames)
                ask_at = now + ASK_EVERY_SECONDS
            for answer in _hear(sock, stop, min(end, ask_at) - now, questions):
                answers.setdefault((str(answer.server), answer.mac), answer)
                end = min(end, time.monotonic() + AFTER_FIRST_SECONDS)
    return frozenset(answers.values())


def random_mac() -> bytes:
    """Return six random bytes with the locally administered bit set and the group bit clear (IEEE 802)."""
    random = secrets.token_bytes(6)
    return bytes(((random[0] | 0x02) & 0xFE,)) + random[1:]


def _raw_socket(interface: Interface) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.bind((interface.name, ETH_P_ALL))
    # Some servers ignore the broadcast flag and answer to the MAC that asked, which is not this interface's.
    membership = struct.pack("@iHH8s", interface.index, PACKET_MR_PROMISC, 0, bytes(8))  # struct packet_mreq
    sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
    return sock


def _send(sock: socket.socket, frames: Iterable[bytes]) -> None:
    for frame in frames:
        sock.send(frame)


def _hear(sock: socket.socket, stop: Stop, seconds: float, xids: Iterable[int]) -> list[Answer]:
    readable, _, _ = select.select([sock.fileno(), stop.fileno()], [], [], max(seconds, 0.0))
    if sock.fileno() not in readable:
        return []
    frame = sock.recv(LONGEST_FRAME)
    return [answer for xid in xids if (answer := packets.answer_in(frame, xid))]
