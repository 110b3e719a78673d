"""From power-on to a system on the disk beside a site's DHCP server, which gives the addresses and is left alone."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bootstrap.model.lab import VmFirmware
from tests.system import booting
from tests.system.install_rack import Rack, appliance
from tests.system.pxe_segment import SERVER
from tests.system.relay_bench import SITE_ADDRESSES, left_alone
from tests.system.relay_segment import SITE, Relayed, relayed
from tests.system.site_servers import Site

pytestmark = pytest.mark.system

MACHINES: dict[str, tuple[VmFirmware, str]] = {
    "w1": ("bios", "52:54:00:77:09:01"),
    "w2": ("uefi", "52:54:00:77:09:02"),
}
LISTED = [
    f'{{name: {name}, mac: "{mac}", pool: workers, disk: {{select: {{serial: virtio-{name}}}}}}}'
    for name, (_, mac) in MACHINES.items()
]
OUR_ADDRESSES = f"udp src port 67 and src host {SERVER} and udp[24:4] != 0"
OUR_ANSWERS = f"udp src port 67 and src host {SERVER} and udp[24:4] = 0"
"""Byte 16 of a DHCP message, behind UDP's eight, is yiaddr: the address that it gives (RFC 2131, section 2)."""


@pytest.fixture(scope="module", name="network")
def fixture_network() -> Iterator[Relayed]:
    with relayed() as made:
        yield made


@pytest.fixture(scope="module", name="site")
def fixture_site(network: Relayed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with left_alone(network, tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture(scope="module", name="count")
def fixture_count(
    network: Relayed, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], int]]:
    """Count the packets of a filter on our cable."""
    file = tmp_path_factory.mktemp("wire") / "wire.pcap"
    with booting.captured(network.near.server, "srv0", file) as made:
        yield made


@pytest.fixture(scope="module", name="rack")
def fixture_rack(
    network: Relayed, site: Site, count: Callable[[str], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rack]:
    """Both machines are switched on together, and run from their disks."""
    assert site.pid
    assert count("udp port 4011") == 0
    folder = tmp_path_factory.mktemp("install")
    dhcp = f"{{mode: proxy, upstream: [{SITE}]}}"
    with appliance(network, folder, dhcp, LISTED) as rack, ExitStack() as stack:
        consoles: dict[str, Path] = {}
        for name, (firmware, mac) in MACHINES.items():
            one = booting.machine(
                network.near, "near0", folder / name, firmware, mac, name=name, has_disk=True
            )
            consoles[name] = stack.enter_context(one)
        rack.await_installed(consoles)
        yield rack


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_is_installed_with_an_address_of_the_site(rack: Rack, site: Site, name: str) -> None:
    firmware, mac = MACHINES[name]
    machine = rack.operator.machine(name)

    assert ("installed", firmware, 1) == (machine["state"], machine["firmware"], machine["attempts"])
    assert machine["address"].startswith(SITE_ADDRESSES["near"])
    assert f"{mac} {machine['address']} " in site.leases.read_text()


def test_the_site_was_asked_for_addresses_by_the_machines_alone(rack: Rack, site: Site) -> None:
    """Its leases show nothing of ours, and it was the right one all the time."""
    held = {line.split()[1] for line in site.leases.read_text().splitlines()}

    assert held == {mac for _, mac in MACHINES.values()}
    assert "ALARM" not in rack.text("pxe.log")


def test_we_told_where_to_boot_and_gave_no_address(rack: Rack, count: Callable[[str], int]) -> None:
    assert rack.runs_from_its_disk("w2")
    assert count(OUR_ANSWERS) > 0
    assert count("udp dst port 4011") > 0
    assert count(OUR_ADDRESSES) == 0
