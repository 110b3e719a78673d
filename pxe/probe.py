"""Is there another DHCP server on the segment? Two of them give one address to two machines."""

import hashlib
import secrets
import select
import socket
import struct
import time
from collections.abc import Collection, Iterable

from bootstrap.errors import PreflightError
from pxe import bpf, packets, ports
from pxe.interfaces import Interface, bound_sockets
from pxe.packets import Answer
from pxe.stop import Stop

# A server that pings an address before it offers it answers after 3 s (dnsmasq without no-ping).
PATIENCE_SECONDS = 5.0
ASK_EVERY_SECONDS = 1.5
AFTER_FIRST_SECONDS = 0.5  # long enough to name a second server too
ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1  # linux/if_packet.h


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
    """Return who answers a DISCOVER from a random MAC, and not much later than the first does."""
    return _ask(interface, stop, patience_seconds, random_mac(), hears_first=True)


def ask_all(interface: Interface, stop: Stop, patience_seconds: float, name: bytes) -> frozenset[Answer]:
    """Return all that answer within `patience_seconds`, slow ones beside quick ones.

    We ask twice, always under the same MAC, and call ourselves `name` (option 12). Only a DISCOVER is sent: no
    server gives out an address for it.
    """
    return _ask(interface, stop, patience_seconds, own_mac(interface), name=name)


def _ask(
    interface: Interface,
    stop: Stop,
    patience_seconds: float,
    mac: bytes,
    *,
    name: bytes = b"",
    hears_first: bool = False,
) -> frozenset[Answer]:
    """Ask as a plain and as a PXE client."""
    marked = {packets.HOST_NAME: name} if name else {}
    kinds = (packets.PLAIN, packets.PXE_CLIENT)
    questions = {secrets.randbits(32): {**options, **marked} for options in kinds}
    every = ASK_EVERY_SECONDS if hears_first else patience_seconds / 2
    frames = [packets.discover(mac, xid, options) for xid, options in questions.items()]
    answers: dict[tuple[str, str], Answer] = {}
    with _raw_socket(interface, questions) as sock:
        end = time.monotonic() + patience_seconds
        ask_at = 0.0
        while (now := time.monotonic()) < end and not stop.is_asked():
            if now >= ask_at and not (hears_first and answers):
                _send(sock, frames)
                ask_at = now + every
            for answer in _hear(sock, stop, min(end, ask_at) - now, questions):
                answers.setdefault((str(answer.server), answer.mac), answer)
                end = min(end, time.monotonic() + AFTER_FIRST_SECONDS) if hears_first else end
    return frozenset(answers.values())


def random_mac() -> bytes:
    """Return six random bytes with the locally administered bit set and the group bit clear (IEEE 802)."""
    return _local(secrets.token_bytes(6))


def _local(number: bytes) -> bytes:
    return bytes(((number[0] | 0x02) & 0xFE,)) + number[1:]


def own_mac(interface: Interface) -> bytes:
    """Return the MAC that questions from `interface` carry every time: switches and servers see one asker only.

    It is not the interface's own, under which this computer may have a lease.
    """
    digest = hashlib.sha256(b"firstlight sentinel " + interface.mac.encode()).digest()
    return _local(digest[:6])


def _raw_socket(interface: Interface, xids: Iterable[int]) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # hears nothing until it is bound
    _hear_only(sock, xids)
    sock.bind((interface.name, ETH_P_ALL))
    # Some servers ignore the broadcast flag and answer to the MAC that asked, which is not this interface's.
    membership = struct.pack("@iHH8s", interface.index, PACKET_MR_PROMISC, 0, bytes(8))  # struct packet_mreq
    sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
    return sock


def _hear_only(sock: socket.socket, xids: Iterable[int]) -> None:
    """Have the kernel drop all but DHCP answers to `xids`: a rack that boots is thousands of packets a second.

    The program is that of `bpf(4)`: IPv4 and UDP with one of these transaction ids where BOOTP has it.
    """
    wanted = list(xids)
    last = 6 + len(wanted)  # the number of the instruction that drops; the one after it keeps
    program = [
        (bpf.LDH, 0, 0, 12),  # the EtherType
        (bpf.JEQ, 0, last - 2, packets.ETHERTYPE_IPV4),
        (bpf.LDB, 0, 0, 23),  # the protocol
        (bpf.JEQ, 0, last - 4, packets.PROTOCOL_UDP),
        (bpf.LDX_IP_HEADER, 0, 0, 14),  # x: the length of the IP header
        (bpf.LD_X, 0, 0, 14 + 8 + 4),  # the transaction id
        *((bpf.JEQ, last - (6 + at), 0, xid) for at, xid in enumerate(wanted)),
        (bpf.RETURN, 0, 0, 0),
        (bpf.RETURN, 0, 0, bpf.LONGEST_FRAME),
    ]
    bpf.attach(sock, program)


def _send(sock: socket.socket, frames: Iterable[bytes]) -> None:
    for frame in frames:
        sock.send(frame)


def _hear(sock: socket.socket, stop: Stop, seconds: float, xids: Iterable[int]) -> list[Answer]:
    readable, _, _ = select.select([sock.fileno(), stop.fileno()], [], [], max(seconds, 0.0))
    if sock.fileno() not in readable:
        return []
    frame = sock.recv(bpf.LONGEST_FRAME)
    return [answer for xid in xids if (answer := packets.answer_in(frame, xid))]
