"""What TFTP looks like on the wire: frames made up, the kernel's own filter, and what is made of them."""

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from pxe import bpf
from pxe.transfers import (
    ACK,
    DATA,
    ERROR,
    HEARD_SECONDS,
    OACK,
    OWN_PORTS,
    PORT,
    REQUEST,
    TAP,
    UNHEARD,
    Packet,
    Transfers,
    packet_in,
)

OURS, MACHINE = IPv4Address("10.77.0.1"), IPv4Address("10.77.0.101")
MAC, OUR_MAC = "52:54:00:77:00:01", "02:00:00:00:00:01"
TID, THEIR_TID = OWN_PORTS[0], 2070  # of an in.tftpd; and the port of a machine
DNSMASQ_TID = 41_000


def frame(
    payload: bytes, source: int, target: int, *, is_ours: bool, protocol: int = 17, fragment: int = 0
) -> bytes:
    """Return an Ethernet frame between us and the machine."""
    macs = (MAC, OUR_MAC) if is_ours else (OUR_MAC, MAC)
    ends = (OURS, MACHINE) if is_ours else (MACHINE, OURS)
    udp = struct.pack("!HHHH", source, target, 8 + len(payload), 0) + payload
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, fragment, 64, protocol, 0)
    ethernet = b"".join(bytes.fromhex(mac.replace(":", "")) for mac in macs) + b"\x08\x00"
    return (ethernet + ip + ends[0].packed + ends[1].packed + udp).ljust(60, b"\0")


def asked(file: str = "snponly.efi", options: bytes = b"tsize\x000\0") -> bytes:
    return struct.pack("!H", REQUEST) + file.encode() + b"\0octet\0" + options


def told(kind: int, number: int = 0, data: bytes = b"") -> bytes:
    return struct.pack("!HH", kind, number) + data


class Cable:
    """Takes packets as they would go by, and gathers what is found."""

    def __init__(self, most: int = 100) -> None:
        self.transfers = Transfers(most)
        self.found: list[tuple[str, bool]] = []
        self.now = 1000.0

    def machine(self, payload: bytes, target: int = DNSMASQ_TID, source: int = THEIR_TID) -> None:
        self._take(frame(payload, source, target, is_ours=False))

    def us(self, payload: bytes, source: int = DNSMASQ_TID, target: int = THEIR_TID) -> None:
        self._take(frame(payload, source, target, is_ours=True))

    def _take(self, data: bytes) -> None:
        packet = packet_in(data, OURS)
        assert packet is not None
        finding = self.transfers.take(packet, self.now)
        if finding:
            self.found.append((finding.file, finding.is_sent))


def test_a_packet_is_the_machines_whichever_way_it_goes() -> None:
    request = packet_in(frame(asked(), THEIR_TID, PORT, is_ours=False), OURS)
    data = packet_in(frame(told(DATA, 7, bytes(100)), TID, THEIR_TID, is_ours=True), OURS)

    assert request is not None
    assert ("snponly.efi", REQUEST, False) == (request.file, request.kind, request.is_ours)
    assert data == Packet(
        mac=MAC, address=MACHINE, tid=THEIR_TID, is_ours=True, kind=DATA, number=7, size=100
    )


def test_padding_of_a_short_frame_is_no_data() -> None:
    packet = packet_in(frame(told(DATA, 1, b"x"), TID, THEIR_TID, is_ours=True), OURS)

    assert packet is not None
    assert packet.size == 1


@pytest.mark.parametrize("length", range(60))
def test_a_torn_frame_is_nothing(length: int) -> None:
    whole = frame(told(OACK), TID, THEIR_TID, is_ours=True)

    assert packet_in(whole[: min(length, 45)], OURS) is None


def test_what_goes_by_between_others_is_not_ours() -> None:
    assert packet_in(frame(told(OACK), TID, THEIR_TID, is_ours=True), IPv4Address("10.77.0.9")) is None


def test_an_oack_that_is_sent_again_and_again_is_unheard_once() -> None:
    cable = Cable()
    cable.machine(asked(), PORT)
    for number in range(UNHEARD + 3):
        assert cable.found == ([("snponly.efi", False)] if number >= UNHEARD else [])
        cable.us(told(OACK))


@pytest.mark.parametrize("answer", [told(ACK, 0), told(ERROR, 8)], ids=["acknowledged", "refused"])
def test_an_oack_that_is_answered_late_was_heard(answer: bytes) -> None:
    cable = Cable()
    cable.machine(asked(), PORT)
    for _ in range(UNHEARD - 1):
        cable.us(told(OACK))
    cable.machine(answer)
    cable.us(told(OACK))  # was under way already
    assert cable.found == []


def test_who_has_just_acknowledged_an_oack_is_slow_and_not_deaf() -> None:
    """In a storm, or on a cable that loses packets; firmware that is deaf acknowledges none at all."""
    cable = Cable()
    for seconds, found in ((0, []), (HEARD_SECONDS - 1, []), (1, [("late", False)])):
        cable.now += seconds
        if not seconds:
            cable.machine(asked(), PORT)
            cable.us(told(OACK))
            cable.machine(told(ACK, 0))
        cable.machine(asked("late"), PORT, source=THEIR_TID + 1 + int(seconds))
        for _ in range(UNHEARD):
            cable.us(told(OACK), target=THEIR_TID + 1 + int(seconds))
        assert cable.found == found


def test_a_machine_that_asks_again_from_the_same_port_is_still_unheard() -> None:
    """dnsmasq answers each question with an OACK of a new transfer."""
    cable = Cable()
    for number in range(UNHEARD):
        cable.machine(asked(), PORT)
        cable.us(told(OACK), source=DNSMASQ_TID + number)
    assert cable.found == [("snponly.efi", False)]


def test_another_file_from_the_same_port_begins_anew() -> None:
    cable = Cable()
    for number in range(2 * UNHEARD):
        cable.machine(asked(f"file-{number}"), PORT)
        cable.us(told(OACK))
    assert cable.found == []


@pytest.mark.parametrize("granted", [512, 1400])
def test_a_file_is_sent_when_its_short_last_block_is_acknowledged(granted: int) -> None:
    cable = Cable()
    cable.machine(asked(), PORT)
    for number, length in enumerate((granted, granted, granted - 1), start=1):
        cable.us(told(DATA, number, bytes(length)), source=TID)
        assert cable.found == []
        cable.machine(told(ACK, number), TID)
    assert cable.found == [("snponly.efi", True)]


def test_a_last_block_that_nobody_acknowledges_is_not_sent() -> None:
    cable = Cable()
    cable.machine(asked(), PORT)
    cable.us(told(DATA, 1, bytes(512)), source=TID)
    cable.us(told(DATA, 2, bytes(3)), source=TID)
    cable.machine(told(ACK, 1), TID)
    assert cable.found == []


def test_of_a_flood_the_newest_are_remembered() -> None:
    cable = Cable(most=2)
    for tid in (1, 2, 3):
        cable.machine(asked(), PORT, source=tid)
    for tid in (1, 2, 3):
        for _ in range(UNHEARD):
            cable.us(told(OACK), target=tid)
    assert len(cable.found) == 2


@pytest.fixture(name="kernel")
def fixture_kernel() -> "Iterator[_Passing]":
    """Yield the far end of a socket with the filter: the kernel runs it on any kind of socket."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        bpf.attach(far, TAP)
        far.settimeout(0.01)
        yield _Passing(near, far)


class _Passing:
    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._near, self._far = near, far

    def lets(self, data: bytes) -> bool:
        """Return whether the frame came through, whole."""
        self._near.send(data)
        try:
            return self._far.recv(bpf.LONGEST_FRAME) == data
        except TimeoutError:
            return False


def test_the_kernel_lets_through_what_tells_and_nothing_else(kernel: _Passing) -> None:
    low, high = OWN_PORTS
    passing = (
        frame(asked(), THEIR_TID, PORT, is_ours=False),
        frame(told(OACK), DNSMASQ_TID, THEIR_TID, is_ours=True),
        frame(told(ACK, 0), THEIR_TID, DNSMASQ_TID, is_ours=False),
        frame(told(ERROR, 8), THEIR_TID, DNSMASQ_TID, is_ours=False),
        frame(told(DATA, 3, bytes(512)), low, THEIR_TID, is_ours=True),
        frame(told(DATA, 3, bytes(512)), high, THEIR_TID, is_ours=True),
        frame(told(DATA, 3, bytes(512)), PORT, THEIR_TID, is_ours=True),
        frame(told(ACK, 3), THEIR_TID, low, is_ours=False),
        frame(told(ACK, 3), THEIR_TID, high, is_ours=False),
    )
    dropped = (
        frame(told(DATA, 3, bytes(512)), DNSMASQ_TID, THEIR_TID, is_ours=True),
        frame(told(ACK, 3), THEIR_TID, DNSMASQ_TID, is_ours=False),
        frame(told(DATA, 1, bytes(512)), low - 1, THEIR_TID, is_ours=True),
        frame(told(ACK, 1), THEIR_TID, high + 1, is_ours=False),
        frame(b"\x01\x01\x06\0" + bytes(240), 68, 67, is_ours=False),  # DHCP
        frame(told(OACK), DNSMASQ_TID, THEIR_TID, is_ours=True, protocol=6),
        frame(told(OACK), DNSMASQ_TID, THEIR_TID, is_ours=True, fragment=100),
        frame(told(OACK), DNSMASQ_TID, THEIR_TID, is_ours=True)[:20],
        b"\xff" * 12 + b"\x08\x06" + bytes(46),  # ARP
    )
    assert [kernel.lets(one) for one in passing] == [True] * len(passing)
    assert [kernel.lets(one) for one in dropped] == [False] * len(dropped)
