"""TFTP that differs from machine to machine: the real dnsmasq, in.tftpd, nft and kernel, and clients by hand."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.system.pxe_receiver import receiver
from tests.system.pxe_segment import SERVER_MODE, Bench, Pxe, Segment, bench, run, segment, wait_for
from tests.system.tftp_clients import ERROR, OACK, PORT, Rom

pytestmark = pytest.mark.system

LOADER = "undionly.kpxe"
BYTES = Path("/usr/lib/ipxe", LOADER).read_bytes()
STRANGER = "52:54:00:99:00:01"
WAYS = {  # of the machines w2 and following
    "plain": "{options: none}",
    "capped": "{maxBlockSize: 1024}",
    "small": "{maxBlockSize: 512}",
    "single": "{singlePort: true}",
    "plain-single": "{options: none, singlePort: true}",
    "usual": "{options: all}",
    "far": "{options: none}",
}
MACS = {name: f"52:54:00:77:01:{number:02x}" for number, name in enumerate(WAYS)}
MACHINES = "".join(
    f'  - {{name: {name}, mac: "{MACS[name]}", pool: workers, tftp: {tftp}'
    f"{', address: 10.78.0.9' if name == 'far' else ''}}}\n"
    for name, tftp in WAYS.items()
)
FAR_NETWORK = "{subnet: 10.78.0.0/24, gateway: 10.78.0.1}"
MODE = SERVER_MODE.removesuffix("}") + f", subnets: [{FAR_NETWORK}]}}"


@pytest.fixture(name="cable", scope="module")
def fixture_cable() -> Iterator[Segment]:
    with segment() as made:
        yield made


@contextmanager
def machine(cable: Segment, mac: str, address: str) -> Iterator[Segment]:
    """Plug in one more machine, with a MAC and an address of its own, until it is taken away again."""
    name = f"{cable.client}-{mac.replace(':', '')}"
    run("ip", "netns", "add", name)
    try:
        for words in (
            f"-n {cable.client} link add link cli0 name more0 address {mac} type macvlan mode bridge",
            f"-n {cable.client} link set more0 netns {name} name cli0",
            f"-n {name} address add {address}/24 dev cli0",
            f"-n {name} link set cli0 up",
        ):
            run("ip", *words.split())
        yield replace(cable, client=name)
    finally:
        run("ip", "netns", "delete", name, check=False)


@contextmanager
def started(ground: Bench, cable: Segment) -> Iterator[Pxe]:
    """Run the real pxe until it is told to end."""
    made = ground.start(cable, "--no-probe")
    try:
        made.await_ready()
        yield made
        assert made.end() == 0, made.text()
    finally:
        made.process.kill()
        made.process.wait()


def deaf(**more: int) -> Rom:
    """Return a client that asks for block size and file size, and never acknowledges that it got them."""
    return Rom(options={"blksize": 1400, "tsize": 0, **more}, obeys_options=False, seconds=9.0)


def tables(cable: Segment) -> str:
    """Return the tables of nftables on the server's side."""
    return run("ip", "netns", "exec", cable.server, "nft", "list", "tables").stdout


def servers(cable: Segment) -> list[str]:
    """Return the user of each in.tftpd on the server's side."""
    found = []
    for pid in cable.pids(cable.server):
        folder = Path(f"/proc/{pid}")
        if folder.exists() and (folder / "comm").read_text() == "in.tftpd\n":
            found.append((folder / "status").read_text().partition("Uid:")[2].split()[0])
    return found


def test_who_is_deaf_to_an_oack_gets_its_loader_the_second_time_and_nobody_else_notices(
    cable: Segment, tmp_path: Path
) -> None:
    with bench(tmp_path, dhcp=MODE) as ground, machine(cable, STRANGER, "10.77.0.50") as stranger:
        with started(ground, cable) as pxe, receiver(cable, ground.work) as received:
            others, stop = [], threading.Event()

            def boot_others() -> None:
                while not stop.wait(0.3):
                    usual = Rom(options={"tsize": 0, "blksize": 1468})
                    others.append((usual.fetch(cable, LOADER) == BYTES, usual.longest))

            thread = threading.Thread(target=boot_others)
            thread.start()
            try:
                first, second = deaf(), deaf()
                assert first.fetch(stranger, LOADER) is None
                assert set(first.seen) == {OACK}
                assert second.fetch(stranger, LOADER) == BYTES, pxe.text()
                assert (second.longest, OACK in second.seen) == (512, False)
            finally:
                stop.set()
                thread.join()
            assert len(others) >= 5
            assert set(others) == {(True, 1368)}
            assert wait_for(lambda: received.kinds_of(STRANGER) == ["tftp-oack-unheard", "tftp-sent"]), (
                received
            )
            assert received[-1]["detail"] == f"{LOADER} without options" or len(received) > 2
            assert f"{STRANGER}: tftp-sent: {LOADER} without options" in pxe.text()

        assert tables(cable) == ""
        assert servers(cable) == []
        with started(ground, cable):
            again = deaf()
            assert again.fetch(stranger, LOADER) == BYTES
            assert again.longest == 512


def test_what_a_killed_pxe_left_and_what_a_firewall_took_away_is_made_good(
    cable: Segment, tmp_path: Path
) -> None:
    with bench(tmp_path, dhcp=MODE) as ground, machine(cable, STRANGER, "10.77.0.50") as stranger:
        (ground.work / "run").mkdir(exist_ok=True)
        (ground.work / "run" / "tftp-learned").write_text(f"{2**31} {STRANGER}\n")
        killed = ground.start(cable, "--no-probe")
        killed.await_ready()
        assert deaf().fetch(stranger, LOADER) == BYTES
        unheard = Rom(hears=1, seconds=0.5)
        assert unheard.fetch(stranger, LOADER) is None
        assert sorted(servers(cable)) == ["0", "65534"], "each request is read by nobody"
        killed.process.send_signal(signal.SIGKILL)
        killed.wait()
        assert wait_for(lambda: servers(cable) == []), "its guard ends in.tftpd, with what was under way"
        assert "firstlight_tftp_srv0" in tables(cable)

        with started(ground, cable) as pxe:
            assert servers(cable) == ["0"]
            assert deaf().fetch(stranger, LOADER) == BYTES
            run("ip", "netns", "exec", cable.server, "nft", "flush", "ruleset")
            assert deaf().fetch(stranger, LOADER) is None
            assert deaf().fetch(stranger, LOADER) == BYTES, pxe.text()
        assert tables(cable) == ""


@pytest.mark.parametrize(
    "mode", [MODE, "{mode: off, subnets: [{subnet: 10.78.0.0/24}]}"], ids=["server", "off"]
)
def test_a_machine_of_the_configuration_gets_it_its_way_the_first_time(
    cable: Segment, tmp_path: Path, mode: str
) -> None:
    usual = Rom(options={"tsize": 0, "blksize": 1468})
    clients = {
        "plain": (deaf(windowsize=4, timeout=1), 512),
        "capped": (replace(usual, blocks=[], seen=[]), 1024),
        "small": (Rom(options={"blksize": 1400}, obeys_options=False), 512),
        "single": (Rom(options={"tsize": 0, "blksize": 1468}, hears=PORT), 1368),
        "plain-single": (replace(deaf(), hears=PORT, blocks=[], seen=[]), 512),
        "usual": (replace(usual, blocks=[], seen=[]), 1368),
    }
    machines = MACHINES.replace(", address: 10.78.0.9", "") if mode != MODE else MACHINES
    with bench(tmp_path, dhcp=mode, machines=machines) as ground, started(ground, cable) as pxe:
        for number, (name, (client, block)) in enumerate(clients.items()):
            with machine(cable, MACS[name], f"10.77.0.{60 + number}") as one:
                silent = replace(client, has_checksums=False, blocks=[], seen=[])
                for each in (client, silent):
                    assert each.fetch(one, LOADER) == BYTES, (name, each.seen, pxe.text())
                    assert each.longest == block, name
                assert Rom().fetch(one, f"/{LOADER}") == BYTES, name
                missing = Rom(seconds=1.0)
                assert missing.fetch(one, "../../../etc/hostname") is None
                assert set(missing.seen) <= {ERROR}, name


def test_behind_a_router_the_address_says_who_it_is(cable: Segment, tmp_path: Path) -> None:
    far = f"{cable.client}-far"
    run("ip", "netns", "add", far)
    try:
        for words in (
            f"-n {cable.client} link add rtr0 type veth peer name cli0 netns {far}",
            f"-n {cable.client} address add 10.78.0.1/24 dev rtr0",
            f"-n {cable.client} link set rtr0 up",
            f"-n {far} address add 10.78.0.9/24 dev cli0",
            f"-n {far} link set cli0 up",
            f"-n {far} route add default via 10.78.0.1",
            f"-n {cable.server} route add 10.78.0.0/24 via 10.77.0.2",
            f"netns exec {cable.client} sysctl -qw net.ipv4.ip_forward=1",
        ):
            run("ip", *words.split())
        with bench(tmp_path, dhcp=MODE, machines=MACHINES) as ground, started(ground, cable) as pxe:
            behind = replace(cable, client=far)
            assert deaf().fetch(behind, LOADER) == BYTES, pxe.text()
            for words in (
                "address delete 10.78.0.9/24 dev cli0",
                "address add 10.78.0.8/24 dev cli0",
                "route replace default via 10.78.0.1",
            ):
                run("ip", "-n", far, *words.split())
            assert deaf().fetch(behind, LOADER) is None
            assert deaf().fetch(behind, LOADER) == BYTES, pxe.text()
            usual = Rom(options={"tsize": 0, "blksize": 1468})
            assert usual.fetch(cable, LOADER) == BYTES, "the router itself is no machine"
            assert usual.longest == 1368
            assert json.dumps((ground.work / "run" / "tftp-learned").read_text()).endswith(' 10.78.0.8\\n"')
    finally:
        run("ip", "netns", "delete", far, check=False)
        run("ip", "-n", cable.client, "link", "delete", "rtr0", check=False)
        run("ip", "-n", cable.server, "route", "delete", "10.78.0.0/24", check=False)
