"""A real pxe process serves machines, survives the death of its dnsmasq, and leaves nothing behind."""

import hashlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.pxe_receiver import receiver
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

pytestmark = pytest.mark.system

DEBIAN = Path("/usr/lib/ipxe")
BIOS: Options = [("vendor_class_id", b"PXEClient:Arch:00000:UNDI:002001"), (93, b"\0\0")]


@pytest.fixture
def cable() -> Iterator[Segment]:
    with segment() as made:
        yield made


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


@pytest.fixture
def pxe(cable: Segment, ground: Bench) -> Iterator[Pxe]:
    started = ground.start(cable, "--no-probe")
    try:
        started.await_ready()
        yield started
    finally:
        started.process.kill()
        started.process.wait()


@pytest.fixture
def client(cable: Segment, pxe: Pxe) -> Iterator[DhcpClient]:
    assert pxe.process.poll() is None
    made = DhcpClient(cable)
    yield made
    made.close()


def tftp(cable: Segment, name: bytes) -> bytes:
    """Return the first packet that answers a read request (RFC 1350), sent without any client's politeness."""
    with inside(cable.client), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(3)
        sock.sendto(b"\x00\x01" + name + b"\x00octet\x00", (SERVER, 69))
        return sock.recv(65535)


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()


def test_known_machine_gets_its_address_and_another_one_of_the_range(client: DhcpClient) -> None:
    assert client.lease(KNOWN_MAC, BIOS) == KNOWN_ADDRESS
    other = client.lease("52:54:00:77:00:99", BIOS)
    assert 150 <= int(other.rpartition(".")[2]) <= 199


@pytest.mark.parametrize("name", ["undionly.kpxe", "snponly.efi"])
def test_tftp_sends_the_very_bytes_of_the_loader(cable: Segment, pxe: Pxe, tmp_path: Path, name: str) -> None:
    fetched = tmp_path / name
    done = cable.in_client("curl", "-sS", "-o", str(fetched), f"tftp://{SERVER}/{name}")
    assert done.returncode == 0, done.stderr
    wanted = hashlib.sha256((DEBIAN / name).read_bytes()).hexdigest()
    assert hashlib.sha256(fetched.read_bytes()).hexdigest() == wanted
    assert wait_for(lambda: f"tftp-sent: {name}" in pxe.text())


@pytest.mark.parametrize(
    "name",
    [
        b"../../etc/shadow",
        b"../dnsmasq.hosts",
        b"/etc/hostname",
        b"..\\..\\etc\\hostname",
        b"undionly.kpxe/../../dnsmasq.hosts",
        b"snponly.efi/../../../../etc/hostname",
        b"",
    ],
)
def test_tftp_refuses_a_name_that_leads_out_of_its_folder(cable: Segment, pxe: Pxe, name: bytes) -> None:
    assert pxe.bench.runtime.joinpath("dnsmasq.hosts").exists()
    assert tftp(cable, name)[:2] == b"\x00\x05"  # ERROR


def test_a_strange_file_in_the_tftp_folder_is_gone_after_start(cable: Segment, ground: Bench) -> None:
    root = ground.runtime / "tftp"
    root.mkdir()
    (root / "leak").symlink_to("/etc/hostname")
    started = ground.start(cable, "--no-probe")
    started.await_ready()
    assert tftp(cable, b"leak")[:2] == b"\x00\x05"
    assert sorted(path.name for path in root.iterdir()) == ["snponly.efi", "undionly.kpxe"]
    assert started.end() == 0


def test_killed_dnsmasq_is_back_with_the_same_addresses(client: DhcpClient, pxe: Pxe) -> None:
    macs = [f"52:54:00:99:00:{number:02x}" for number in range(30)]
    before = {mac: client.lease(mac) for mac in macs}
    for _ in range(3):
        killed = pxe.dnsmasq_pid()
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        assert wait_for(lambda: client.ask("discover", macs[0], seconds=0.5) is not None, 5)
        assert pxe.dnsmasq_pid() != killed
    after = {mac: client.lease(mac) for mac in macs}
    late = {client.lease(f"52:54:00:99:01:{number:02x}") for number in range(15)}

    assert after == before
    assert len(set(before.values()) | late) == len(before) + 15
    assert "dnsmasq was ended by SIGKILL" in pxe.text()


def test_sigterm_ends_everything_with_status_0(cable: Segment, ground: Bench, pxe: Pxe) -> None:
    # pxe, dnsmasq, in.tftpd, and for either of the two the shell that waits for pxe's death.
    assert len(cable.pids(cable.server)) == 5
    assert pxe.end() == 0
    assert wait_for(lambda: cable.pids(cable.server) == ())
    assert not (ground.work / "run" / "pxe.pid").exists()
    assert not (ground.work / "run" / "pxe.ready").exists()


def test_sigint_does_the_same(cable: Segment, pxe: Pxe) -> None:
    pxe.process.send_signal(signal.SIGINT)
    assert pxe.wait() == 0
    assert wait_for(lambda: cable.pids(cable.server) == ())


def test_dnsmasq_does_not_outlive_a_killed_pxe(cable: Segment, pxe: Pxe) -> None:
    assert pxe.dnsmasq_pid() is not None
    pxe.process.kill()
    assert wait_for(lambda: cable.pids(cable.server) == ())


def test_dnsmasq_left_by_a_killed_pxe_and_guard_is_ended_at_the_next_start(
    cable: Segment, ground: Bench, pxe: Pxe
) -> None:
    orphan = pxe.dnsmasq_pid()
    assert orphan is not None
    others = [pid for pid in cable.pids(cable.server) if pid not in {orphan, pxe.process.pid}]
    for pid in [*others, pxe.process.pid]:
        os.kill(pid, signal.SIGKILL)
    pxe.process.wait()
    assert not is_gone(orphan)

    second = ground.start(cable, "--no-probe")
    second.await_ready()

    assert is_gone(orphan)
    assert f"left behind (pid {orphan})" in second.text()
    assert second.end() == 0


def test_second_pxe_for_the_same_work_folder_is_refused(cable: Segment, ground: Bench, pxe: Pxe) -> None:
    second = ground.start(cable, "--no-probe")
    assert second.wait() == 1
    assert f"runs already for {ground.work} (pid {pxe.process.pid})" in second.text()
    assert pxe.process.poll() is None


def test_events_reach_web_over_mutual_tls(cable: Segment, client: DhcpClient, pxe: Pxe) -> None:
    began = time.time()
    with receiver(cable, pxe.bench.work) as received:
        client.lease(KNOWN_MAC, BIOS)
        wanted = ["discover", "offer", "request", "ack"]
        assert wait_for(lambda: received.kinds_of(KNOWN_MAC) == wanted), (received, pxe.text())
    seen_at = received[0].pop("at")
    assert began - 1 <= seen_at <= time.time()
    assert received[0] == {
        "mac": KNOWN_MAC,
        "kind": "discover",
        "detail": "PXEClient:Arch:00000:UNDI:002001",
        "arch": 0,
    }
    assert received[1]["detail"] == f"{KNOWN_ADDRESS}, boot file undionly.kpxe"


def test_web_that_is_away_delays_events_but_no_machine(cable: Segment, client: DhcpClient, pxe: Pxe) -> None:
    macs = [f"52:54:00:99:02:{number:02x}" for number in range(20)]
    for mac in macs:
        client.lease(mac)
    assert wait_for(lambda: "web does not take events" in pxe.text())
    with receiver(cable, pxe.bench.work) as received:
        assert wait_for(lambda: received.kinds_of(macs[-1])[-1:] == ["ack"], 20)
    assert {event["mac"] for event in received} == set(macs)


def test_last_events_are_posted_on_the_way_out(cable: Segment, client: DhcpClient, pxe: Pxe) -> None:
    with receiver(cable, pxe.bench.work) as received:
        client.lease(KNOWN_MAC, BIOS)
        assert pxe.end() == 0
    assert received.kinds_of(KNOWN_MAC)[-1] == "ack"


def test_what_a_machine_calls_itself_cannot_paint_the_log(client: DhcpClient, pxe: Pxe) -> None:
    mac = "52:54:00:99:03:01"
    evil = b"\x1b[31mred\nDHCPACK(srv0) 10.77.0.150 52:54:00:77:00:01" + b"x" * 150
    client.ask(
        "discover", mac, [("vendor_class_id", evil), (77, b"\x1b]0;title\x07"), ("hostname", b"\r\nok")]
    )
    assert wait_for(lambda: f"{mac}: offer" in pxe.text())
    assert "\x1b" not in pxe.text()
    assert f"{KNOWN_MAC}: ack" not in pxe.text()


def test_firmware_without_a_loader_is_named_in_the_log(client: DhcpClient, pxe: Pxe) -> None:
    client.ask(
        "discover", "52:54:00:99:04:01", [("vendor_class_id", b"HTTPClient:Arch:00015"), (93, b"\0\x0f")]
    )
    client.ask("discover", "52:54:00:99:04:02", [(93, b"\0\x21")])
    assert wait_for(lambda: "52:54:00:99:04:01: http-efi32 gets no loader: no distribution" in pxe.text())
    assert wait_for(lambda: "52:54:00:99:04:02: firmware of a kind that is not in our table" in pxe.text()), (
        pxe.text()
    )


def test_with_dhcp_off_only_tftp_is_served(cable: Segment, tmp_path: Path) -> None:
    with bench(tmp_path, dhcp="{mode: off}") as quiet:
        started = quiet.start(cable)
        started.await_ready()
        client = DhcpClient(cable)
        assert client.ask("discover", KNOWN_MAC, BIOS, seconds=1.0) is None
        client.close()
        assert tftp(cable, b"undionly.kpxe")[:2] == b"\x00\x03"  # DATA
        assert started.end() == 0
