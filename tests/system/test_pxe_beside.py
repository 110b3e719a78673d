"""Beside a site's DHCP server that is left alone: it gives the addresses, we say where to boot."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from scapy.packet import Packet

from bootstrap.model.lab import VmFirmware
from tests.system import booting
from tests.system.booting import Asked
from tests.system.pxe_receiver import Received, receiver
from tests.system.pxe_segment import (
    CLIENT,
    SERVER,
    Bench,
    DhcpClient,
    Options,
    Pxe,
    bench,
    boot_file,
    option,
    wait_for,
)
from tests.system.relay_bench import SITE_ADDRESSES, Place, asking, left_alone, running, wire
from tests.system.relay_segment import FAR_HOST, SITE, Relayed, relayed
from tests.system.site_servers import Site
from tests.system.test_pxe_table import first_of_menu, options_of

pytestmark = pytest.mark.system

PROXY = f"{{mode: proxy, upstream: [{SITE}], subnets: [{{subnet: 10.78.0.0/24}}]}}"
SCRIPT = f"http://{SERVER}:8080/boot.ipxe"
UUID = (97, b"\0" + bytes(range(16)))
STRANGE, HTTP_IN_VAIN = options_of("class and 93", 33), options_of("class and 93", 15)


class Boot(NamedTuple):
    """A machine to switch on."""

    firmware: VmFirmware
    place: Place
    mac: str


@pytest.fixture(scope="module")
def network() -> Iterator[Relayed]:
    """Our cable with the site's server on it, and a network whose relay asks that server and us."""
    with relayed(relays_to=(SERVER, SITE)) as made:
        yield made


@pytest.fixture(scope="module")
def site(network: Relayed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with left_alone(network, tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("beside"), dhcp=PROXY) as made:
        yield made


@pytest.fixture(scope="module")
def received(network: Relayed, ground: Bench) -> Iterator[Received]:
    with receiver(network.near, ground.work) as made:
        yield made


@pytest.fixture(scope="module")
def pxe(network: Relayed, ground: Bench, site: Site, received: Received) -> Iterator[Pxe]:
    assert site.pid
    assert received == []
    with running(ground, network) as started:
        yield started


@pytest.fixture(scope="module")
def asked(network: Relayed, ground: Bench) -> Iterator[Asked]:
    with booting.boot_files(network.near, ground) as made:
        yield made


@pytest.fixture(scope="module", params=["near", "far"])
def client(request: pytest.FixtureRequest, network: Relayed, pxe: Pxe) -> Iterator[DhcpClient]:
    assert pxe.process.poll() is None
    with asking(network, request.param) as made:
        yield made


def offers(client: DhcpClient, mac: str, options: Options) -> dict[str, Packet]:
    """Return all offers to a DISCOVER, by the server that made them."""
    return {str(option(offer, "server_id")): offer for offer in client.ask_each(mac, options)}


@pytest.mark.parametrize(("arch", "loader"), [(0, "undionly.kpxe"), (7, "snponly.efi"), (9, "snponly.efi")])
def test_the_site_gives_the_address_and_we_the_loader(
    client: DhcpClient, network: Relayed, arch: int, loader: str
) -> None:
    mac = f"02:00:00:04:00:{arch:02x}"
    said = [*options_of("class and 93", arch), UUID]
    found = offers(client, mac, said)

    assert found.keys() == {SERVER, SITE}
    assert found[SITE].yiaddr != "0.0.0.0"
    assert boot_file(found[SITE]) == ""
    assert found[SERVER].yiaddr == "0.0.0.0"
    assert option(found[SERVER], "vendor_class_id") == b"PXEClient"
    source, router = (
        (FAR_HOST, router_mac(network)) if client.interface == "far0" else (CLIENT, our_mac(network))
    )
    answer = client.ask_boot_server(mac, [*said, *first_of_menu(found[SERVER])], router, source)
    assert answer is not None
    assert boot_file(answer) == loader


def our_mac(network: Relayed) -> str:
    return network.mac(network.near.server, "srv0")


def router_mac(network: Relayed) -> str:
    return network.mac(network.relay, "rel1")


@pytest.mark.parametrize("arch", [0, 7, 9, 11])
def test_ipxe_is_sent_to_the_script_by_the_first_answer(client: DhcpClient, arch: int) -> None:
    said = [*options_of("class and 93", arch), UUID, (77, b"iPXE")]
    offer = offers(client, f"02:00:00:04:01:{arch:02x}", said)[SERVER]

    assert boot_file(offer) == SCRIPT
    assert offer.siaddr == SERVER


@pytest.mark.parametrize(("arch", "name"), [(16, "ipxe-x86_64.efi"), (19, "ipxe-arm64.efi")])
def test_uefi_http_boot_is_sent_to_our_loader_by_the_first_answer(
    client: DhcpClient, arch: int, name: str
) -> None:
    """It knows no port 4011, and looks only at offers whose option 60 is HTTPClient (UEFI 2.10, 24.7.3.1)."""
    found = offers(client, f"02:00:00:04:05:{arch:02x}", [*options_of("class and 93", arch), UUID])

    assert found.keys() == {SERVER, SITE}
    assert boot_file(found[SERVER]) == f"http://{SERVER}:8080/loader/{name}"
    assert option(found[SERVER], "vendor_class_id") == b"HTTPClient"
    assert found[SERVER].yiaddr == "0.0.0.0"
    assert boot_file(found[SITE]) == ""


@pytest.mark.parametrize(
    "said", [[], STRANGE, HTTP_IN_VAIN], ids=["no firmware", "strange firmware", "HTTP boot in vain"]
)
def test_who_gets_no_loader_of_us_is_left_to_the_site(client: DhcpClient, said: Options) -> None:
    assert offers(client, "02:00:00:04:02:01", said).keys() == {SITE}


def test_a_kind_that_is_not_in_the_table_is_told_to_web(client: DhcpClient, received: Received) -> None:
    mac = f"02:00:00:04:03:{len(client.interface):02x}"
    offers(client, mac, [*STRANGE, UUID])

    assert wait_for(lambda: received.kinds_of(mac) == ["discover", "no-loader"]), received
    told = next(event for event in received if event["mac"] == mac and event["kind"] == "no-loader")
    assert told["detail"] == (
        "firmware of a kind (architecture 33) that is not in our table: it gets no loader"
    )


@pytest.mark.parametrize(
    "boot",
    [
        Boot("bios", "near", "52:54:00:77:04:01"),
        Boot("uefi", "near", "52:54:00:77:04:02"),
        Boot("uefi", "far", "52:54:00:77:04:03"),
        Boot("uefi-http", "near", "52:54:00:77:04:04"),
    ],
    ids=lambda boot: f"{boot.firmware}-{boot.place}",
)
@pytest.mark.usefixtures("pxe")
def test_a_machine_boots_to_our_script_with_an_address_of_the_site(
    network: Relayed, site: Site, asked: Asked, tmp_path: Path, boot: Boot
) -> None:
    asked.clear()
    with (
        booting.captured(network.near.server, "srv0", tmp_path / "wire.pcap") as count,
        booting.machine(*wire(network, boot.place), tmp_path, boot.firmware, boot.mac) as console,
    ):
        address = booting.await_script(asked, console, 150)
        assert count("udp port 67") > 0
        assert (count("udp port 69") > 0) == (boot.firmware == "uefi")

    assert f"{boot.mac} {address} " in site.leases.read_text()
    assert address.startswith(SITE_ADDRESSES[boot.place])
    assert bool(asked.by("/loader/ipxe-x86_64.efi")) == (boot.firmware == "uefi-http")


def test_the_sites_leases_show_nothing_of_ours(pxe: Pxe, site: Site, network: Relayed) -> None:
    """The sentinel only asks; neither it nor we ever take an address."""
    assert wait_for(lambda: "client provides name: firstlight-sentinel" in site.log.read_text(), 10)
    held = site.leases.read_text() if site.leases.exists() else ""
    assert {line.split()[1][:11] for line in held.splitlines()} <= {"52:54:00:77"}
    assert our_mac(network) not in held
    assert "ALARM" not in pxe.text()
