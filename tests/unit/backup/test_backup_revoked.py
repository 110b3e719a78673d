"""What was permitted at the time of a backup and was used up or taken back since does not come back."""

from datetime import timedelta
from itertools import product

import pytest

from bootstrap.backup.revoked import REVOKED, members, restored, unknown
from bootstrap.boot import Install, decide
from bootstrap.records import claims, transitions
from bootstrap.records.enrolment import _decide
from bootstrap.records.ledger import Change
from bootstrap.records.model import MachineRecord
from bootstrap.states import ON_DISK, State
from tests.samples import cluster
from tests.unit.backup.conftest import LATER, NOW, claim, record

MACHINE = cluster("lab").machines[0]
MAC = MACHINE.mac
CLAIMS = (None, claim("w1"), claim("w1", issued_at=None), claim("w1", renewed="r" * 64))
KNOWN = [record(MAC, state, name="w1", claim=each) for state, each in product(State, CLAIMS)]
PRESENT = (None, *(each.but(arm=arm) for each in KNOWN for arm in (f"old-{MAC}", "newer")))


def after(known: MachineRecord | None, present: MachineRecord | None = None, **more: bool) -> MachineRecord:
    change = restored(known, present, LATER, arm="fresh", taken_at=NOW, **more)
    assert change.record is not None
    return change.record


def test_after_a_restore_no_record_lets_a_disk_be_written() -> None:
    for known, present in product(KNOWN, PRESENT):
        found = after(known, present)

        assert not isinstance(decide(MACHINE, found, image="i"), Install)
        with pytest.raises(transitions.Refused):
            transitions.begin(found, LATER, disk=None, nonce=None)


def test_after_a_restore_no_pool_arms_what_any_store_knew() -> None:
    for known, present in product((None, *KNOWN), PRESENT):
        if known is None and present is None:
            continue
        assert _decide(after(known, present), LATER, MACHINE, "armed by its pool") == Change()


def test_after_a_restore_no_new_key_is_bound() -> None:
    for known, present in product(KNOWN, PRESENT):
        found = after(known, present)
        if found.arm == "fresh":  # whoever claims must name the arm, and nobody was told this one
            assert found.claim is None
            continue
        try:
            bound = claims.bind(found, LATER, node="w1", key="x" * 64)
        except transitions.Refused:
            continue
        assert bound.record
        assert bound.record.state is State.QUARANTINED


def test_what_was_taken_back_since_stays_so() -> None:
    for known, present in product(KNOWN, PRESENT):
        found = after(known, present)
        if present is not None and present.state in REVOKED:
            assert found.state is present.state
            assert found.claim is None


def test_an_armed_again_machine_loses_the_key_of_before() -> None:
    known = record(MAC, State.READY, name="w1", claim=claim("w1"))

    assert after(known, known.but(arm="newer", state=State.INSTALLING, claim=None)).claim is None


@pytest.mark.parametrize("state", sorted(ON_DISK - {State.INSTALLED}))
def test_a_member_goes_on_with_its_key_alone(state: State) -> None:
    known = record(MAC, state, name="w1", claim=claim("w1"), booted_at=NOW)

    assert after(known) == known
    assert after(known, known) == known
    assert claims.bind(known, LATER, node="w1", key=known.claim.key if known.claim else "") == Change()
    assert claims.renewed(after(known), key="n" * 64).record


def test_a_member_that_the_operator_names_as_retired_may_not_renew() -> None:
    found = after(record(MAC, State.READY, name="w1", claim=claim("w1")), is_retired=True)

    assert found.state is State.RETIRED
    with pytest.raises(transitions.Refused):
        claims.renewed(found, key="n" * 64)


@pytest.mark.parametrize("state", [State.ARMED, State.INSTALLING])
def test_an_open_arm_ends_with_a_reason_that_says_what_to_do(state: State) -> None:
    found = after(record(MAC, state, name="w1"))

    assert found.state is State.FAILED
    assert decide(MACHINE, found, image="i").reason.endswith("machine arm w1")
    assert found.reason == "a restore of the backup of 2026-11-22 10:00 UTC ended its arm"
    assert transitions.arm(found, "again", LATER, who="operator", reason="").record


def test_a_disk_with_a_system_goes_on_booting_it() -> None:
    found = after(record(MAC, State.INSTALLED, name="w1", booted_at=NOW))

    assert found.state is State.INSTALLED
    assert decide(MACHINE, found, image="i").reason == "w1 is installed"
    assert found.arm == "fresh"


def test_a_machine_that_joined_since_is_kept_if_its_store_is_there() -> None:
    present = record(MAC, State.READY, name="w9", claim=claim("w9"), since=LATER - timedelta(hours=1))

    assert after(None, present) == present


def test_a_machine_that_nobody_knows_is_listed_and_not_armed() -> None:
    change = unknown(MAC, "w1", LATER, arm="fresh")

    assert change.record
    assert (change.record.state, change.record.arm) == (State.ACCEPTED, "fresh")
    assert _decide(change.record, LATER, MACHINE, "armed by its pool") == Change()
    assert "machine arm w1 installs it" in change.record.message


def test_every_change_is_an_event() -> None:
    for known, present in product(KNOWN, PRESENT):
        change = restored(known, present, LATER, arm="fresh", taken_at=NOW)
        assert (change.record == known) == (change.note is None)


def test_members_are_those_with_a_key_on_a_disk() -> None:
    assert members([record(MAC, State.READY, name="b", claim=claim("b")), *map(after, KNOWN)]).count("b") == 1
    assert members([record(MAC, State.RETIRED, name="b", claim=claim("b"))]) == ()


def test_a_restore_forgot_that_certificates_of_earlier_arms_still_live() -> None:
    for known, present in product(KNOWN, PRESENT):
        found = after(known, present)
        ends = [one.access_until for one in (known, present) if one and one.access_until]
        if found.arm == "fresh" and ends:
            assert found.former_until == max(ends)
