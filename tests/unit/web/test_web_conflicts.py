"""Machines that say what others say, or not what they said: in conflict, shown, resolved by the operator only."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootstrap.states import ON_DISK, State
from tests.unit.web.conftest import Rack
from tests.unit.web.fakes import W1, W2, W3, cluster

ONE, TWO = "4c4c4544-0051-3310-8051-b4c04f4a4d32", "5d5d4544-0051-3310-8051-b4c04f4a4d32"
ZERO = "00000000-0000-0000-0000-000000000000"
EIGHT = [f"52:54:00:ee:00:{n:02x}" for n in range(1, 9)]


@pytest.fixture(name="eight")
def fixture_eight() -> Rack:
    return Rack(cluster=cluster(*({"name": f"e{n}", "mac": mac} for n, mac in enumerate(EIGHT, 1))))


def states(rack: Rack, macs: list[str]) -> list[str]:
    return [str(rack.record(mac).state) for mac in macs]


def test_eight_machines_with_one_uuid_are_in_conflict_and_no_write_is_granted(eight: Rack) -> None:
    first = eight.boot(EIGHT[0], uuid=ONE)
    for mac in EIGHT[1:]:
        assert "is conflict: uuid" in eight.boot(mac, uuid=ONE)

    assert "installing e1" in first
    assert states(eight, EIGHT) == ["conflict"] * 8
    assert eight.begin(EIGHT[0]).status_code == 409
    shown = eight.machine("e3")
    assert f"uuid {ONE} is also that of e1 ({EIGHT[0]})" in shown["reason"]
    assert "machine accept e3 --resolve" in shown["nextStep"]
    assert [event.what for event in eight.site.ledger.events_of(EIGHT[2])].count("conflict") == 1
    assert eight.operator("POST", "/v1/machines/e3/arm").status_code == 409


def test_a_uuid_of_zeros_is_shared_by_all_and_a_conflict_of_none(eight: Rack) -> None:
    for mac in EIGHT:
        assert "installing" in eight.boot(mac, uuid=ZERO, serial="To be filled by O.E.M.")

    assert states(eight, EIGHT) == ["armed"] * 8


def test_a_second_machine_with_the_mac_of_another_is_a_conflict_of_both(rack: Rack) -> None:
    assert "installing w1" in rack.boot(uuid=ONE)

    assert "w1 is conflict: its uuid was" in rack.boot(uuid=TWO)
    assert "w1 is conflict" in rack.boot(uuid=ONE)
    assert rack.begin().status_code == 409


def test_the_installer_of_another_machine_gets_no_grant(rack: Rack) -> None:
    """It fetched the script under w1's address, but its own firmware says another UUID."""
    rack.boot(uuid=ONE)

    refused = rack.begin(facts={"uuid": TWO})

    assert refused.status_code == 409
    assert "its uuid was" in (refused.json or {})["reason"]
    assert rack.record().state is State.CONFLICT


def test_a_machine_on_its_disk_goes_on_and_shows_the_contradiction(rack: Rack) -> None:
    rack.boot(uuid=ONE)
    rack.tell("complete")

    assert "w1 is installed" in rack.boot(uuid=TWO)
    assert "w1 is installed" in rack.boot(uuid=TWO)
    shown = rack.machine("w1")
    assert shown["state"] == "installed"
    assert "in conflict: its uuid was" in shown["message"]
    assert "machine accept w1 --resolve" in shown["message"]
    assert [event.what for event in rack.site.ledger.events_of(W1)].count("conflict") == 1


def test_one_that_boots_with_the_uuid_of_a_running_one_waits_and_the_other_runs(rack: Rack) -> None:
    rack.boot(uuid=ONE)
    rack.tell("complete")

    assert "w2 is conflict" in rack.boot(W2, uuid=ONE)
    assert rack.record().state is State.INSTALLED
    assert "w2" in rack.machine("w1")["message"]


def test_an_unlisted_machine_moves_no_listed_one(rack: Rack) -> None:
    rack.boot(uuid=ONE)
    rack.boot(W3, uuid=ONE)

    assert "installing w1" in rack.boot(uuid=ONE)
    (stranger,) = (rack.operator("GET", "/v1/machines").json or {})["strangers"]
    assert (stranger["state"], stranger["reason"]) == ("conflict", f"uuid {ONE} is also that of w1 ({W1})")


def test_resolving_arms_nothing_and_the_shared_value_counts_no_more(rack: Rack) -> None:
    rack.boot(uuid=ONE)
    rack.boot(W2, uuid=ONE)
    assert states(rack, [W1, W2]) == ["conflict", "conflict"]

    without = rack.operator("POST", "/v1/machines/w1/accept", json={})
    assert without.status_code == 409
    resolved = rack.operator("POST", "/v1/machines/w1/accept", json={"resolve": True})

    assert (resolved.status_code, (resolved.json or {})["state"]) == (200, "accepted")
    assert "w1 is accepted" in rack.boot(uuid=ONE)
    rack.operator("POST", "/v1/machines/w1/arm")
    assert "installing w1" in rack.boot(uuid=ONE)
    assert rack.record(W2).state is State.CONFLICT
    again = rack.operator("POST", "/v1/machines/w1/accept", json={"resolve": True})
    assert again.status_code == 409


def test_a_restart_of_the_appliance_forgets_no_claim(rack: Rack) -> None:
    rack.boot(uuid=ONE)
    rack.tell("complete")

    again = Rack(store=rack.store, cluster=rack.cluster)

    assert "w2 is conflict" in again.boot(W2, uuid=ONE)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    boots=st.lists(
        st.tuples(st.sampled_from([W1, W2]), st.sampled_from(["", ZERO, "x", ONE, TWO])), max_size=12
    )
)
def test_whatever_order_they_come_in_no_write_is_granted_after_a_contradiction(
    boots: list[tuple[str, str]],
) -> None:
    rack = Rack(cluster=cluster({"name": "w1", "mac": W1}, {"name": "w2", "mac": W2}))
    said: dict[str, list[str]] = {W1: [], W2: []}
    for mac, uuid in boots:
        rack.boot(mac, uuid=uuid)
        if uuid in {ONE, TWO} - set(said[mac]):
            said[mac].append(uuid)

    are_one = bool(said[W1]) and said[W1][:1] == said[W2][:1]
    for mac in (W1, W2):
        assert rack.record(mac).state not in ON_DISK
        is_wrong = are_one or len(said[mac]) > 1
        assert rack.begin(mac).status_code == (409 if is_wrong else 200)
        assert (rack.record(mac).state is State.CONFLICT) == is_wrong
