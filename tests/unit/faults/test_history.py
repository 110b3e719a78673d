"""Each checker lets a good history pass and names what is wrong with a bad one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootstrap.records.ledger import KEPT_EVENTS
from tests import history_rules as rules
from tests.history import History
from tests.history_order import Register, check, is_unknown, orders
from tests.history_rules import CHECKERS

MAC, ARM, OTHER = "52:54:00:00:00:01", "arm-1", "arm-2"
GRANT = {"config": {"sha256": "c1"}, "image": {"sha256": "i1"}}


def ticking() -> Iterator[float]:
    at = 0.0
    while True:
        at += 1.0
        yield at


class Story:
    """A history told step by step, with the events that the server would write."""

    def __init__(self) -> None:
        times = ticking()
        self.history = History(lambda: next(times))
        self.events: list[dict[str, Any]] = []
        self.state, self.attempts, self.arm = "accepted", 0, ""

    def event(self, what: str, decision: str = "", who: str = "machine") -> int:
        seq = len(self.events) + 1
        said = {"what": what, "decision": decision, "detail": ""}
        self.events.append({"seq": seq, "who": who, "machine": "w1", **said})
        self.history.saw("event", self.events[-1])
        return seq

    def call(self, what: str, status: int | None, body: dict[str, Any] | None = None, **more: Any) -> None:
        with self.history.call("w1", what, mac=MAC, **more) as call:
            if status is not None:
                call.answered(status, body)

    def armed(self, arm: str = ARM) -> None:
        self.event("armed", arm, who="operator")
        self.state, self.arm, self.attempts = "armed", arm, 0
        self.call("arm", 200, {"arm": arm})

    def begun(self, nonce: str, attempt: int, arm: str = ARM) -> None:
        self.event("begin", f"attempt {attempt} of 3")
        self.state, self.attempts = "installing", attempt
        self.call("begin", 200, {"attempt": attempt, **GRANT}, arm=arm, nonce=nonce)

    def told(self, kind: str, decision: str = "") -> None:
        seq = self.event(kind, decision)
        self.state = decision or self.state
        self.call("report", 200, {"seq": seq}, arm=self.arm, kind=kind)

    def machine(self) -> dict[str, Any]:
        return {"mac": MAC, "name": "w1", "state": self.state, "attempts": self.attempts, "arm": self.arm}

    def end(self) -> History:
        self.history.ends_with(self.events, [self.machine()])
        return self.history


def good() -> Story:
    story = Story()
    story.event("accepted", who="appliance")
    story.history.saw("machine", {**story.machine(), "arm": None})
    story.armed()
    story.call("lease", 200, {"address": "10.0.0.1"})
    story.call("boot", 200, {"decision": "install", "arm": ARM})
    story.told("facts")
    story.begun("n1", 1)
    story.call("begin", 200, {"attempt": 1, **GRANT}, arm=ARM, nonce="n1")  # its answer was lost
    story.call("image", 200, {"sha256": "i1"}, arm=ARM)
    story.call("config", 200, {"sha256": "c1"}, arm=ARM)
    story.call("read", 200, {"state": "installing", "attempts": 1, "arm": ARM})
    story.told("complete", "installed")
    story.call("report", 200, {"seq": len(story.events)}, arm=ARM, kind="complete")
    story.told("booted", "installed")
    story.call("boot", 200, {"decision": "local"})
    return story


def test_an_undisturbed_install_breaks_no_rule() -> None:
    assert check(good().end()) == []


def test_a_history_is_the_same_after_it_was_written_and_read(tmp_path: Path) -> None:
    told = good().end()
    told.write(tmp_path / "history")
    again = History.read(tmp_path / "history")
    assert (again.calls, again.seen) == (told.calls, told.seen)
    assert check(again) == []


def test_a_history_without_its_end_is_no_proof() -> None:
    with pytest.raises(ValueError, match="no end"):
        check(good().history)


def broken(checker: rules.Checker, story: Story) -> str:
    """Return what `checker` says of the history; the other checkers must not be needed."""
    assert checker in CHECKERS
    return "\n".join(map(str, checker(story.end())))


def test_a_report_that_is_not_in_the_log_is_lost() -> None:
    story = good()
    story.call("report", 200, {"seq": 99}, arm=ARM, kind="booted")
    assert "report of w1" in broken(rules.lost_events, story)


def test_a_report_whose_number_is_another_ones_event_is_lost() -> None:
    story = good()
    story.call("report", 200, {"seq": 1}, arm=ARM, kind="booted")
    assert "report of w1" in broken(rules.lost_events, story)


@pytest.mark.parametrize("what", ["armed", "begin"])
def test_an_acknowledged_grant_that_is_not_in_the_log_is_lost(what: str) -> None:
    story = good()
    story.events = [event for event in story.events if event["what"] != what]
    story.history.seen.clear()
    assert "was acknowledged and is not in the log" in broken(rules.lost_events, story)


def test_an_event_dropped_because_the_log_was_full_is_not_lost() -> None:
    story = good()
    for _ in range(KEPT_EVENTS):
        story.told("facts")
    complete = story.events
    story.events = complete[-KEPT_EVENTS:]
    assert rules.lost_events(story.end()) == []
    assert rules.wrong_numbers(story.history) == []


def test_an_event_that_vanished_from_a_log_with_room_is_lost() -> None:
    story = good()
    del story.events[2]
    assert "facts" in broken(rules.lost_events, story)


def test_a_gap_in_the_numbers_is_found() -> None:
    story = good()
    story.history.seen.clear()
    del story.events[2]
    assert "there is no event 3" in broken(rules.wrong_numbers, story)


def test_a_number_used_again_is_found() -> None:
    story = good()
    story.events[2] = {**story.events[2], "what": "progress"}
    assert "event 3 was another one before" in broken(rules.wrong_numbers, story)


def test_a_log_with_a_number_twice_is_found() -> None:
    story = good()
    story.events.append(story.events[-1])
    assert "not in order" in broken(rules.wrong_numbers, story)


def test_a_later_event_with_a_lower_number_is_found() -> None:
    story = good()
    story.call("report", 200, {"seq": 3}, arm=ARM, kind="facts")
    story.history.calls = [
        call for call in story.history.calls if call.body.get("seq") != 3 or call.began > 20
    ]
    assert "number goes back" in broken(rules.wrong_numbers, story)


def test_a_repeated_end_may_be_answered_with_its_old_number() -> None:
    story = good()
    seq = next(event["seq"] for event in story.events if event["what"] == "complete")
    story.call("report", 200, {"seq": seq}, arm=ARM, kind="already-installed")
    assert rules.wrong_numbers(story.end()) == []


def test_an_edge_that_is_not_in_the_graph_is_found_in_the_log() -> None:
    story = Story()
    story.event("accepted", who="appliance")
    story.event("begin", "attempt 1 of 3")
    story.state = "installing"
    assert "accepted to installing" in broken(rules.illegal_transitions, story)


def test_an_edge_that_is_not_in_the_graph_is_found_in_the_records() -> None:
    story = good()
    story.history.saw("machine", {**story.machine(), "state": "installed"})
    story.history.saw("machine", {**story.machine(), "state": "installing"})
    assert "installed to installing" in broken(rules.illegal_transitions, story)


def test_attempts_that_go_back_are_found() -> None:
    story = good()
    story.history.saw("machine", {**story.machine(), "attempts": 2})
    assert "2 to 1" in broken(rules.illegal_transitions, story)


def test_a_record_that_is_not_what_its_events_say_is_found() -> None:
    story = good()
    story.state = "failed"
    assert "its last event says installed" in broken(rules.illegal_transitions, story)


def test_a_record_with_other_attempts_than_its_log_is_found() -> None:
    story = good()
    story.attempts = 2
    assert "2 attempts in the record, 1 in the log" in broken(rules.illegal_transitions, story)


def test_four_passes_of_one_arm_are_too_many() -> None:
    story = good()
    for attempt in (1, 2, 3):
        story.begun(f"m{attempt}", attempt)
    assert broken(rules.too_many_passes, story).count("too many write passes") == 2


def test_three_passes_of_each_of_two_arms_are_allowed() -> None:
    story = Story()
    for arm in (ARM, OTHER):
        story.armed(arm)
        for attempt in (1, 2, 3):
            story.begun(f"{arm}-{attempt}", attempt, arm)
    assert rules.too_many_passes(story.end()) == []


def test_a_repeated_begin_that_gets_another_attempt_is_found() -> None:
    story = good()
    story.begun("n1", 2)
    assert "repeated begin counted" in broken(rules.broken_nonces, story)


def test_two_begins_that_get_one_attempt_are_found() -> None:
    story = good()
    story.begun("n2", 1)
    assert "one attempt for two" in broken(rules.broken_nonces, story)


@pytest.mark.parametrize("what", ["config", "image"])
def test_other_bytes_than_granted_are_found(what: str) -> None:
    story = good()
    story.call(what, 200, {"sha256": "other"}, arm=ARM)
    assert "other bytes" in broken(rules.wrong_digests, story)


def test_one_address_of_two_machines_is_found() -> None:
    story = good()
    with story.history.call("w2", "lease", mac="52:54:00:00:00:02") as call:
        call.answered(200, {"address": "10.0.0.1"})
    assert "10.0.0.1" in broken(rules.duplicate_addresses, story)


def unexplained(story: Story) -> str:
    return "\n".join(map(str, orders(story.end())))


def test_answers_that_no_order_explains_are_found() -> None:
    story = good()
    story.call("read", 200, {"state": "armed", "attempts": 0, "arm": ARM})
    assert "no order explains" in unexplained(story)


def test_a_write_pass_after_the_end_is_found() -> None:
    story = good()
    story.call("begin", 200, {"attempt": 2, **GRANT}, arm=ARM, nonce="late")
    assert "no order explains" in unexplained(story)


def test_a_configuration_for_a_machine_that_does_not_install_is_found() -> None:
    story = good()
    story.call("config", 200, {"sha256": "c1"}, arm=ARM)
    assert "no order explains" in unexplained(story)


def test_a_stale_read_is_found_and_a_concurrent_one_is_not() -> None:
    story = Story()
    story.armed()
    with story.history.call("operator", "read", mac=MAC) as call:
        story.begun("n1", 1)
        call.answered(200, {"state": "armed", "attempts": 0, "arm": ARM})
    assert orders(story.end()) == []
    story.call("read", 200, {"state": "armed", "attempts": 0, "arm": ARM})
    assert "no order explains" in unexplained(story)


def test_a_lost_begin_may_have_been_done_or_not() -> None:
    for attempt in (1, 2):
        story = Story()
        story.armed()
        story.call("begin", None, arm=ARM, nonce="lost")
        story.call("begin", 503, arm=ARM, nonce="lost")
        story.call("begin", 200, {"attempt": attempt, **GRANT}, arm=ARM, nonce="next")
        assert orders(story.end()) == []


def test_a_lost_begin_does_not_explain_two_attempts() -> None:
    story = Story()
    story.armed()
    story.call("begin", None, arm=ARM, nonce="lost")
    story.call("begin", 200, {"attempt": 3, **GRANT}, arm=ARM, nonce="next")
    assert "no order explains" in unexplained(story)


def test_many_lost_reports_do_not_slow_the_search_down() -> None:
    story = good()
    for number in range(40):
        story.call("report", None, arm=ARM, kind="progress")
        story.call("report", None, arm=ARM, kind="failed")
        story.call("begin", None, arm=ARM, nonce=str(number % 4))
    story.call("read", 200, {"state": "installed", "attempts": 1, "arm": ARM})
    assert orders(story.end()) == []


def test_a_lost_order_of_the_operator_shows_itself_at_its_first_use() -> None:
    story = good()
    story.call("arm", None)
    story.call("boot", 200, {"decision": "install", "arm": OTHER})
    story.call("begin", 200, {"attempt": 1, **GRANT}, arm=OTHER, nonce="m1")
    assert orders(story.end()) == []


def test_a_refusal_that_came_too_early_changes_nothing() -> None:
    story = good()
    story.call("report", 429, arm=ARM, kind="failed")
    story.call("read", 200, {"state": "installed", "attempts": 1, "arm": ARM})
    assert orders(story.end()) == []


def test_the_fourth_pass_fails_the_arm_in_the_model_too() -> None:
    story = Story()
    story.armed()
    for attempt in (1, 2, 3):
        story.begun(f"n{attempt}", attempt)
    story.call("begin", 409, arm=ARM, nonce="n4")
    story.call("read", 200, {"state": "failed", "attempts": 3, "arm": ARM})
    assert orders(story.end()) == []
    story.call("config", 200, {"sha256": "c1"}, arm=ARM)
    assert "no order explains" in unexplained(story)


def test_a_machine_may_be_known_before_the_first_call() -> None:
    story = Story()
    story.call("boot", 200, {"decision": "install", "arm": ARM})
    assert "no order explains" in unexplained(story)
    assert orders(story.history, Register("armed", ARM)) == []


def test_what_the_proxy_answers_for_a_dead_server_is_no_answer() -> None:
    story = Story()
    story.call("begin", 503, arm=ARM, nonce="n1")
    assert is_unknown(story.history.calls[0])
