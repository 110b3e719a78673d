"""One machine is accepted once, whoever else accepts it at that moment: another appliance, a pool, an operator."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.web.fakes import W3
from tests.unit.web.looking import LookingRack, matching
from tests.unit.web.test_web_shared import two
from web import accepting

W7 = {"pool": "workers", "name": "w7"}
W8 = {"pool": "workers", "name": "w8"}
OWN = "m-525400aa0003"


def before_the_first(name: str, act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `act` done between what the first call of a function of web/accepting.py returns, and its caller."""
    real, done = getattr(accepting, name), list[bool]()

    def meanwhile(*words: Any) -> Any:
        found = real(*words)
        if not done:
            done.append(True)
            act()
        return found

    monkeypatch.setattr(accepting, name, meanwhile)


@pytest.fixture
def racks() -> tuple[LookingRack, LookingRack]:
    one, other = two(LookingRack)
    assert isinstance(one, LookingRack)
    assert isinstance(other, LookingRack)
    one.found(W3)
    return one, other


def test_a_machine_that_two_appliances_accept_at_once_has_one_name_and_one_arm(
    racks: tuple[LookingRack, LookingRack], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = racks
    first: list[Any] = []
    before_the_first("_entry", lambda: first.append(other.accept(**W7)), monkeypatch)

    late = one.accept(**W8)

    assert first[0].status_code == 200
    assert late.status_code == 409
    assert f"{W3} has been accepted as w7 into pool workers meanwhile" in late.json["reason"]
    record = one.record(W3)
    assert (record.name, record.arm) == ("w7", first[0].json["arm"])
    assert [machine.name for machine in one.site.accepted()] == ["w7"]
    assert one.site.cluster.machine("w7") is not None


def test_the_very_same_acceptance_twice_is_one_and_both_are_told_so(
    racks: tuple[LookingRack, LookingRack], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = racks
    first: list[Any] = []
    before_the_first("_entry", lambda: first.append(other.accept(**W7)), monkeypatch)

    late = one.accept(**W7)

    assert (first[0].status_code, late.status_code) == (200, 200)
    assert late.json["arm"] == first[0].json["arm"] == one.record(W3).arm
    accepts = [event for event in one.site.ledger.events_of(W3) if event.what == "accepted"]
    assert len(accepts) == 1


def test_a_machine_that_its_pool_accepts_while_an_operator_does_keeps_the_first_arm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one process, where the operator's handler has read the stranger before it holds the lock."""
    rack = LookingRack()
    rack.found(W3)
    rack.cluster = matching(accepts=True, manufacturer="Maker")
    rack.site.load()
    arms: list[str | None] = []

    def found_again() -> None:
        rack.found(W3)
        arms.append(rack.record(W3).arm)

    before_the_first("stranger_called", found_again, monkeypatch)

    late = rack.accept(**W8)

    assert late.status_code == 409
    assert f"accepted as {OWN} into pool workers meanwhile" in late.json["reason"]
    assert (rack.record(W3).name, rack.record(W3).arm) == (OWN, arms[0])


def test_a_stranger_that_is_gone_when_its_turn_comes_is_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    rack = LookingRack()
    rack.found(W3)
    gone = rack.site.strangers.gone(W3)
    before_the_first("stranger_called", lambda: rack.site.store.commit(gone), monkeypatch)

    late = rack.accept(**W7)

    assert late.status_code == 409
    assert f"{W3} is not waiting any more" in late.json["reason"]
    assert rack.site.ledger.machine(W3) is None


def test_a_machine_that_the_configuration_has_come_to_list_is_left_to_it(
    racks: tuple[LookingRack, LookingRack], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = racks
    plain = one.cluster.model_dump(mode="json", by_alias=True, exclude_none=True)
    plain["machines"].append({"name": "w9", "mac": W3, "pool": "spare"})

    def listed() -> None:
        one.cluster = type(one.cluster).model_validate(plain)
        one.site.load()

    before_the_first("stranger_called", listed, monkeypatch)

    late = one.accept(**W7)

    assert late.status_code == 409
    assert f"{W3} is listed as w9 by now" in late.json["reason"]
    assert one.record(W3).name == "w9"
