"""Two hops away, behind a router that relays DHCP: UEFI HTTP boot to a system on the disk, without TFTP; and arm64."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system import booting
from tests.system.arm64_loader import arm64_loader
from tests.system.install_rack import Rack, appliance
from tests.system.pxe_segment import wait_for
from tests.system.relay_segment import FAR_ADDRESS, FAR_MAC, SUBNETS, Relayed, relayed

pytestmark = pytest.mark.system

RELAYED = f"{{mode: server, range: [10.77.0.150, 10.77.0.199], subnets: {SUBNETS}}}"
ARM64_MAC, ARM64_ADDRESS = "52:54:00:77:0a:01", "10.77.0.102"
LISTED = [
    f'{{name: w1, mac: "{FAR_MAC}", pool: workers, address: {FAR_ADDRESS}, disk: {{select: {{serial: virtio-w1}}}}}}',
    f'{{name: a1, mac: "{ARM64_MAC}", pool: workers, address: {ARM64_ADDRESS}}}',
]
ARM64_SECONDS = 240.0  # 20 where processors are idle


@pytest.fixture(scope="module", name="network")
def fixture_network() -> Iterator[Relayed]:
    with relayed() as made:
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
    network: Relayed, count: Callable[[str], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rack]:
    """The machine two hops away is switched on."""
    assert count("udp port 69") == 0
    folder = tmp_path_factory.mktemp("install")
    loader = arm64_loader()
    digest = hashlib.sha256(loader.read_bytes()).hexdigest()
    pxe = f"{{loader: {{httpArm64: {{path: {loader}, sha256: {digest}}}}}}}"
    with appliance(network, folder, RELAYED, LISTED, pxe) as made:
        yield made


@pytest.fixture(scope="module", name="console")
def fixture_console(network: Relayed, rack: Rack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    assert rack.operator.is_ready()
    folder = tmp_path_factory.mktemp("w1")
    with booting.machine(network.far, "far0", folder, "uefi-http", FAR_MAC, name="w1", has_disk=True) as made:
        yield made


@pytest.mark.usefixtures("console")
def test_an_arm64_machine_reaches_our_script_and_is_told_why_it_waits(
    network: Relayed, rack: Rack, tmp_path: Path
) -> None:
    """Real firmware (AAVMF) and a real loader, by HTTP; there is no image for it. Meanwhile the other one installs."""
    with booting.arm64_machine(network.near, "near0", tmp_path, ARM64_MAC, name="a1") as console:
        reason = "a1 is armed, but the image of pool workers is for x86-64 machines, and this one is arm64"
        seen = wait_for(lambda: reason in console.read_text(errors="replace"), ARM64_SECONDS)
        assert seen, rack.story([console])

    boot = next(event for event in rack.events("a1") if event["what"] == "network-boot")
    assert ("wait", reason) == (boot["decision"], boot["reason"])
    asked = [line for line in rack.text("log/nginx-access.log").splitlines() if ARM64_ADDRESS in line]
    assert ["GET /ipxe?", "arch=arm64"] == [
        part for part in ("GET /ipxe?", "arch=arm64") if any(part in line for line in asked)
    ]
    assert any("GET /loader/ipxe-arm64.efi HTTP/1.1" in line for line in asked)


def test_a_machine_two_hops_away_is_installed_by_http_alone(
    rack: Rack, console: Path, count: Callable[[str], int]
) -> None:
    rack.await_installed({"w1": console})
    machine = rack.operator.machine("w1")

    assert ("installed", "uefi", 1) == (machine["state"], machine["firmware"], machine["attempts"])
    assert FAR_ADDRESS == machine["address"]
    assert count("udp port 67") > 0
    assert 0 == count("udp port 69")
    log = rack.text("log/nginx-access.log")
    assert f'"address":"{FAR_ADDRESS}","listener":"public","request":"GET /loader/ipxe-x86_64.efi' in log
    assert "ALARM" not in rack.text("pxe.log")
