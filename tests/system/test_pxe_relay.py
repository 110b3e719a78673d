"""Machines two hops away, through a real relay: their addresses, their router, and the way to our script."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.dhcp import BOOTP

from tests.system import booting
from tests.system.pxe_receiver import receiver
from tests.system.pxe_segment import (
    KNOWN_ADDRESS,
    KNOWN_MAC,
    SERVER,
    Bench,
    DhcpClient,
    Pxe,
    bench,
    boot_file,
    option,
    wait_for,
)
from tests.system.relay_bench import asking, running
from tests.system.relay_segment import FAR_ADDRESS, FAR_MAC, FAR_ROUTER, SUBNETS, Relayed, relayed
from tests.system.test_pxe_table import options_of

pytestmark = pytest.mark.system

RELAYED = f"{{mode: server, range: [10.77.0.150, 10.77.0.199], subnets: {SUBNETS}}}"
UEFI = options_of("class and 93", 7)


@pytest.fixture(scope="module")
def network() -> Iterator[Relayed]:
    with relayed() as made:
        yield made


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    more = f'  - {{name: w2, mac: "{FAR_MAC}", pool: workers, address: {FAR_ADDRESS}}}\n'
    with bench(tmp_path_factory.mktemp("relay"), dhcp=RELAYED, machines=more) as made:
        yield made


@pytest.fixture(scope="module")
def pxe(network: Relayed, ground: Bench) -> Iterator[Pxe]:
    with running(ground, network) as started:
        yield started


@pytest.fixture(scope="module")
def far(network: Relayed, pxe: Pxe) -> Iterator[DhcpClient]:
    assert pxe.process.poll() is None
    with asking(network, "far") as made:
        yield made


@pytest.fixture(scope="module")
def near(network: Relayed, pxe: Pxe) -> Iterator[DhcpClient]:
    assert pxe.process.poll() is None
    with asking(network, "near") as made:
        yield made


def test_each_network_has_its_own_addresses_and_router(far: DhcpClient, near: DhcpClient) -> None:
    there = far.ask("discover", "02:00:00:05:00:01", UEFI)
    here = near.ask("discover", "02:00:00:05:00:02", UEFI)
    assert there is not None
    assert here is not None

    assert there.giaddr == FAR_ROUTER
    assert 150 <= int(there.yiaddr.removeprefix("10.78.0.")) <= 199
    assert option(there, "router") == FAR_ROUTER
    assert option(there, "subnet_mask") == "255.255.255.0"
    assert 150 <= int(here.yiaddr.removeprefix("10.77.0.")) <= 199
    assert option(here, "router") is None
    assert {boot_file(there), boot_file(here)} == {"snponly.efi"}
    assert {there.siaddr, here.siaddr} == {SERVER}


def test_uefi_http_boot_behind_the_relay_is_sent_to_our_loader(far: DhcpClient) -> None:
    offer = far.ask("discover", "02:00:00:05:00:03", options_of("class and 93", 16))
    assert offer is not None
    assert boot_file(offer) == f"http://{SERVER}:8080/loader/ipxe-x86_64.efi"
    assert option(offer, "vendor_class_id") == b"HTTPClient"


def test_a_reservation_counts_in_its_own_network_only(far: DhcpClient, near: DhcpClient) -> None:
    assert far.lease(FAR_MAC, UEFI) == FAR_ADDRESS
    assert near.lease(KNOWN_MAC, UEFI) == KNOWN_ADDRESS
    moved = far.lease(KNOWN_MAC, UEFI)
    assert 150 <= int(moved.removeprefix("10.78.0.")) <= 199


def test_leases_behind_the_relay_outlive_dnsmasq(far: DhcpClient, pxe: Pxe) -> None:
    macs = [f"02:00:00:05:01:{number:02x}" for number in range(10)]
    before = {mac: far.lease(mac) for mac in macs}
    killed = pxe.dnsmasq_pid()
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    assert wait_for(lambda: pxe.dnsmasq_pid() not in {None, killed}, 8)
    assert wait_for(lambda: far.ask("discover", "02:00:00:05:03:00", seconds=0.5) is not None, 8)
    # Strangers come first: only what outlived the kill tells dnsmasq that the others are there.
    strangers = {far.lease(f"02:00:00:05:03:{number:02x}") for number in range(30)}

    assert strangers.isdisjoint(before.values())
    assert {mac: far.lease(mac) for mac in macs} == before


def test_a_machine_renews_without_the_relay(far: DhcpClient, network: Relayed) -> None:
    """Half way through its lease a machine asks the server itself, from its own address (RFC 2131, 4.4.5)."""
    mac = "02:00:00:05:02:01"
    address = far.lease(mac)
    with far.holding(network.far, address):
        answer = far.renew(mac, address, network.mac(network.relay, "rel1"))
    assert isinstance(answer, BOOTP)
    assert option(answer, "message-type") == 5
    assert answer.yiaddr == address


def test_a_machine_two_hops_away_boots_to_our_script(
    network: Relayed, ground: Bench, pxe: Pxe, tmp_path: Path
) -> None:
    with (
        receiver(network.near, ground.work) as received,
        booting.boot_files(network.near, ground) as asked,
        booting.machine(network.far, "far0", tmp_path, "uefi", FAR_MAC) as console,
    ):
        assert booting.await_script(asked, console, 150) == FAR_ADDRESS
        wanted = {"discover", "offer", "request", "ack", "tftp-sent"}
        assert wait_for(lambda: wanted <= set(received.kinds_of(FAR_MAC))), received
    assert "ALARM" not in pxe.text()
