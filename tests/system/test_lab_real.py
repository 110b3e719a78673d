"""The rack, for real: namespaces, QEMU, what is mended; what is left afterwards is nothing."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bootstrap.errors import LabError
from bootstrap.lab import network
from bootstrap.lab.rack import Rack
from bootstrap.power import PowerState
from bootstrap.processes import is_gone
from tests.system.lab_rack import NAME, NAMESPACE, output, pid_of, rack_in, wait_for

pytestmark = pytest.mark.system


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    it = rack_in(tmp_path)
    yield it
    it.down()


def traces(work: Path) -> list[str]:
    """What a rack may have left behind outside its work folder."""
    found = [line for line in output("ip", "netns", "list").splitlines() if NAMESPACE in line]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if NAMESPACE in line]
    found += [line for line in output("ip", "-br", "link").splitlines() if "fe00" in line.split()[0]]
    found += [str(path) for path in Path("/run").rglob(f"*{NAME}*")]
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
            if str(work) in command or NAMESPACE in command or (folder / "cwd").readlink() == work:
                found.append(f"{folder.name}: {command}")
    return found


def test_up_and_down_twice_leave_nothing_and_keep_disks(rack: Rack, tmp_path: Path) -> None:
    for _ in range(2):
        rack.up()
        rack.power_on("b1")
        assert rack.states() == {"b1": PowerState.ON, "u1": PowerState.OFF}
        rack.down()
        assert rack.states() == {"b1": PowerState.OFF, "u1": PowerState.OFF}
    rack.down()

    assert traces(tmp_path) == []
    assert not list(tmp_path.rglob("*.sock"))
    assert not list(tmp_path.rglob("*.pid"))
    assert (tmp_path / "lab" / "b1" / "root.raw").stat().st_size == 64 * 1024**2


def test_up_leaves_running_machines_and_written_disks_alone(rack: Rack, tmp_path: Path) -> None:
    rack.up()
    disk = tmp_path / "lab" / "b1" / "root.raw"
    with disk.open("r+b") as file:
        file.write(b"installed")
    rack.power_on("b1")
    before = pid_of(rack, "b1")

    rack.up()
    rack.power_on("b1")

    assert pid_of(rack, "b1") == before
    assert disk.read_bytes()[:9] == b"installed"


def test_nothing_leaves_the_namespace(rack: Rack) -> None:
    rack.up()
    inside = output(*rack.in_namespace(("ip", "-br", "link"))).splitlines()
    routes = output(*rack.in_namespace(("ip", "route"))).splitlines()
    forwarding = output(*rack.in_namespace(("cat", "/proc/sys/net/ipv4/ip_forward")))
    attempt = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"
    outward = subprocess.run(
        rack.in_namespace((sys.executable, "-c", attempt)), check=False, capture_output=True, text=True
    )

    assert [line.split()[0] for line in inside] == ["lo", "eth0", "tap525400fe0001", "tap525400fe0002"]
    assert [route.split()[:3] for route in routes] == [["10.77.0.0/24", "dev", "eth0"]]
    assert forwarding.strip() == "0"
    assert "Network is unreachable" in outward.stderr


@pytest.fixture
def neighbour(rack: Rack) -> Iterator[tuple[str, ...]]:
    """A computer on the rack's bridge, in a namespace of its own with IPv6 on; yields how to run commands there."""
    rack.up()
    other = f"{NAMESPACE}-neighbour"
    output("ip", "netns", "add", other)
    try:
        output(
            "ip",
            "-n",
            NAMESPACE,
            "link",
            "add",
            "cable",
            "type",
            "veth",
            "peer",
            "name",
            "card",
            "netns",
            other,
        )
        output("ip", "-n", NAMESPACE, "link", "set", "cable", "master", "eth0", "up")
        yield ("ip", "netns", "exec", other)
    finally:
        output("ip", "netns", "del", other)


def test_who_asks_for_an_ipv6_router_is_told_that_there_is_none(neighbour: tuple[str, ...]) -> None:
    """The kernel of a neighbour asks as its card comes up; tcpdump reads the answer and finds its checksum right."""
    listen = (*neighbour, "tcpdump", "-nnvv", "-i", "card", "-c", "1", "icmp6 and ip6[40] == 134")
    with subprocess.Popen(listen, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tcpdump:
        output(*neighbour, "ip", "link", "set", "card", "up")
        said, _ = tcpdump.communicate(timeout=60)
    routes = output(*neighbour, "ip", "-6", "route", "show", "default")
    addresses = output(*neighbour, "ip", "-6", "-br", "address", "show", "card").split()

    assert "router advertisement" in said
    assert "[icmp6 sum ok]" in said
    assert "router lifetime 0s" in said
    assert "" == routes
    assert ["fe80"] == [address.partition("::")[0] for address in addresses[2:]]


def test_bridge_forwards_at_once_and_says_whose_it_is(rack: Rack, tmp_path: Path) -> None:
    rack.up()
    shown = output("ip", "-n", NAMESPACE, "-d", "link", "show", "eth0")

    assert "forward_delay 0 " in shown
    assert "stp_state 0 " in shown
    assert "mcast_snooping 0 " in shown
    assert f"alias {tmp_path}" in shown


def test_killed_machine_is_off_and_can_be_switched_on_again(rack: Rack, tmp_path: Path) -> None:
    rack.up()
    rack.power_on("b1")
    os.kill(pid_of(rack, "b1"), signal.SIGKILL)
    wait_for(lambda: rack.states()["b1"] is PowerState.OFF, lambda: "still on", 10)
    rack.power_on("b1")
    assert rack.states()["b1"] is PowerState.ON
    os.kill(pid_of(rack, "b1"), signal.SIGKILL)

    rack.down()

    assert traces(tmp_path) == []


def test_hanging_qemu_is_unknown_and_still_switched_off(rack: Rack, tmp_path: Path) -> None:
    rack.up()
    rack.power_on("b1")
    pid = pid_of(rack, "b1")
    os.kill(pid, signal.SIGSTOP)
    assert rack.states()["b1"] is PowerState.UNKNOWN

    rack.power_off("b1")

    assert is_gone(pid)
    rack.down()
    assert traces(tmp_path) == []


def test_cycle_is_a_new_qemu_and_switches_on_what_is_off(rack: Rack) -> None:
    rack.up()
    rack.cycle("b1")
    before = pid_of(rack, "b1")
    rack.cycle("b1")

    assert pid_of(rack, "b1") != before
    assert rack.states()["b1"] is PowerState.ON


def test_down_ends_every_process_of_the_namespace(rack: Rack, tmp_path: Path) -> None:
    rack.up()
    stubborn = ("sh", "-c", "trap '' TERM; while :; do sleep 1; done", NAMESPACE)
    with subprocess.Popen(rack.in_namespace(stubborn), start_new_session=True) as process:
        wait_for(lambda: process.pid in network.pids_in(rack._network), lambda: "did not start", 10)
        rack.down()
        assert is_gone(process.pid)

    assert traces(tmp_path) == []


@pytest.mark.parametrize(
    "damage",
    [
        ("touch", f"/run/netns/{NAMESPACE}"),
        ("ip", "netns", "add", NAMESPACE),
        ("sh", "-c", f"ip netns add {NAMESPACE} && umount /run/netns/{NAMESPACE}"),
    ],
    ids=["plain-file", "no-bridge", "unmounted"],
)
def test_half_made_namespace_is_completed_and_removed(
    rack: Rack, tmp_path: Path, damage: Sequence[str]
) -> None:
    output("mkdir", "-p", "/run/netns")
    output(*damage)
    rack.up()
    assert "10.77.0.1/24" in output("ip", "-n", NAMESPACE, "-br", "address")
    rack.down()
    output("mkdir", "-p", "/run/netns")
    output(*damage)

    rack.down()

    assert traces(tmp_path) == []


def test_damaged_network_is_repaired(rack: Rack) -> None:
    rack.up()
    output("ip", "-n", NAMESPACE, "link", "del", "tap525400fe0001")
    output("ip", "-n", NAMESPACE, "address", "flush", "dev", "eth0")
    output("ip", "-n", NAMESPACE, "link", "set", "eth0", "down")

    rack.up()

    rack.power_on("b1")
    assert "10.77.0.1/24" in output("ip", "-n", NAMESPACE, "-br", "address", "show", "eth0")
    assert "master eth0" in output("ip", "-n", NAMESPACE, "link", "show", "tap525400fe0001")


def test_rack_of_another_work_folder_is_refused_and_not_touched(rack: Rack, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    stranger = rack_in(other)
    rack.up()

    with pytest.raises(LabError, match=f"is the rack of another run, in {tmp_path}\n"):
        stranger.up()
    stranger.down()

    assert "10.77.0.1/24" in output("ip", "-n", NAMESPACE, "-br", "address")


def test_changed_configuration_moves_the_address_and_switches_off_what_left(
    rack: Rack, tmp_path: Path
) -> None:
    rack.up()
    rack.power_on("b1")
    pid = pid_of(rack, "b1")

    def smaller(document: dict[str, Any]) -> None:
        document["appliance"]["address"] = "10.77.0.2/24"
        del document["lab"]["machines"][0]

    rack_in(tmp_path, smaller).up()

    assert is_gone(pid)
    assert "10.77.0.2/24" in output("ip", "-n", NAMESPACE, "-br", "-4", "address")
    assert "10.77.0.1/24" not in output("ip", "-n", NAMESPACE, "-br", "-4", "address")
    assert "tap525400fe0001" not in output("ip", "-n", NAMESPACE, "-br", "link")


def test_machine_is_not_switched_on_without_a_network(rack: Rack) -> None:
    with pytest.raises(LabError, match="the lab is down"):
        rack.power_on("b1")


def test_disks_are_not_destroyed_under_a_running_machine(rack: Rack, tmp_path: Path) -> None:
    rack.up()
    rack.power_on("b1")
    with pytest.raises(LabError, match="switch off first: b1"):
        rack.destroy_disks()
    rack.power_off("b1")
    rack.destroy_disks()

    assert not (tmp_path / "lab" / "b1").exists()
