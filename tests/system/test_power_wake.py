"""Wake-on-LAN for machines behind a router: the magic packet arrives in their network, where routers let it pass."""

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from bootstrap.config import dump, parse_dump
from bootstrap.power import Deadline, Target
from bootstrap.power.wake_on_lan import COPIES, magic_packet
from bootstrap.switching import attempt
from tests.power_targets import target_of
from tests.system.pxe_segment import CLIENT, inside, run
from tests.system.relay_segment import FAR_ADDRESS, FAR_NETWORK, FAR_ROUTER, Relayed, relayed

pytestmark = pytest.mark.system

PORT = 9
SECONDS = 3.0


@pytest.fixture(scope="module", name="networks")
def fixture_networks() -> Iterator[Relayed]:
    with relayed() as made:
        yield made


def target(tmp_path: Path, address: str | None) -> Target:
    """Return a machine with this reserved address, in a cluster with a network behind a router."""
    made = target_of({"driver": "wake-on-lan"}, tmp_path)
    tree = json.loads(dump(made.cluster))
    tree["appliance"]["dhcp"]["subnets"] = [{"subnet": FAR_NETWORK, "gateway": FAR_ROUTER}]
    machine = made.machine.model_copy(update={"address": IPv4Address(address) if address else None})
    return replace(made, cluster=parse_dump(json.dumps(tree).encode()), machine=machine)


def heard(networks: Relayed, where: str, waking: Target) -> list[bytes]:
    """Switch a machine on from our side; return what a card in a namespace hears of it."""
    with inside(where):
        ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with ear:
        with inside(where):
            ear.bind(("", PORT))
        ear.settimeout(SECONDS)
        with inside(networks.near.server):
            assert attempt(waking, "on", Deadline.after(5)) == ("unknown", "", "")
        found: list[bytes] = []
        while len(found) < COPIES:
            try:
                found.append(ear.recv(2048))
            except TimeoutError:
                break
        return found


def let_pass(networks: Relayed, *, directed: bool) -> None:
    """Have the router beside the machines forward directed broadcasts, or not: routers do not unless told to."""
    for name in ("all", "rel0"):
        setting = f"net.ipv4.conf.{name}.bc_forwarding={int(directed)}"
        run("ip", "netns", "exec", networks.relay, "sysctl", "-qw", setting)


@pytest.mark.parametrize("address", [FAR_ADDRESS, None])
def test_a_machine_behind_a_router_is_woken(networks: Relayed, tmp_path: Path, address: str | None) -> None:
    waking = target(tmp_path, address)
    let_pass(networks, directed=True)

    assert heard(networks, networks.far.client, waking) == [magic_packet(waking.machine.mac)] * COPIES


def test_a_router_that_was_not_told_keeps_the_packet(networks: Relayed, tmp_path: Path) -> None:
    let_pass(networks, directed=False)

    assert heard(networks, networks.far.client, target(tmp_path, FAR_ADDRESS)) == []


@pytest.mark.parametrize("address", [CLIENT, None])
def test_a_machine_beside_us_is_woken_as_before(
    networks: Relayed, tmp_path: Path, address: str | None
) -> None:
    waking = target(tmp_path, address)

    assert heard(networks, networks.near.client, waking) == [magic_packet(waking.machine.mac)] * COPIES
