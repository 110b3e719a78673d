"""What a virtual machine of the rack is: its disks, its first boot by both firmwares, and its power driver."""

import copy
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.lab import console, probe, qmp
from bootstrap.lab.rack import Rack
from bootstrap.lab.requirements import find_ovmf
from bootstrap.lab.ssh import ensure_lab_key, key_file
from bootstrap.model import Cluster
from bootstrap.power import PowerState, Target
from bootstrap.switching import switch
from tests.system.lab_rack import DOCUMENT, pid_of, rack_in, wait_for

pytestmark = pytest.mark.system

BOOT_SECONDS = 240.0  # under TCG, while everything else on this computer is busy
SNPONLY = Path("/usr/lib/ipxe/snponly.efi")


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    it = rack_in(tmp_path)
    yield it
    it.down()


@pytest.mark.parametrize("name", ["b1", "u1"])
def test_every_bus_is_there_with_its_serial(rack: Rack, name: str) -> None:
    rack.up()
    rack.power_on(name)
    with qmp.opened(rack.console(name).parent / "qmp.sock") as monitor:
        shown = str(monitor.execute("human-monitor-command", **{"command-line": "info qtree"}))

    for serial in ("root", "fast", "wide"):
        assert f'serial = "{serial}"' in shown


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_probe_boot_tells_what_works(firmware: str) -> None:
    ovmf = find_ovmf() if firmware == "uefi" else None

    assert probe.boots("tcg", ovmf, BOOT_SECONDS)
    assert not probe.boots("tcg", ovmf, 0.001)


def test_a_kvm_that_stops_at_firmware_is_not_chosen(rack: Rack) -> None:
    """Where /dev/kvm is such a one, and where it works: what is chosen runs, on each machine."""
    rack.up()
    for name in ("b1", "u1"):
        rack.power_on(name)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        states = rack.states()
        assert [states["b1"], states["u1"]] == [PowerState.ON] * 2
        time.sleep(1)


def test_lab_key_is_made_once_and_private(tmp_path: Path) -> None:
    public = ensure_lab_key(tmp_path)
    private = key_file(tmp_path)

    assert public.startswith("ssh-ed25519 ")
    assert "\n" not in public
    assert ensure_lab_key(tmp_path) == public
    assert private.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in private.parent.iterdir()] == ["id_ed25519"]


# A boot sector that says DISK on the first serial port and halts: mov dx, 0x3f8; then mov al, X; out dx, al.
SAYS_DISK = (
    b"\xba\xf8\x03" + b"".join(bytes((0xB0, letter, 0xEE)) for letter in b"\nDISK\n") + b"\xf4\xeb\xfd"
)

DNSMASQ = """\
port=0
interface=eth0
bind-interfaces
no-ping
log-dhcp
dhcp-range=10.77.0.100,10.77.0.120,1h
dhcp-match=set:efi64,option:client-arch,7
dhcp-userclass=set:ipxe,iPXE
dhcp-boot=tag:efi64,tag:!ipxe,snponly.efi
dhcp-boot=tag:ipxe,http://10.77.0.1:8080/boot.ipxe
enable-tftp
"""


@pytest.fixture
def served(rack: Rack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A DHCP, TFTP and HTTP server of the test's own in the rack; yields the log of the first two."""
    rack.up()
    folder = tmp_path_factory.mktemp("served")
    shutil.copy(SNPONLY, folder)
    (folder / "boot.ipxe").write_text("#!ipxe\necho the lab says hello\nexit 1\n")
    (folder / "dnsmasq.conf").write_text(
        f"{DNSMASQ}tftp-root={folder}\ndhcp-leasefile={folder}/leases\nlog-facility={folder}/log\nuser=root\n"
    )
    dnsmasq = ("dnsmasq", "--keep-in-foreground", f"--conf-file={folder}/dnsmasq.conf")
    http = (sys.executable, "-m", "http.server", "8080", "--directory", str(folder))
    with (
        subprocess.Popen(rack.in_namespace(dnsmasq)) as first,
        (folder / "http").open("wb") as quiet,
        subprocess.Popen(rack.in_namespace(http), stdout=quiet, stderr=quiet) as second,
    ):
        wait_for((folder / "log").exists, lambda: "dnsmasq did not start", 20)
        yield folder / "log"
        first.terminate()
        second.terminate()


def test_bios_machine_asks_the_network_first_though_its_disk_boots(
    rack: Rack, served: Path, tmp_path: Path
) -> None:
    with (tmp_path / "lab" / "b1" / "root.raw").open("r+b") as disk:
        disk.write(SAYS_DISK.ljust(510, b"\0") + b"\x55\xaa")
    rack.power_on("b1")

    def said() -> str:
        return console.tail(rack.console_log("b1"), 200)

    wait_for(lambda: "\nDISK" in said(), lambda: said() + served.read_text(), BOOT_SECONDS)

    assert "PXEClient:Arch:00000" in served.read_text()
    assert "user class: iPXE" in served.read_text()
    assert said().index("the lab says hello") < said().index("\nDISK")


def test_uefi_machine_asks_the_network_first_and_fetches_the_loader(rack: Rack, served: Path) -> None:
    rack.power_on("u1")

    def said() -> str:
        return console.tail(rack.console_log("u1"), 200)

    wait_for(lambda: "the lab says hello" in said(), lambda: said() + served.read_text(), BOOT_SECONDS)

    log = served.read_text()
    assert "PXEClient:Arch:00007" in log
    assert "snponly.efi to 10.77.0." in log
    assert log.index("Arch:00007") < log.index("snponly.efi to") < log.index("user class: iPXE")


def test_the_lab_driver_presses_the_same_buttons(rack: Rack, tmp_path: Path) -> None:
    machine = {"name": "b1", "mac": "52:54:00:fe:00:01", "pool": "workers", "power": {"driver": "lab"}}
    cluster = Cluster.model_validate({**copy.deepcopy(DOCUMENT), "machines": [machine]})
    target = Target(machine=cluster.machines[0], cluster=cluster, base=tmp_path, work=tmp_path)
    rack.up()
    pids = []
    for action, state in (
        ("status", "off"),
        ("cycle", "on"),
        ("on", "on"),
        ("cycle", "on"),
        ("netboot", "on"),
    ):
        outcome = switch([target], action)[0]
        assert (outcome.state, outcome.error) == (state, "")
        assert rack.states()["b1"] == state
        pids.append(pid_of(rack, "b1") if state == "on" else 0)

    _, first, same, second, last = pids
    assert first == same != second == last
    assert switch([target], "off")[0].state is PowerState.OFF
    assert rack.states()["b1"] is PowerState.OFF


def test_the_lab_driver_says_that_the_lab_is_down(tmp_path: Path) -> None:
    machine = {"name": "b1", "mac": "52:54:00:fe:00:01", "pool": "workers", "power": {"driver": "lab"}}
    cluster = Cluster.model_validate({**copy.deepcopy(DOCUMENT), "machines": [machine]})
    target = Target(machine=cluster.machines[0], cluster=cluster, base=tmp_path, work=tmp_path)

    outcome = switch([target], "on")[0]

    assert outcome.error.startswith("b1: ")
    assert "the lab is down (lab up builds it)" in outcome.error
