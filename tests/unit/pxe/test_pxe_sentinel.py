"""The sentinel's decisions, with answers made up."""

from ipaddress import IPv4Address
from typing import Literal

import pytest

from bootstrap.model import Appliance, Dhcp
from pxe.events import Event
from pxe.packets import Answer
from pxe.sentinel import MISSES, Sentinel, allowed_of
from tests import samples

OURS, SITE, ROGUE = (IPv4Address(f"10.77.0.{number}") for number in (1, 3, 66))
MAC = "02:00:00:00:00:03"


def answer(server: IPv4Address, mac: str = MAC, offered: str | None = "10.77.0.200") -> Answer:
    return Answer(server, mac, IPv4Address(offered) if offered else None)


class Segment:
    """What answers on the wire now, and what the sentinel made of it."""

    def __init__(self, *allowed: IPv4Address) -> None:
        self.answers: list[Answer] = []
        self.events: list[Event] = []
        self.sentinel = Sentinel(lambda: list(self.answers), allowed, self.events.append)

    def look(self, *answers: Answer) -> list[tuple[str, str, str]]:
        self.answers = list(answers)
        before = len(self.events)
        self.sentinel.look()
        return [(event.kind.value, event.address, event.mac) for event in self.events[before:]]


def appliance(dhcp: Dhcp) -> Appliance:
    return samples.cluster("lab").appliance.model_copy(update={"dhcp": dhcp})


def test_ours_and_the_sites_servers_are_no_alarm() -> None:
    assert Segment(OURS, SITE).look(answer(OURS), answer(SITE)) == []


def test_a_strange_server_is_reported_each_time_with_address_and_mac() -> None:
    segment = Segment(OURS)

    assert segment.look(answer(ROGUE)) == [("rogue-dhcp", str(ROGUE), MAC)]
    assert segment.look(answer(ROGUE, offered="10.77.0.9")) == [("rogue-dhcp", str(ROGUE), MAC)]
    assert f"{ROGUE} (MAC {MAC})" in segment.events[0].detail


def test_one_lost_packet_clears_nothing_and_silence_does() -> None:
    segment = Segment(OURS)
    segment.look(answer(ROGUE))
    for _ in range(MISSES - 1):
        assert segment.look() == []
    segment.look(answer(ROGUE))
    assert [segment.look() for _ in range(MISSES)][-1] == [("rogue-dhcp-gone", str(ROGUE), MAC)]
    assert segment.look() == []


def test_two_machines_that_call_themselves_the_same_are_two() -> None:
    found = Segment(OURS).look(answer(ROGUE), answer(ROGUE, mac="02:00:00:00:00:04"))

    assert [mac for _, _, mac in found] == [MAC, "02:00:00:00:00:04"]


@pytest.mark.parametrize("mode", ["proxy", "off"])
def test_beside_another_server_it_wants_to_know_which_one_is_right(mode: Literal["proxy", "off"]) -> None:
    assert allowed_of(appliance(Dhcp(mode=mode))) is None
    assert allowed_of(appliance(Dhcp(mode=mode, upstream=(SITE,)))) == frozenset({OURS, SITE})


def test_a_server_allows_nobody_beside_itself() -> None:
    assert allowed_of(appliance(Dhcp())) == frozenset({OURS})
