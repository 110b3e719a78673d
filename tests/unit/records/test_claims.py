"""Binding a key, joining, renewing, quarantine: what each does to a machine's record, in every state."""

from datetime import UTC, datetime, timedelta

import pytest

from bootstrap.records import claims, transitions
from bootstrap.records.ledger import Change
from bootstrap.records.model import Claim, MachineRecord
from bootstrap.records.transitions import Refused
from bootstrap.states import ON_DISK, State

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY, OTHER = "a" * 64, "b" * 64


def record(
    state: State = State.INSTALLED, *, key: str | None = None, arm: str | None = "arm-1"
) -> MachineRecord:
    claim = Claim(node="w1", key=key, bound_at=NOW) if key else None
    return MachineRecord(mac="52:54:00:aa:00:01", name="w1", state=state, since=NOW, arm=arm, claim=claim)


def bind(before: MachineRecord, key: str = KEY) -> Change:
    return claims.bind(before, NOW, node="w1", key=key)


def after(change: Change) -> MachineRecord:
    assert change.record is not None
    return change.record


def test_the_first_key_of_an_installed_machine_is_bound() -> None:
    change = bind(record())

    claim = after(change).claim
    assert claim is not None
    assert (claim.key, claim.node, claim.issue) == (KEY, "w1", 1)
    assert change.note is not None
    assert (change.note.what, change.note.decision) == ("claimed", "bound")


@pytest.mark.parametrize("state", sorted(ON_DISK))
def test_the_same_key_again_changes_nothing_at_any_time(state: State) -> None:
    assert bind(record(state, key=KEY)) == Change()


@pytest.mark.parametrize("state", sorted(ON_DISK))
def test_a_second_key_quarantines_and_alarms(state: State) -> None:
    change = bind(record(state, key=KEY), OTHER)

    found = after(change)
    assert found.state is State.QUARANTINED
    assert found.claim is not None
    assert found.claim.key == KEY
    assert change.note is not None
    assert (change.note.what, change.note.decision) == ("alarm", "quarantined")


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (State.DISCOVERED, claims.Unarmed),
        (State.ACCEPTED, claims.Unarmed),
        (State.RETIRED, claims.Unarmed),
        (State.ARMED, claims.TooEarly),
        (State.INSTALLING, claims.TooEarly),
        (State.FAILED, Refused),
        (State.QUARANTINED, Refused),
        (State.CONFLICT, Refused),
    ],
)
@pytest.mark.parametrize("key", [None, KEY])
def test_outside_its_window_no_key_is_bound_not_even_the_own_one(
    state: State, kind: type[Refused], key: str | None
) -> None:
    with pytest.raises(kind):
        bind(record(state, key=key))


def test_a_machine_that_was_never_armed_may_claim_nothing() -> None:
    with pytest.raises(claims.Unarmed):
        bind(record(State.INSTALLED, arm=None))


def test_arming_forgets_the_key_and_the_old_one_is_refused() -> None:
    joined = record(State.READY, key=KEY)
    armed = after(transitions.arm(joined, "arm-2", NOW, who="operator", reason=""))

    assert armed.claim is None
    assert armed.running is None
    with pytest.raises(claims.TooEarly):
        bind(armed)
    again = after(transitions.booted(armed, NOW, transitions.Boot()))
    bound = after(bind(again, OTHER))
    assert bound.claim is not None
    assert bound.claim.key == OTHER
    assert after(bind(bound, KEY)).state is State.QUARANTINED


def test_a_renamed_machine_is_told_what_to_do() -> None:
    with pytest.raises(Refused, match="machine arm w1"):
        claims.bind(record(key=KEY), NOW, node="w9", key=KEY)


def issue(before: MachineRecord, number: int = 1, key: str = KEY) -> Change:
    return claims.issued(before, NOW, key=key, issue=number, expires_at=NOW + timedelta(days=7))


def test_a_certificate_makes_the_machine_joined_once() -> None:
    joined = after(issue(record(key=KEY)))

    assert joined.state is State.JOINED
    assert joined.claim is not None
    assert (joined.claim.issue, joined.claim.expires_at) == (2, NOW + timedelta(days=7))
    assert issue(joined) == Change()


def test_a_later_certificate_leaves_a_ready_machine_ready() -> None:
    assert after(issue(record(State.READY, key=KEY))).state is State.READY


@pytest.mark.parametrize("state", [State.QUARANTINED, State.RETIRED, State.ARMED, State.FAILED])
def test_a_certificate_is_not_handed_to_a_machine_that_lost_its_right_meanwhile(state: State) -> None:
    with pytest.raises(Refused):
        issue(record(state, key=KEY))
    with pytest.raises(Refused):
        issue(record(State.INSTALLED, key=KEY), key=OTHER)
    with pytest.raises(Refused):
        issue(record(State.INSTALLED))


def test_a_request_that_came_to_nothing_has_a_successor_once() -> None:
    again = after(claims.another_request(record(key=KEY), key=KEY, issue=1, reason="denied"))

    assert again.claim is not None
    assert again.claim.issue == 2
    assert claims.another_request(again, key=KEY, issue=1, reason="denied") == Change()


def test_a_renewal_is_of_a_machine_in_good_standing() -> None:
    renewed = after(claims.renewed(record(State.READY, key=KEY), key=OTHER))

    assert renewed.claim is not None
    assert (renewed.claim.key, renewed.claim.renewed) == (KEY, OTHER)
    assert claims.renewed(renewed, key=OTHER) == Change()
    for state in (State.QUARANTINED, State.RETIRED, State.ARMED):
        with pytest.raises(Refused):
            claims.renewed(record(state, key=KEY), key=OTHER)


def test_the_latest_end_of_any_certificate_is_known() -> None:
    ready = record(State.READY, key=KEY)
    later = after(claims.expires(ready, key=KEY, expires_at=NOW + timedelta(days=3)))

    assert later.claim is not None
    assert later.claim.expires_at == NOW + timedelta(days=3)
    assert claims.expires(later, key=KEY, expires_at=NOW) == Change()
    assert claims.expires(later, key=OTHER, expires_at=NOW + timedelta(days=9)) == Change()
    retired = transitions.retire(later, NOW)
    assert after(retired).reason.endswith("its certificate ends at 2026-01-04 00:00 UTC at the latest")


def test_a_node_goes_ready_and_back_with_an_event_each() -> None:
    ready = claims.node_seen(record(State.JOINED, key=KEY), NOW, is_ready=True, message="Ready")
    again = claims.node_seen(after(ready), NOW, is_ready=True, message="Ready")
    lost = claims.node_seen(after(ready), NOW, is_ready=False, message="kubelet stopped posting")

    assert after(ready).state is State.READY
    assert ready.note is not None
    assert again == Change()
    assert (after(lost).state, after(lost).message) == (State.JOINED, "kubelet stopped posting")


@pytest.mark.parametrize("state", [State.INSTALLED, State.QUARANTINED, State.RETIRED, State.ARMED])
def test_a_node_says_nothing_of_a_machine_that_is_not_in_the_cluster(state: State) -> None:
    assert claims.node_seen(record(state, key=KEY), NOW, is_ready=True, message="") == Change()


def test_what_is_run_is_told_once() -> None:
    first = claims.confirmed(record(key=KEY), NOW, revision="r1", reason="")
    back = claims.confirmed(after(first), NOW, revision="r1", reason="r2: kubelet did not answer")

    assert claims.confirmed(after(first), NOW, revision="r1", reason="") == Change()
    running = after(back).running
    assert running is not None
    assert running.is_rolled_back
    assert back.note is not None
    assert back.note.what == "rolled-back"
