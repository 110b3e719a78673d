"""What every kind of firmware is told, asked of a real dnsmasq with the rendered configuration."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from scapy.packet import Packet

from bootstrap.render.firmware import NO_LOADER, TABLE, Firmware
from tests.system.pxe_segment import (
    KNOWN_MAC,
    SERVER,
    DhcpClient,
    Options,
    Pxe,
    Segment,
    bench,
    boot_file,
    option,
    run,
    segment,
    wait_for,
)

pytestmark = pytest.mark.system

GOLDEN = Path(__file__).parent / "golden" / "pxe-option-93.txt"
BASE = f"http://{SERVER}:8080"
SCRIPT = f"{BASE}/boot.ipxe"
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
    """Return the boot file of a row; HTTP boot without one is sent to a URL that is not there, and gives up at once."""
    return row.boot_file(BASE) or (f"{BASE}/{NO_LOADER}" if row.is_http else "")


def first_of_menu(offer: Packet) -> Options:
    """Return what a BIOS ROM sends that takes the first item of the offer's menu (PXE 2.1, section 2.2.3).

    Sub-option 9 of option 43 holds the menu, sub-option 71 the choice. UEFI gets no menu and says nothing.
    """
    vendor = option(offer, "vendor_specific")
    if not isinstance(vendor, bytes):
        return []
    item = vendor.split(b"firstlight")[0][-3:-1]
    return [(43, b"\x47\x04" + item + b"\x00\x00\xff")]


def questions(mark: str) -> dict[str, tuple[int, str]]:
    """Return architecture and way for a MAC each; `mark` is a byte in hex that tells runs apart."""
    return {
        f"02:00:00:{mark}:{arch:02x}:{number:02x}": (arch, way)
        for arch in ARCHS
        for number, way in enumerate(WAYS)
    }


def replies(client: DhcpClient, mark: str, asks_boot_server: str = "") -> dict[tuple[int, str], str]:
    """Return what each architecture is told in each way: a boot file, `-` for none, `silence` for no answer.

    With the MAC `asks_boot_server`, an offer without a file is followed up at port 4011, as firmware does.
    """
    asked = questions(mark)
    uuid = (97, b"\0" + bytes(range(16)))
    said: dict[str, Options] = {mac: [*options_of(way, arch), uuid] for mac, (arch, way) in asked.items()}
    offers = client.ask_all(said)
    found = {}
    for mac, key in asked.items():
        offer = offers.get(mac)
        file = "silence" if offer is None else boot_file(offer) or "-"
        if offer is not None and file == "-" and asks_boot_server:
            answer = client.ask_boot_server(mac, [*said[mac], *first_of_menu(offer)], asks_boot_server)
            file = f"4011: {boot_file(answer) or '-'}" if answer else "4011: silence"
        found[key] = file
    return found


def test_every_option_93_gets_the_reply_of_the_golden_table(
    client: DhcpClient, tmp_path: Path, *, update_golden: bool
) -> None:
    columns = [replies(client, "10")]
    for mode in ("proxy", "off"):
        (tmp_path / mode).mkdir()
        with segment() as cable, bench(tmp_path / mode, dhcp=f"{{mode: {mode}}}") as ground:
            pxe = ground.start(cable)
            pxe.await_ready()
            asker = DhcpClient(cable)
            columns.append(replies(asker, "11", mac_of(cable)))
            asker.close()
            assert_named(pxe, mode)
            assert pxe.end() == 0, pxe.text()
    rows = [
        f"{arch:2d}  {way:12}  " + "  ".join(f"{column[arch, way]:40}" for column in columns)
        for arch, way in columns[0]
    ]
    head = f"93  {'said':12}  " + "  ".join(f"{mode:40}" for mode in ("server", "proxy", "off"))
    text = "".join(f"{row.rstrip()}\n" for row in (head, *rows))
    if update_golden:
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def assert_named(pxe: Pxe, mode: str) -> None:
    """Every kind that we do not know is named in the log: nobody guesses, and nobody keeps it from the operator."""
    known = {arch for row in TABLE for arch in row.archs}
    strange = [arch for arch in ARCHS if arch not in known] if mode == "proxy" else []
    for arch in strange:
        remark = f"firmware of a kind (architecture {arch}) that is not in our table"
        assert wait_for(partial(says, pxe, remark)), arch


def says(pxe: Pxe, text: str) -> bool:
    return text in pxe.text()


def mac_of(cable: Segment) -> str:
    """Return the server's MAC."""
    shown = run("ip", "-n", cable.server, "-json", "link", "show", "srv0").stdout
    return shown.split('"address":"')[1][:17]


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


@pytest.mark.parametrize("arch", [15, 16, 19])
def test_http_boot_is_answered_in_its_own_kind(client: DhcpClient, arch: int) -> None:
    """UEFI HTTP boot ignores an offer whose option 60 is not HTTPClient (UEFI 2.10, 24.7.3)."""
    offer = client.ask("discover", "02:00:00:02:00:02", options_of("class and 93", arch))
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
        server_mac = mac_of(cable)
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
                offer = client.ask("discover", f"02:00:00:03:01:{arch:02x}", said)
                assert offer is not None
                assert boot_file(offer) == SCRIPT
                assert offer.siaddr == SERVER  # with both, iPXE asks for nothing more
            assert client.ask("discover", "02:00:00:03:00:bb", seconds=1.0) is None
        finally:
            client.close()
        assert pxe.end() == 0, pxe.text()
