"""The same rack of 4,000 machines, powered on behind a relay, and beside a site's DHCP server."""

import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.system import storm_bench
from tests.system.pxe_receiver import receiver
from tests.system.pxe_segment import Bench, Segment, inside
from tests.system.storm_bench import (
    CLIENT,
    CLIENTS,
    LISTED_MAC,
    PER_SECOND,
    RELAY,
    SERVER,
    UNLISTED_MAC,
    Storm,
)
from tests.tier import Promise, rounds

pytestmark = [pytest.mark.system, pytest.mark.quiet]

FAR = "{subnet: 10.89.0.0/16, gateway: 10.89.0.1, range: [10.89.128.0, 10.89.191.71]}"
RELAYED = f"{{mode: server, range: [10.88.128.0, 10.88.191.71], subnets: [{FAR}]}}"
FIRST_FAR = IPv4Address("10.89.64.0")
# What a UEFI machine says of itself: options 60, 93 and 97 in perfdhcp's words.
UEFI = (
    *("-o", f"60,{b'PXEClient:Arch:00007:UNDI:003016'.hex()}"),
    *("-o", "93,0007", "-o", f"97,{bytes(17).hex()}"),
)
WORST_MILLISECONDS = 2_000  # a boot ROM asks again after 4 s
BOOT_SERVER_PORT = 4011
_BOOTP = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_COOKIE = b"\x63\x82\x53\x63"


@contextmanager
def rack(folder: Path, machines: dict[str, str], dhcp: str) -> Iterator[tuple[Segment, Bench]]:
    with ExitStack() as stack:
        where = stack.enter_context(storm_bench.cable())
        cluster = storm_bench.cluster_of(folder, machines, dhcp)
        ground = stack.enter_context(storm_bench.ground(folder, cluster))
        stack.enter_context(receiver(where, ground.work, SERVER))
        yield where, ground


def best(storms: list[Storm]) -> Storm:
    return min(storms, key=lambda one: one.worst_offer)


def test_4000_machines_behind_a_relay_are_answered_at_once(tmp_path: Path, promise: Promise) -> None:
    machines = dict(storm_bench.reservations(FIRST_FAR))
    count = rounds(ci=1, soak=5)
    listed, unlisted = [], []
    with rack(tmp_path, machines, RELAYED) as (where, ground):
        for number in range(count):
            with (passed := storm_bench.Ours(where, ground, tmp_path / f"{number}.pcap")):
                listed.append(storm_bench.storm(where, LISTED_MAC, CLIENTS, source=RELAY))
                unlisted.append(
                    storm_bench.storm(where, UNLISTED_MAC, CLIENTS, PER_SECOND // 2, source=RELAY)
                )
            assert storm_bench.duplicates(passed.owners) == {}
            for address, owners in passed.owners.items():
                assert all(machines.get(mac, address) == address for mac in owners)
                assert address.startswith("10.89.")
    found = f"listed: {'; '.join(map(str, listed))} | unlisted: {'; '.join(map(str, unlisted))}"
    assert best(listed).acknowledged >= CLIENTS * 0.99, found
    assert best(listed).worst_offer < WORST_MILLISECONDS, found
    assert max(one.acknowledged for one in unlisted) >= CLIENTS // 2, found
    promise(
        promise="S-07 boot storm, relayed",
        asked="4,000 machines of 10,000 behind a relay at 1,000/s: all answered, 0 duplicates",
        done=f"{count} rounds of listed machines, then of unlisted ones at {PER_SECOND // 2}/s",
        found=found,
    )


def test_4000_machines_beside_a_sites_server_are_told_their_loader(tmp_path: Path, promise: Promise) -> None:
    count = rounds(ci=1, soak=5)
    offers, answers = [], []
    with rack(tmp_path, {"52:54:00:00:00:01": "10.88.0.99"}, "{mode: proxy}") as (where, ground):
        for number in range(count):
            with (passed := storm_bench.Ours(where, ground, tmp_path / f"{number}.pcap")):
                offers.append(storm_bench.storm(where, LISTED_MAC, CLIENTS, options=UEFI))
                answers.append(boot_answers(where))
            assert passed.owners == {}, "a proxy gave an address"
    found = f"offered: {[one.offered for one in offers]}, worst {best(offers).worst_offer:.0f} ms; 4011: {answers}"
    assert max(one.offered for one in offers) >= CLIENTS * 0.99, found
    assert best(offers).worst_offer < WORST_MILLISECONDS, found
    assert max(answers) >= CLIENTS * 0.99, found
    promise(
        promise="S-07 boot storm, proxy",
        asked="4,000 UEFI machines at 1,000/s beside another server: all offered, then all told their loader at 4011",
        done=f"{count} rounds",
        found=found,
    )


def boot_answers(where: Segment) -> int:
    """Ask port 4011 for the loader once per machine, PER_SECOND of them; return how many were told it."""
    with inside(where.client), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((CLIENT, BOOT_SERVER_PORT))
        sock.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE: 4,000 machines have 4,000 queues
        told: set[int] = set()
        begun = time.monotonic()
        for number in range(CLIENTS):
            sock.sendto(request(number), (SERVER, BOOT_SERVER_PORT))
            hear(sock, told, max(0.0, begun + number / PER_SECOND - time.monotonic()))
        while len(told) < CLIENTS and hear(sock, told, 2.0):
            pass
    return len(told)


def request(number: int) -> bytes:
    """Return what UEFI asks after a proxy's offer: a REQUEST from the address that the site gave it."""
    mac = bytes.fromhex(storm_bench.mac_text(LISTED_MAC + number).replace(":", ""))
    address = socket.inet_aton(CLIENT)
    options = b"\x35\x01\x03" + b"".join(
        bytes((code, len(value))) + value
        for code, value in ((60, b"PXEClient:Arch:00007:UNDI:003016"), (93, b"\0\x07"), (97, bytes(17)))
    )
    head = (1, 1, 6, 0, number, 0, 0, address, *[bytes(4)] * 3, mac, bytes(64), bytes(128), _COOKIE)
    return _BOOTP.pack(*head) + options + b"\xff"


def hear(sock: socket.socket, told: set[int], seconds: float) -> bool:
    """Take what answers come within `seconds`; return whether one did."""
    heard = False
    while select.select([sock], [], [], 0 if heard else seconds)[0]:
        fields = _BOOTP.unpack_from(sock.recv(2048))
        heard = True
        if fields[13].startswith(b"snponly.efi\0"):
            told.add(fields[4])
    return heard
