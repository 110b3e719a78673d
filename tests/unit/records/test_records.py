"""The ledger: a change and its event together, no gap, nothing lost to a race, nothing unbounded."""

import threading
from datetime import datetime

import pytest

from bootstrap.errors import StateError
from bootstrap.records import strangers as strangers_module
from bootstrap.records import transitions
from bootstrap.records.documents import INSTALLED, LIVE, Documents
from bootstrap.records.enrolment import enrol
from bootstrap.records.identities import Identities
from bootstrap.records.ledger import KEPT_EVENTS, SLACK_EVENTS, UNKNOWN, Change, Ledger, Note
from bootstrap.records.model import Introduction, MachineRecord
from bootstrap.records.strangers import Strangers
from bootstrap.records.transitions import Refused
from bootstrap.state.memory import MemoryStore
from bootstrap.states import IllegalTransition, State
from tests.unit.web.fakes import W1, W2, BrokenStore, CountedIds, HandClock, cluster


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def ledger(clock: HandClock) -> Ledger:
    ledger = Ledger(MemoryStore(), clock)
    enrol(cluster(), ledger, CountedIds())
    return ledger


def known(ledger: Ledger, mac: str = W1) -> MachineRecord:
    record = ledger.machine(mac)
    assert record is not None
    return record


def begin(ledger: Ledger, nonce: str | None = None) -> MachineRecord:
    def decide(record: MachineRecord | None, now: datetime) -> Change:
        assert record is not None
        return transitions.begin(record, now, disk=None, nonce=nonce)

    written = ledger.change(W1, decide)
    assert written is not None
    return written.record


def some_note(log: str = W1) -> Note:
    return Note(who="pxe", what="discover", log=log, machine="w1")


def test_a_listed_machine_of_a_self_arming_pool_is_armed_once(ledger: Ledger) -> None:
    assert known(ledger).state is State.ARMED
    assert known(ledger, W2).state is State.ACCEPTED
    before = ledger.last_event()

    enrol(cluster(), ledger, CountedIds())

    assert ledger.last_event() == before
    assert [event.what for event in ledger.events_of(W1)] == ["armed"]


def test_a_machine_that_was_installed_is_not_armed_again_by_a_changed_pool(ledger: Ledger) -> None:
    ledger.change(
        W1, lambda record, now: transitions.installed(record, now, what="complete") if record else Change()
    )

    enrol(cluster({"name": "w1", "mac": W1, "pool": "spare"}), ledger, CountedIds())
    enrol(cluster({"name": "w1", "mac": W1}), ledger, CountedIds())

    assert known(ledger).state is State.INSTALLED


def test_a_manual_machine_whose_pool_turns_automatic_is_armed_by_it_the_first_time(ledger: Ledger) -> None:
    enrol(cluster({"name": "w2", "mac": W2, "pool": "workers"}), ledger, CountedIds())

    assert known(ledger, W2).state is State.ARMED


def test_a_renamed_machine_keeps_its_state(ledger: Ledger) -> None:
    enrol(cluster({"name": "gpu1", "mac": W1}), ledger, CountedIds())

    assert (known(ledger).name, known(ledger).state) == ("gpu1", State.ARMED)
    assert ledger.events_of(W1)[-1].reason == "it was w1"


def test_three_passes_are_granted_and_the_fourth_request_fails_the_arm(ledger: Ledger) -> None:
    assert [begin(ledger).attempts for _ in range(3)] == [1, 2, 3]

    last = begin(ledger)

    assert last.state is State.FAILED
    assert last.reason.startswith("3 install attempts did not finish")
    with pytest.raises(Refused, match="w1 is failed: its disk may not be written"):
        begin(ledger)


def fail_attempt(ledger: Ledger) -> MachineRecord:
    written = ledger.change(
        W1,
        lambda record, now: (
            transitions.attempt_failed(record, now, reason="the image was cut") if record else Change()
        ),
    )
    assert written is not None
    return written.record


def test_an_attempt_that_failed_is_tried_again_until_the_third(ledger: Ledger) -> None:
    states = []
    for _ in range(3):
        begin(ledger)
        states.append(fail_attempt(ledger).state)

    assert states == [State.INSTALLING, State.INSTALLING, State.FAILED]
    assert "the image was cut" in known(ledger).reason


def test_a_failed_attempt_of_an_installed_machine_moves_nothing(ledger: Ledger) -> None:
    begin(ledger)
    ledger.change(
        W1, lambda record, now: transitions.installed(record, now, what="complete") if record else Change()
    )

    assert fail_attempt(ledger).state is State.INSTALLED


def test_the_same_request_again_is_the_same_pass(ledger: Ledger) -> None:
    assert begin(ledger, "n1").attempts == 1
    assert begin(ledger, "n1").attempts == 1
    assert begin(ledger, "n2").attempts == 2


def test_sixty_four_threads_that_begin_at_once_get_three_passes(ledger: Ledger) -> None:
    granted: list[int] = []
    refused: list[str] = []
    start = threading.Barrier(64)

    def ask() -> None:
        start.wait()
        try:
            record = begin(ledger)
        except Refused as error:
            refused.append(str(error))
            return
        granted.append(record.attempts if record.state is State.INSTALLING else 0)

    threads = [threading.Thread(target=ask) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(granted) == [0, 1, 2, 3]
    assert len(refused) == 60
    assert [event.what for event in ledger.events_of(W1)] == ["armed", "begin", "begin", "begin", "failed"]


def test_two_processes_on_one_store_grant_three_passes_together(ledger: Ledger, clock: HandClock) -> None:
    other = Ledger(ledger.store, clock)
    attempts: list[int] = []
    threads = [
        threading.Thread(target=lambda on=on: attempts.append(begin(on).attempts))
        for on in (ledger, other, ledger)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(attempts) == [1, 2, 3]


def test_event_numbers_have_no_gap_and_are_not_used_twice(ledger: Ledger) -> None:
    first = ledger.last_event()
    for _ in range(KEPT_EVENTS + 2 * SLACK_EVENTS):
        ledger.note(some_note())

    numbers = [event.seq for event in ledger.events_of(W1)]

    assert KEPT_EVENTS <= len(numbers) < KEPT_EVENTS + SLACK_EVENTS
    assert numbers == list(range(numbers[0], ledger.last_event() + 1))
    assert ledger.last_event() == first + KEPT_EVENTS + 2 * SLACK_EVENTS


def test_a_noisy_machine_pushes_out_no_event_of_another(ledger: Ledger) -> None:
    for _ in range(1000):
        ledger.note(some_note(W2))

    assert [event.what for event in ledger.events_of(W1)] == ["armed"]
    assert sum(1 for _ in ledger.store.scan("event/")) < KEPT_EVENTS + SLACK_EVENTS + 2


@pytest.mark.parametrize("few", [0, 10**9])
def test_events_are_followed_by_number(ledger: Ledger, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootstrap.records.ledger.FEW_EVENTS", few)
    start = ledger.last_event()
    ledger.note(some_note(), some_note(), some_note())

    assert [event.seq for event in ledger.events_after(start, 2)] == [start + 1, start + 2]
    assert [event.seq for event in ledger.events_after(start + 2, 9)] == [start + 3]
    assert ledger.events_after(start + 3, 9) == []


def test_a_store_that_cannot_write_leaves_neither_change_nor_event(clock: HandClock) -> None:
    store = BrokenStore(MemoryStore())
    ledger = Ledger(store, clock)
    enrol(cluster(), ledger, CountedIds())
    before = ledger.last_event()
    store.writes_fail = True

    with pytest.raises(StateError):
        begin(ledger)
    store.writes_fail = False

    assert (known(ledger).attempts, ledger.last_event()) == (0, before)
    assert begin(ledger).attempts == 1


def test_a_quarantined_machine_cannot_be_armed() -> None:
    clock = HandClock()
    record = MachineRecord(mac=W1, name="w1", state=State.QUARANTINED, since=clock())

    with pytest.raises(IllegalTransition):
        transitions.arm(record, "x", clock(), who="operator", reason="")


def test_progress_writes_for_news_and_not_for_repetition(clock: HandClock) -> None:
    record = MachineRecord(
        mac=W1, name="w1", state=State.INSTALLING, stage="image", percent=10, since=clock()
    )
    record = record.but(contact_at=clock())

    def told(percent: int, stage: str = "image") -> Change:
        return transitions.progress(record, clock(), stage=stage, percent=percent, message="")

    assert told(12) == Change()
    assert told(15).record is not None
    assert told(15).note is None
    assert told(10, "verify").note is not None
    clock.forward(10)
    assert told(10).record is not None


def test_a_silent_installation_is_called_stuck_once_and_keeps_its_state(clock: HandClock) -> None:
    record = MachineRecord(mac=W1, name="w1", state=State.INSTALLING, arm="a", attempts=1, since=clock())
    assert transitions.stuck(record, clock()) == Change()
    clock.forward(901)

    change = transitions.stuck(record, clock())

    assert change.record is not None
    assert change.note is not None
    assert change.record.state is State.INSTALLING
    assert "stuck: nothing heard for 15 min while installing" in change.record.message
    assert transitions.stuck(change.record, clock()) == Change()


def test_a_machine_that_runs_from_its_disk_is_never_stuck(clock: HandClock) -> None:
    record = MachineRecord(mac=W1, name="w1", state=State.INSTALLED, since=clock(), booted_at=clock())
    clock.forward(10**6)

    assert transitions.stuck(record, clock()) == Change()


def test_a_record_survives_its_journey_through_json(ledger: Ledger) -> None:
    record = begin(ledger, "n1").but(ssh_host_keys=("ssh-ed25519 AAAA",), said=Introduction(serial="x"))

    assert MachineRecord.from_bytes(record.to_bytes()) == record


def test_strangers_are_bounded_and_the_known_stay(
    ledger: Ledger, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strangers_module, "MOST_STRANGERS", 100)
    strangers = Strangers(ledger, clock, Identities())
    for n in range(1000):
        clock.forward(1)
        strangers.saw(f"52:54:00:bb:{n // 256:02x}:{n % 256:02x}", Introduction(serial=str(n)))

    kept = list(strangers.all())

    assert len(kept) <= 100
    assert {int(one.said.serial) for one in kept} == set(range(1000 - len(kept), 1000))
    assert known(ledger).state is State.ARMED
    assert len(ledger.events_of(UNKNOWN)) < KEPT_EVENTS + SLACK_EVENTS


def test_a_stranger_that_comes_back_is_counted_and_told_once(ledger: Ledger, clock: HandClock) -> None:
    strangers = Strangers(ledger, clock, Identities())
    strangers.saw("52:54:00:bb:00:01", Introduction())
    before = ledger.last_event()
    strangers.saw("52:54:00:bb:00:01", Introduction(serial="s"))

    (stranger,) = strangers.all()

    assert (stranger.boots, stranger.said.serial, ledger.last_event()) == (2, "s", before)


def test_a_stranger_that_gets_listed_is_one_no_more(clock: HandClock) -> None:
    ledger = Ledger(MemoryStore(), clock)
    strangers = Strangers(ledger, clock, Identities())
    strangers.saw(W1, Introduction())

    enrol(cluster(), ledger, CountedIds())

    assert list(strangers.all()) == []


def test_documents_are_replaced_as_a_whole_and_keep_their_revision_when_equal() -> None:
    documents = Documents(MemoryStore())
    assert not documents.are_loaded()
    assert documents.replace({(W1, LIVE): b"a", (W1, INSTALLED): b"b", (W2, LIVE): b"c"})
    first = documents.get(W1, LIVE)
    assert not documents.replace({(W1, LIVE): b"a", (W1, INSTALLED): b"b", (W2, LIVE): b"c"})
    assert documents.replace({(W1, LIVE): b"a", (W1, INSTALLED): b"new"})

    assert documents.get(W1, LIVE) == first
    assert documents.get(W2, LIVE) is None
    changed = documents.get(W1, INSTALLED)
    assert changed is not None
    assert changed.content == b"new"
    assert documents.are_loaded()
