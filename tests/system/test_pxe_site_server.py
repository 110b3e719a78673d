"""Mode off: a site's own server, set up by what `dhcp-options` prints, sends every machine to us."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from bootstrap.render.firmware import TABLE
from bootstrap.render.site_dhcp import site_options
from tests.system import booting
from tests.system.booting import Asked
from tests.system.pxe_receiver import receiver
from tests.system.pxe_segment import (
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
from tests.system.relay_bench import asking, running
from tests.system.relay_segment import SITE, Relayed, relayed
from tests.system.site_servers import SERVERS, Site
from tests.system.test_pxe_table import options_of

pytestmark = pytest.mark.system

BASE = f"http://{SERVER}:8080"
SCRIPT = f"{BASE}/boot.ipxe"
WAYS = ("class and 93", "93 only", "class only")


@pytest.fixture(scope="module")
def network() -> Iterator[Relayed]:
    with relayed() as made:
        yield made


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("off"), dhcp=f"{{mode: off, upstream: [{SITE}]}}") as made:
        yield made


@pytest.fixture(scope="module")
def pxe(network: Relayed, ground: Bench) -> Iterator[Pxe]:
    with running(ground, network) as started:
        yield started


@pytest.fixture(scope="module")
def asked(network: Relayed, ground: Bench) -> Iterator[Asked]:
    with booting.boot_files(network.near, ground) as made:
        yield made


@pytest.fixture(scope="module", params=sorted(SERVERS))
def site(
    request: pytest.FixtureRequest, network: Relayed, ground: Bench, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A server of each kind, with what we print for it and nothing else of ours."""
    folder = tmp_path_factory.mktemp(request.param)
    folder.chmod(0o755)
    run_server: Any = SERVERS[request.param]
    with run_server(network.site, "site0", folder, site_options(ground.cluster, request.param)) as made:
        yield made


@pytest.fixture
def client(network: Relayed, site: Site) -> Iterator[DhcpClient]:
    assert site.pid
    with asking(network, "near") as made:
        yield made


def told(client: DhcpClient, mac: str, said: Options) -> tuple[str, str, object]:
    """Return file, next-server and vendor class of the one offer to a machine that says this."""
    offers = client.ask_each(mac, [*said, ("param_req_list", [1, 3, 60, 66, 67])], seconds=0.25)
    assert [option(offer, "server_id") for offer in offers] == [SITE]
    return boot_file(offers[0]), str(offers[0].siaddr), option(offers[0], "vendor_class_id")


@pytest.mark.parametrize("way", WAYS)
def test_every_kind_is_told_its_loader_and_no_other(client: DhcpClient, way: str) -> None:
    for row in TABLE:
        for arch in row.archs:
            file, server, kind = told(client, f"02:00:00:06:00:{arch:02x}", options_of(way, arch))
            assert file == (row.boot_file(BASE) or ""), (arch, way)
            assert server == SERVER or not row.loader
            # UEFI HTTP boot looks only at answers of its own kind (UEFI 2.10, 24.7.3.1).
            assert not (row.is_http and row.loader) or kind == b"HTTPClient", (arch, way)


@pytest.mark.parametrize("arch", [1, 8, 17, 33])
def test_a_kind_that_nobody_knows_is_not_guessed(client: DhcpClient, arch: int) -> None:
    assert told(client, f"02:00:00:06:01:{arch:02x}", options_of("class and 93", arch))[0] == ""


@pytest.mark.parametrize("arch", [0, 7, 9])
def test_ipxe_is_told_the_script_by_every_server(client: DhcpClient, arch: int) -> None:
    said = [*options_of("class and 93", arch), (77, b"iPXE")]
    assert told(client, f"02:00:00:06:02:{arch:02x}", said)[:2] == (SCRIPT, SERVER)


def test_who_does_not_boot_is_told_no_file(client: DhcpClient) -> None:
    assert told(client, "02:00:00:06:03:01", [])[0] == ""


@pytest.mark.usefixtures("ground")
def test_a_real_machine_boots_by_the_printed_text(
    network: Relayed, site: Site, pxe: Pxe, asked: Asked, tmp_path: Path
) -> None:
    """UEFI takes both of its steps (loader, then script); with dnsmasq a BIOS machine takes the one it has."""
    asked.clear()
    firmware: Literal["bios", "uefi"] = "bios" if site.leases.name == "stranger.leases" else "uefi"
    mac = "52:54:00:77:06:01"
    with booting.machine(network.near, "near0", tmp_path, firmware, mac) as console:
        address = booting.await_script(asked, console, 150)
    assert address.startswith("10.77.0.2")
    assert pxe.process.poll() is None


@pytest.mark.usefixtures("pxe")
def test_real_uefi_http_boot_follows_the_printed_text(
    network: Relayed, site: Site, asked: Asked, tmp_path: Path
) -> None:
    asked.clear()
    with booting.machine(network.near, "near0", tmp_path, "uefi-http", "52:54:00:77:06:02") as console:
        booting.await_script(asked, console, 150)
    assert site.pid
    assert asked.by("/loader/ipxe-x86_64.efi")


def test_the_machines_tftp_is_told_to_web_in_mode_off_too(
    network: Relayed, ground: Bench, pxe: Pxe, tmp_path: Path
) -> None:
    with receiver(network.near, ground.work) as received:
        done = network.near.in_client(
            "curl", "-sS", "-o", str(tmp_path / "loader"), f"tftp://{SERVER}/snponly.efi"
        )
        assert done.returncode == 0, done.stderr
        mac = network.mac(network.near.client, "near0")
        assert wait_for(lambda: "tftp-sent" in received.kinds_of(mac), 15), (received, pxe.text())
