"""A strange DHCP server appears beside a running pxe: it is named within 70 s, and cleared once it is gone."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from bootstrap.model import Appliance
from pxe import interfaces, probe
from pxe.events import Event
from pxe.packets import Answer
from pxe.sentinel import PERIOD_SECONDS, Sentinel, allowed_of, hostname
from pxe.stop import Stop
from tests.system.pxe_receiver import Received, receiver
from tests.system.pxe_segment import SERVER, Bench, DhcpClient, Pxe, bench, inside, wait_for
from tests.system.relay_segment import SITE, Relayed, relayed
from tests.system.site_servers import Site, stranger

pytestmark = pytest.mark.system

LIMIT_SECONDS = 70.0
QUIET_ROUNDS = 10  # minutes of a real sentinel; here each is as long as its question
PATIENCE_SECONDS = 3.0  # a busy computer answers late too


@pytest.fixture(scope="module")
def network() -> Iterator[Relayed]:
    with relayed() as made:
        yield made


@contextmanager
def a_server(network: Relayed, folder: Path, *options: str) -> Iterator[Site]:
    folder.mkdir()
    with stranger(network.site, "site0", folder, "--dhcp-range=10.77.0.200,10.77.0.220", *options) as made:
        yield made


@pytest.fixture
def serving(network: Relayed, tmp_path: Path) -> Iterator[tuple[Bench, Pxe, Received]]:
    """A pxe as it runs on a rack, in mode server, with its own minute."""
    with bench(tmp_path) as ground, receiver(network.near, ground.work) as received:
        pxe = ground.start(network.near, "--no-probe")
        try:
            pxe.await_ready()
            yield ground, pxe, received
        finally:
            pxe.process.kill()
            pxe.process.wait()


def test_a_strange_server_is_named_within_seventy_seconds(
    network: Relayed, serving: tuple[Bench, Pxe, Received], tmp_path: Path
) -> None:
    _, pxe, received = serving
    time.sleep(
        probe.PATIENCE_SECONDS + 0.5
    )  # the worst moment: its first question has just been answered by nobody
    assert received == []

    with a_server(network, tmp_path / "rogue"):
        begun = time.monotonic()
        assert wait_for(lambda: bool(received), LIMIT_SECONDS), pxe.text()
        print(f"named after {time.monotonic() - begun:.1f} s")  # noqa: T201  # for the log of the run

    mac = network.mac(network.site, "site0")
    assert received[0]["kind"] == "rogue-dhcp"
    assert received[0]["mac"] == mac
    assert received[0]["server"] == SITE
    assert f"another DHCP server answers: {SITE} (MAC {mac})" in received[0]["detail"]
    assert f"ALARM: another DHCP server answers: {SITE} (MAC {mac})" in pxe.text()


class Watch:
    """A sentinel whose minutes pass as fast as its questions do; `events` is what it reported."""

    def __init__(self, network: Relayed, appliance: Appliance) -> None:
        self.events: list[Event] = []
        self.heard: list[frozenset[Answer]] = []
        with inside(network.near.server):
            interface = next(one for one in interfaces.interfaces() if one.name == "srv0")
        self._question = partial(probe.ask_all, interface, Stop(), PATIENCE_SECONDS, hostname())
        self._network = network
        self.sentinel = Sentinel(self._ask, allowed_of(appliance) or (), self.events.append)

    def _ask(self) -> frozenset[Answer]:
        with inside(self._network.near.server):
            self.heard.append(self._question())
        return self.heard[-1]

    def look(self, times: int = 1) -> list[str]:
        """Look so many times; return the kinds of what was reported meanwhile."""
        before = len(self.events)
        for _ in range(times):
            self.sentinel.look()
        return [event.kind.value for event in self.events[before:]]


def test_ten_quiet_minutes_have_no_alarm(network: Relayed, serving: tuple[Bench, Pxe, Received]) -> None:
    """Our own server answers machines meanwhile, and the sentinel hears nothing that is not for it."""
    ground, _, received = serving
    watch = Watch(network, ground.cluster.appliance)
    machine = DhcpClient(network.near, "near0")
    for number in range(QUIET_ROUNDS):
        assert machine.ask("discover", f"02:00:00:07:00:{number:02x}") is not None
        assert watch.look() == []
    machine.close()
    assert {event["kind"] for event in received} <= {"discover", "offer"}
    assert PERIOD_SECONDS + probe.PATIENCE_SECONDS < LIMIT_SECONDS


def test_the_sites_own_server_is_no_alarm_and_a_second_one_is(network: Relayed, tmp_path: Path) -> None:
    (tmp_path / "proxy").mkdir()
    with (
        bench(tmp_path / "proxy", dhcp=f"{{mode: proxy, upstream: [{SITE}]}}") as ground,
        a_server(network, tmp_path / "site", "--no-ping"),
    ):
        watch = Watch(network, ground.cluster.appliance)
        assert watch.look(QUIET_ROUNDS) == []
        assert all(IPv4Address(SITE) in {answer.server for answer in heard} for heard in watch.heard)
        (tmp_path / "second").mkdir()
        with stranger(network.near.client, "near0", tmp_path / "second", "--dhcp-range=10.77.0.0,proxy",
                      "--pxe-service=7,x,x.efi", "--pxe-prompt=x,0"):  # fmt: skip
            assert watch.look() == ["rogue-dhcp"]
    assert watch.events[0].address == "10.77.0.2"
    assert "which is a proxyDHCP server" in watch.events[0].detail


def test_an_alarm_is_repeated_while_it_stands_and_cleared_when_it_is_gone(
    network: Relayed, tmp_path: Path
) -> None:
    with bench(tmp_path) as ground:
        watch = Watch(network, ground.cluster.appliance)
        with a_server(network, tmp_path / "rogue", "--no-ping"):
            assert watch.look(2) == ["rogue-dhcp", "rogue-dhcp"]
        assert watch.look() == [], "one question may get lost"
        assert watch.look() == ["rogue-dhcp-gone"]
        assert watch.look() == []
    assert watch.events[-1].detail == f"the DHCP server {SITE} (MAC {watch.events[0].mac}) answers no more"
    assert SERVER not in {event.address for event in watch.events}
