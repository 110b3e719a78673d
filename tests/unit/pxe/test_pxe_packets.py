"""The probe's packets are what an independent implementation (scapy) reads and writes."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from pxe import packets, probe

MAC = bytes.fromhex("02aabbccddee")
XID = 0x1234ABCD


def reply(*, xid: int = XID, port: int = 68, offered: str = "10.0.0.9", options: object = None) -> bytes:
    told = options if options is not None else [("message-type", "offer"), ("server_id", "10.0.0.1"), "end"]
    packet: Packet = (
        Ether(src="52:54:00:00:00:99", dst="ff:ff:ff:ff:ff:ff")
        / IP(src="10.0.0.2", dst="255.255.255.255")
        / UDP(sport=67, dport=port)
        / BOOTP(op=2, xid=xid, yiaddr=offered)
        / DHCP(options=told)
    )
    return bytes(packet)


@pytest.mark.parametrize("options", [packets.PLAIN, packets.PXE_CLIENT])
def test_scapy_reads_the_discover(options: dict[int, bytes]) -> None:
    frame = Ether(packets.discover(MAC, XID, options))
    assert frame.src == "02:aa:bb:cc:dd:ee"
    assert frame.dst == "ff:ff:ff:ff:ff:ff"
    assert (frame[UDP].sport, frame[UDP].dport) == (68, 67)
    assert (frame[BOOTP].op, frame[BOOTP].xid, frame[BOOTP].flags) == (1, XID, 0x8000)
    assert frame[BOOTP].chaddr[:6] == MAC
    assert ("message-type", 1) in frame[DHCP].options
    stated, frame[IP].chksum = frame[IP].chksum, None
    assert Ether(bytes(frame))[IP].chksum == stated


def test_pxe_discover_says_so_in_options_60_and_93() -> None:
    told = dict(
        o[:2] for o in Ether(packets.discover(MAC, XID, packets.PXE_CLIENT))[DHCP].options if len(o) == 2
    )
    assert told["vendor_class_id"].startswith(b"PXEClient:Arch:00007")
    assert told["pxe_client_architecture"] == b"\x00\x07"


def test_answer_names_server_and_mac() -> None:
    answer = packets.answer_in(reply(), XID)
    assert answer == packets.Answer(IPv4Address("10.0.0.1"), "52:54:00:00:00:99", IPv4Address("10.0.0.9"))
    assert str(answer) == "10.0.0.1 (MAC 52:54:00:00:00:99), which offers 10.0.0.9"


def test_answer_without_option_54_is_its_sender() -> None:
    answer = packets.answer_in(reply(options=[("message-type", "offer"), "end"]), XID)
    assert answer is not None
    assert answer.server == IPv4Address("10.0.0.2")


def test_answer_without_an_address_is_a_proxy() -> None:
    assert "proxyDHCP" in str(packets.answer_in(reply(offered="0.0.0.0"), XID))


@pytest.mark.parametrize(
    "frame",
    [
        reply(xid=XID + 1),
        reply(port=67),
        packets.discover(MAC, XID, packets.PLAIN),
        reply()[:200],
        b"",
        b"\xff" * 60,
    ],
    ids=["another question", "to a server", "our own", "cut off", "empty", "noise"],
)
def test_other_frames_are_no_answer(frame: bytes) -> None:
    assert packets.answer_in(frame, XID) is None


@given(st.binary(max_size=400))
def test_any_frame_is_survived(noise: bytes) -> None:
    packets.answer_in(noise, XID)
    packets.answer_in(reply()[:282] + noise, XID)


def test_random_mac_is_local_and_no_group() -> None:
    for _ in range(50):
        first = probe.random_mac()[0]
        assert first & 0x02
        assert not first & 0x01
