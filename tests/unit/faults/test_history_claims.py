"""Each checker of claims lets a good history pass and names what is wrong with a bad one."""

from typing import Any

import pytest

from tests import history_claims as rules
from tests.history import History
from tests.history_claims import CLAIM_CHECKERS, check_claims
from tests.history_order import check, orders
from tests.history_rules import Checker
from tests.unit.faults.test_history import ARM, MAC, Story

KEY, RIVAL = "key-1", "key-2"
GRANTED = {"key": KEY}


class Joined(Story):
    """A machine that was installed and has joined."""

    def __init__(self) -> None:
        super().__init__()
        self.claim: dict[str, Any] | None = {"node": "w1", "key": KEY}
        self.event("accepted", who="appliance")
        self.armed()
        self.told("booted", "installed")
        self.claimed(None)
        self.claimed(202)
        self.event("claimed", "bound")
        self.event("joined", "issued", who="appliance")
        self.state = "joined"
        self.claimed(200)
        self.call("use", 200, {"user": "system:node:w1"}, name="w1", key=KEY)
        self.call("read", 200, {"state": "joined", "attempts": 0, "arm": ARM})
        self.signed(KEY)

    def claimed(self, status: int | None, key: str = KEY, got: str = "") -> None:
        body = {"key": got or key} if status == 200 else {}
        self.call("claim", status, body, name="w1", arm=ARM, key=key)

    def signed(self, key: str, *, is_signed: bool = True) -> None:
        self.history.saw("request", {"name": key, "node": "w1", "key": key, "signed": is_signed})

    def alarmed(self) -> None:
        self.event("alarm", "quarantined", who="appliance")
        self.state = "quarantined"

    def machine(self) -> dict[str, Any]:
        return {**super().machine(), "claim": self.claim}


def broken(checker: Checker, story: Story) -> str:
    """Return what `checker` says of the history."""
    assert checker in CLAIM_CHECKERS
    return "\n".join(map(str, checker(story.end())))


def wrong(history: History) -> list[str]:
    return [str(bad) for bad in (*check(history), *check_claims(history))]


def test_an_undisturbed_join_breaks_no_rule() -> None:
    assert wrong(Joined().end()) == []


def test_a_rival_who_is_refused_with_an_alarm_breaks_no_rule() -> None:
    story = Joined()
    story.alarmed()
    story.claimed(409, RIVAL)
    story.claimed(409, KEY)
    story.call("read", 200, {"state": "quarantined", "attempts": 0, "arm": ARM})
    assert wrong(story.end()) == []


def test_a_claim_that_is_refused_because_a_rival_came_meanwhile_may_have_been_the_first() -> None:
    story = Joined()
    story.history.calls = [call for call in story.history.calls if call.what not in ("claim", "use", "read")]
    story.alarmed()
    with story.history.call("w1", "claim", mac=MAC, name="w1", arm=ARM, key=KEY) as call:
        story.claimed(409, RIVAL)
        call.answered(409)
    assert orders(story.end()) == []


def test_two_signed_keys_of_one_node_are_a_double_issue() -> None:
    story = Joined()
    story.signed(RIVAL)
    assert "w1 has certificates for 2 keys" in broken(rules.double_issues, story)


def test_a_certificate_that_only_a_client_has_seen_is_a_double_issue_too() -> None:
    story = Joined()
    story.claimed(200, RIVAL)
    assert "w1 has certificates for 2 keys" in broken(rules.double_issues, story)


def test_a_second_key_that_was_not_signed_is_none() -> None:
    story = Joined()
    story.signed(RIVAL, is_signed=False)
    assert broken(rules.double_issues, story) == ""


def test_a_certificate_for_another_key_than_was_sent_is_found() -> None:
    story = Joined()
    story.claimed(200, KEY, got=RIVAL)
    assert "certificate for another key" in broken(rules.foreign_certificates, story)


def test_a_node_that_is_taken_for_another_is_found() -> None:
    story = Joined()
    story.call("use", 200, {"user": "system:node:w2"}, name="w1", key=KEY)
    assert "not let in as itself" in broken(rules.foreign_certificates, story)


@pytest.mark.parametrize("claim", [None, {"node": "w1", "key": RIVAL}, {"node": "w2", "key": KEY}])
def test_a_machine_that_is_bound_to_something_else_is_found(claim: dict[str, Any] | None) -> None:
    story = Joined()
    story.claim = claim
    assert "wrong binding" in broken(rules.wrong_bindings, story)


@pytest.mark.parametrize("is_signed", [True, False])
def test_a_request_that_was_filed_for_a_stranger_is_found(is_signed: bool) -> None:  # noqa: FBT001  # a table
    story = Joined()
    story.signed(RIVAL, is_signed=is_signed)
    assert "request of a stranger" in broken(rules.wrong_bindings, story)


def test_a_rival_without_an_alarm_is_found() -> None:
    story = Joined()
    story.claimed(409, RIVAL)
    assert "no alarm: w1 is joined" in broken(rules.silent_rivals, story)


def test_two_keys_of_which_none_was_refused_are_found() -> None:
    story = Joined()
    story.claimed(202, RIVAL)
    story.alarmed()
    assert "nobody was refused: w1" in broken(rules.silent_rivals, story)


def test_an_alarm_without_a_rival_is_found() -> None:
    story = Joined()
    story.alarmed()
    assert "nobody else claimed to be w1" in broken(rules.silent_rivals, story)


@pytest.mark.parametrize("what", ["claimed", "joined"])
def test_a_granted_claim_that_is_not_in_the_log_is_lost(what: str) -> None:
    story = Joined()
    story.events = [event for event in story.events if event["what"] != what]
    story.history.seen = [seen for seen in story.history.seen if seen.value.get("what") != what]
    assert "claim of w1 was acknowledged" in "\n".join(wrong(story.end()))


def test_a_revision_that_was_confirmed_and_is_another_in_the_log_is_lost() -> None:
    story = Joined()
    seq = story.event("synced", "abc")
    story.call("report", 200, {"seq": seq}, arm=ARM, kind="synced", text="abc")
    assert wrong(story.end()) == []
    story.call("report", 200, {"seq": seq}, arm=ARM, kind="synced", text="abd")
    assert "report of w1 was acknowledged" in "\n".join(wrong(story.end()))


def test_a_second_key_that_is_granted_has_no_order() -> None:
    story = Joined()
    story.claimed(200, RIVAL)
    assert "no order explains" in "\n".join(map(str, orders(story.end())))


def test_a_first_key_that_is_granted_after_a_second_was_refused_has_no_order() -> None:
    story = Joined()
    story.claimed(409, RIVAL)
    story.claimed(200, KEY)
    assert "no order explains" in "\n".join(map(str, orders(story.end())))


def test_a_claim_before_the_machine_reported_from_its_disk_has_no_order() -> None:
    story = Story()
    story.event("accepted", who="appliance")
    story.armed()
    story.call("claim", 202, name="w1", arm=ARM, key=KEY)
    assert orders(story.end()) == []
    story.call("claim", 200, {"key": KEY}, name="w1", arm=ARM, key=KEY)
    assert "no order explains" in "\n".join(map(str, orders(story.history)))


def test_a_machine_that_joined_and_is_then_only_installed_has_no_order() -> None:
    story = Joined()
    story.call("read", 200, {"state": "installed", "attempts": 0, "arm": ARM})
    assert "no order explains" in "\n".join(map(str, orders(story.end())))
