"""When a real pxe process must not serve, it says why, what to do, and leaves nothing running."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.pxe_segment import CLIENT, SERVER, Segment, bench, inside, run, segment, wait_for
from tests.system.site_servers import stranger

pytestmark = pytest.mark.system


@pytest.fixture
def cable() -> Iterator[Segment]:
    with segment() as made:
        yield made


def refusal(cable: Segment, tmp_path: Path, **how: str) -> str:
    """Start pxe, expect it to end with status 1 and leave no process; return what it said."""
    with bench(tmp_path, **how) as ground:
        started = ground.start(cable)
        assert started.wait() == 1, started.text()
        assert wait_for(
            lambda: not [pid for pid in cable.pids(cable.server) if is_dnsmasq_of(pid, ground.runtime)]
        )
        assert not (ground.work / "run" / "pxe.pid").exists()
        return started.text()


def is_dnsmasq_of(pid: int, runtime: Path) -> bool:
    return str(runtime).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize("pinging", [("--no-ping",), ()], ids=["at once", "after three seconds"])
def test_another_dhcp_server_is_named_with_address_and_mac(
    cable: Segment, tmp_path: Path, pinging: tuple[str, ...]
) -> None:
    shown = run("ip", "-n", cable.client, "-brief", "link", "show", "cli0").stdout
    mac = shown.split()[2]
    with stranger(cable.client, "cli0", tmp_path, "--dhcp-range=10.77.0.200,10.77.0.220", *pinging):
        text = refusal(cable, tmp_path)
    assert f"another DHCP server answers on srv0: {CLIENT} (MAC {mac}), which offers 10.77.0.2" in text
    assert "mode: proxy" in text


def test_a_proxy_dhcp_server_is_named_too(cable: Segment, tmp_path: Path) -> None:
    options = ("--dhcp-range=10.77.0.0,proxy", "--pxe-service=7,x,x.efi", "--pxe-prompt=x,0")
    with stranger(cable.client, "cli0", tmp_path, *options):
        text = refusal(cable, tmp_path)
    assert CLIENT in text
    assert "which is a proxyDHCP server" in text


def test_another_dhcp_server_is_welcome_in_proxy_mode(cable: Segment, tmp_path: Path) -> None:
    with (
        stranger(cable.client, "cli0", tmp_path, "--dhcp-range=10.77.0.200,10.77.0.220"),
        bench(tmp_path, dhcp="{mode: proxy}") as ground,
    ):
        started = ground.start(cable)
        started.await_ready()
        assert started.end() == 0


def test_a_dhcp_server_of_this_computer_is_named_by_its_pid(cable: Segment, tmp_path: Path) -> None:
    with stranger(cable.server, "srv0", tmp_path, "--dhcp-range=10.77.0.200,10.77.0.220") as site:
        text = refusal(cable, tmp_path)
    assert f"pid {site.pid} (dnsmasq" in text
    assert "serves DHCP on srv0 already" in text


def test_the_free_segment_is_served_after_the_probe(cable: Segment, tmp_path: Path) -> None:
    with bench(tmp_path) as ground:
        started = ground.start(cable)
        started.await_ready()
        assert started.end() == 0


def test_sigterm_during_the_probe_ends_it_at_once(cable: Segment, tmp_path: Path) -> None:
    with bench(tmp_path) as ground:
        started = ground.start(cable)
        assert wait_for(lambda: "asking whether" in started.text())
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(2) == 0


def test_missing_interface_names_those_that_are_there(cable: Segment, tmp_path: Path) -> None:
    assert "appliance.interface: eth7 does not exist here; there are: srv0" in refusal(
        cable, tmp_path, interface="eth7"
    )


def test_missing_address_names_what_is_there_and_the_command(cable: Segment, tmp_path: Path) -> None:
    text = refusal(cable, tmp_path, address="10.77.0.5/24")
    assert f"it has {SERVER}/24; add it: ip address add 10.77.0.5/24 dev srv0" in text


def test_interface_that_is_down_names_the_command(cable: Segment, tmp_path: Path) -> None:
    run("ip", "-n", cable.server, "link", "set", "srv0", "down")
    assert "interface srv0 is down; bring it up: ip link set srv0 up" in refusal(cable, tmp_path)


def test_wrong_configuration_is_given_up_with_dnsmasqs_own_words(cable: Segment, tmp_path: Path) -> None:
    with bench(tmp_path) as ground:
        ground.conf.write_text("port=0\nno-such-option=1\n")
        started = ground.start(cable, "--no-probe")
        assert started.wait() == 1
        assert "ended with status 1 (its configuration is wrong)" in started.text()
        assert "bad option at line 2" in started.text()
        assert cable.pids(cable.server) == ()


def test_port_in_use_names_the_process_that_holds_it(cable: Segment, tmp_path: Path) -> None:
    with inside(cable.server), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind((SERVER, 69))
        with bench(tmp_path) as ground:
            started = ground.start(cable, "--no-probe")
            assert started.wait() == 1
            assert "Address already in use" in started.text()
            assert f"held by pid {os.getpid()} (" in started.text()


def test_work_folder_without_a_bundle_says_what_makes_one(cable: Segment, tmp_path: Path) -> None:
    with bench(tmp_path) as ground:
        (ground.work / "bundle" / "appliance" / "cluster.json").unlink()
        started = ground.start(cable, "--no-probe")
        assert started.wait() == 1
        assert "render it: deploy.py up" in started.text()
