"""Promise S-06: no DHCP or TFTP packet stops the service, or brings a byte from outside of the TFTP folder."""

import os
import secrets
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.pxe_segment import (
    KNOWN_ADDRESS,
    KNOWN_MAC,
    SERVER,
    Bench,
    DhcpClient,
    Options,
    Pxe,
    Segment,
    bench,
    inside,
    segment,
    wait_for,
)
from tests.tier import Promise, dice, rounds, seed
from tests.unit.hostile.packets import dhcp, frame, mac_from, tftp

pytestmark = [pytest.mark.system, pytest.mark.promise]

BIOS: Options = [("vendor_class_id", b"PXEClient:Arch:00000:UNDI:002001"), (93, b"\0\0")]
TFTP_ERROR, TFTP_DATA, TFTP_OACK = 5, 3, 6
GROWTH_KIB = 64 * 1024


@pytest.fixture(scope="module")
def cable() -> Iterator[Segment]:
    with segment() as laid:
        yield laid


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("packets")) as made:
        yield made


@pytest.fixture(scope="module")
def pxe(cable: Segment, ground: Bench) -> Iterator[Pxe]:
    started = ground.start(cable, "--no-probe")
    started.await_ready()
    yield started
    assert started.end() == 0, started.text()


@dataclass(frozen=True)
class Canary:
    """A word that stands in files around the TFTP folder, and their names as a machine would ask for them."""

    word: bytes
    goals: tuple[bytes, ...]


@pytest.fixture(scope="module")
def canary(ground: Bench, pxe: Pxe) -> Iterator[Canary]:
    del pxe  # it makes the folder
    word = f"canary-{secrets.token_hex(16)}".encode()
    name = f"firstlight-{secrets.token_hex(8)}"  # an error repeats the name that was asked for: it is not the word
    places = (ground.runtime / "canary", ground.work / "canary", Path("/etc") / name)
    for path in places:
        path.write_bytes(word)
    names = (
        b"canary",
        name.encode(),
        *(str(path).encode() for path in places),
        b"/etc/passwd",
        b"etc/passwd",
        b"dnsmasq.leases",
    )
    yield Canary(word, names)
    for path in places:
        path.unlink()


def memory_kib(pid: int) -> int:
    line = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    return int(line.split()[1])


def test_dhcp_packets_of_all_kinds_stop_nothing(cable: Segment, pxe: Pxe, promise: Promise) -> None:
    random, count = dice("dhcp"), rounds(2000, 100_000)
    dnsmasq = pxe.dnsmasq_pid()
    assert dnsmasq is not None
    before = {pid: memory_kib(pid) for pid in (dnsmasq, pxe.process.pid)}
    client = DhcpClient(cable)
    with inside(cable.client), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("cli0", 0x0800))
        for number in range(count):
            mac = mac_from(random)
            ports = random.choice(((68, 67), (68, 67), (68, 67), (67, 67), (68, 4011), (0, 67)))
            raw.send(frame(mac, dhcp(mac, random), sport=ports[0], dport=ports[1]))
            if number % 200 == 199:  # an honest machine in between: this also keeps the pace of the server
                assert client.lease(KNOWN_MAC, BIOS) == KNOWN_ADDRESS
    assert client.lease(KNOWN_MAC, BIOS) == KNOWN_ADDRESS
    client.close()

    text = pxe.text()
    assert pxe.dnsmasq_pid() == dnsmasq, text[-3000:]
    assert "Traceback" not in text
    assert "\x1b" not in text
    assert f"{KNOWN_MAC}: ack: 10.77.0.101" in text
    grown = {pid: memory_kib(pid) - was for pid, was in before.items()}
    assert max(grown.values()) < GROWTH_KIB, grown
    promise(
        promise="S-06 DHCP packets",
        asked="random and damaged packets at the real dnsmasq with our configuration: it goes on, honest machines too",
        done=f"{count} packets, an honest machine after each 200",
        found=f"{count // 200 + 1} honest leases, the same dnsmasq, memory +{max(grown.values()) >> 10} MiB at most",
        seed=seed(),
    )


def ask(cable: Segment, request: bytes, seconds: float = 1.0) -> bytes:
    """Return the first packet that answers, empty if none does."""
    with inside(cable.client), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(seconds)
        sock.sendto(request, (SERVER, 69))
        try:
            answer, peer = sock.recvfrom(65535)
        except TimeoutError:
            return b""
        sock.sendto(b"\x00\x05\x00\x00enough\x00", peer)  # else the server would go on to send
        return answer


def test_tftp_gives_nothing_from_outside_of_its_folder(
    cable: Segment, ground: Bench, pxe: Pxe, canary: Canary, promise: Promise
) -> None:
    random, done = dice("tftp"), Counter[str]()
    loaders = [path.read_bytes() for path in (ground.runtime / "tftp").glob("*.*")]
    assert len(loaders) == 2
    loaders += [content.replace(b"\n", b"\r\n") for content in loaders]  # netascii (RFC 764)
    count = rounds(400, 5000)
    for _ in range(count):
        request = tftp(random, canary.goals)
        answer = ask(cable, request, 0.15)
        code = int.from_bytes(answer[:2], "big")
        assert canary.word not in answer, request
        assert b"root:" not in answer, request
        if code == TFTP_DATA:
            assert any(answer[4:] in loader for loader in loaders), (request, answer[:100])
        assert code in {0, TFTP_DATA, TFTP_ERROR, TFTP_OACK}, (request, answer[:100])
        done[{0: "silence", TFTP_DATA: "loader", TFTP_ERROR: "error", TFTP_OACK: "options"}[code]] += 1

    for name, content in ((path.name, path.read_bytes()) for path in (ground.runtime / "tftp").glob("*.*")):
        assert ask(cable, b"\x00\x01" + name.encode() + b"\x00octet\x00")[4:] == content[:512]
    assert sorted(path.name for path in (ground.runtime / "tftp").iterdir()) == [
        "snponly.efi",
        "undionly.kpxe",
    ]
    assert "Traceback" not in pxe.text()
    promise(
        promise="S-13 traversal by TFTP",
        asked="RRQ and WRQ with ways out, odd modes and options: 0 bytes from outside of the folder",
        done=f"{count} requests, 3 canaries",
        found=f"0 bytes, 0 files written; answers {dict(sorted(done.items()))}",
        seed=seed(),
    )


def test_a_link_among_the_loaders_is_removed_before_long(
    cable: Segment, ground: Bench, pxe: Pxe, canary: Canary
) -> None:
    link = ground.runtime / "tftp" / "link"
    link.symlink_to(ground.runtime / "canary")

    assert wait_for(lambda: not os.path.lexists(link)), pxe.text()
    assert canary.word not in ask(cable, b"\x00\x01link\x00octet\x00")
    assert "link' was put among the loaders: removed" in pxe.text()


def test_a_damaged_loader_is_put_right_and_named(cable: Segment, ground: Bench, pxe: Pxe) -> None:
    path = ground.runtime / "tftp" / "undionly.kpxe"
    whole, random = path.read_bytes(), dice("loader")
    for _ in range(rounds(5, 200)):
        bit = random.randrange(8 * 512)  # in the first block, which is asked for below
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        told = pxe.text().count("undionly.kpxe was damaged or changed: written anew")
        path.write_bytes(damaged)
        assert wait_for(lambda told=told: pxe.text().count("written anew") > told), pxe.text()  # type: ignore[misc]
        assert ask(cable, b"\x00\x01undionly.kpxe\x00octet\x00")[4:] == whole[:512]
