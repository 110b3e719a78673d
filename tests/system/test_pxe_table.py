"""What every kind of firmware is told, asked of a real dnsmasq with the rendered configuration."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.packet import Packet

from bootstrap.render.firmware import TABLE, Firmware
from tests.system.pxe_segment import (
    KNOWN_MAC,
    SERVER,
    DhcpClient,
    Options,
    bench,
    boot_file,
    option,
    run,
    segment,
)

pytestmark = pytest.mark.system

GOLDEN = Path(__file__).parent / "golden" / "pxe-option-93.txt"
SCRIPT = f"http://{SERVER}:8080/boot.ipxe"
NOT_YET = f"http://{SERVER}:8080/http-boot-not-yet"
ARCHS = range(42)
WAYS = ("class and 93", "93 only", "class only", "neither", "list")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DhcpClient]:
    with segment() as cable, bench(tmp_path_factory.mktemp("table")) as ground:
        pxe = ground.start(cable, "--no-probe")
        pxe.await_ready()
        asker = DhcpClient(cable)
        yield asker
        asker.close()
        assert pxe.end() == 0, pxe.text()


def options_of(way: str, arch: int) -> Options:
    """Return what a machine of `arch` says of itself in that way."""
    kind = "HTTPClient" if arch in {15, 16, 17, 18, 19, 20} else "PXEClient"
    vendor_class = ("vendor_class_id", f"{kind}:Arch:{arch:05d}:UNDI:003016".encode())
    code = (93, arch.to_bytes(2, "big"))
    both = (93, arch.to_bytes(2, "big") + (0).to_bytes(2, "big"))
    ways: dict[str, Options] = {
        "class and 93": [vendor_class, code],
        "93 only": [code],
        "class only": [vendor_class],
        "neither": [],
        "list": [vendor_class, both],
    }
    return ways[way]


def told(row: Firmware) -> str:
    """Return the boot file of a row: UEFI HTTP boot is sent to a URL that is not there, and gives up at once."""
    return NOT_YET if row.name.startswith("http-") else row.loader or ""


def first_of_menu(offer: Packet) -> Options:
    """Return what a BIOS ROM sends that takes the first item of the offer's menu (PXE 2.1, section 2.2.3).

    Sub-option 9 of option 43 holds the menu, sub-option 71 the choice. UEFI gets no menu and says nothing.
    """
    vendor = option(offer, "vendor_specific")
    if not isinstance(vendor, bytes):
        return []
    item = vendor.split(b"firstlight")[0][-3:-1]
    return [(43, b"\x47\x04" + item + b"\x00\x00\xff")]


def test_every_option_93_gets_the_reply_of_the_golden_table(client: DhcpClient) -> None:
    rows = []
    for arch in ARCHS:
        for way in WAYS:
            mac = f"02:00:00:00:{arch:02x}:{WAYS.index(way):02x}"
            offer = client.ask("discover", mac, options_of(way, arch))
            assert offer is not None, (arch, way)
            rows.append(f"{arch:2d}  {way:12}  {boot_file(offer) or '-'}")

    assert "\n".join(rows) + "\n" == GOLDEN.read_text()


@pytest.mark.parametrize("way", ["class and 93", "93 only", "class only"])
def test_a_machine_gets_the_loader_of_its_row_and_of_no_other(client: DhcpClient, way: str) -> None:
    wanted = {arch: told(row) for row in TABLE for arch in row.archs}
    for arch in ARCHS:
        offer = client.ask("discover", f"02:00:00:01:{arch:02x}:00", options_of(way, arch))
        assert offer is not None
        assert boot_file(offer) == wanted.get(arch, ""), arch


@pytest.mark.parametrize(
    "said", [[(77, b"iPXE")], [(175, b"\x21\x01\x01")], [(77, b"iPXE"), (175, b"\x21\x01\x01")]]
)
def test_ipxe_is_told_the_script_whatever_the_firmware_below_it(client: DhcpClient, said: Options) -> None:
    for arch in (0, 6, 7, 9, 11, 16, 33):
        offer = client.ask("discover", "02:00:00:02:00:01", [*options_of("class and 93", arch), *said])
        assert offer is not None
        assert boot_file(offer) == SCRIPT, arch


def test_http_boot_is_answered_in_its_own_kind(client: DhcpClient) -> None:
    """UEFI HTTP boot ignores an offer whose option 60 is not HTTPClient (UEFI 2.10, 24.7.3)."""
    offer = client.ask("discover", "02:00:00:02:00:02", options_of("class and 93", 16))
    assert offer is not None
    assert option(offer, "vendor_class_id") == b"HTTPClient"


def test_the_boot_server_is_named_in_the_packet(client: DhcpClient) -> None:
    offer = client.ask("discover", KNOWN_MAC, options_of("class and 93", 0))
    assert offer is not None
    assert offer.siaddr == SERVER
    assert option(offer, "server_id") == SERVER


def test_in_proxy_mode_each_firmware_gets_its_loader_and_no_address(tmp_path: Path) -> None:
    with segment() as cable, bench(tmp_path, dhcp="{mode: proxy}") as ground:
        pxe = ground.start(cable)
        pxe.await_ready()
        client = DhcpClient(cable)
        shown = run("ip", "-n", cable.server, "-json", "link", "show", "srv0").stdout
        server_mac = shown.split('"address":"')[1][:17]
        uuid = (97, b"\0" + bytes(range(16)))
        try:
            for arch, loader in ((0, "undionly.kpxe"), (7, "snponly.efi"), (9, "snponly.efi")):
                said = [*options_of("class and 93", arch), uuid]
                mac = f"02:00:00:03:00:{arch:02x}"
                offer = client.ask("discover", mac, said)
                assert offer is not None
                assert offer.yiaddr == "0.0.0.0"
                answer = client.ask_boot_server(mac, [*said, *first_of_menu(offer)], server_mac)
                assert answer is not None
                assert boot_file(answer) == loader
            for arch in (0, 7, 9):
                said = [*options_of("class and 93", arch), uuid, (77, b"iPXE")]
                mac = f"02:00:00:03:01:{arch:02x}"
                offer = client.ask("discover", mac, said)
                assert offer is not None
                answer = client.ask_boot_server(mac, [*said, *first_of_menu(offer)], server_mac)
                assert answer is not None
                assert boot_file(answer) == SCRIPT
            assert client.ask("discover", "02:00:00:03:00:bb", seconds=1.0) is None
        finally:
            client.close()
        assert pxe.end() == 0, pxe.text()
