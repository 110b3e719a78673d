"""What comes back is the newest and whole, and of what web wrote only what makes sense; else the fence stands."""

import json
import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from bootstrap import accepted, allotment
from bootstrap.errors import ApplyError, UsageError
from bootstrap.handover import brought
from bootstrap.handover.back import take_back
from bootstrap.handover.moving import hand_over
from bootstrap.records.model import MachineRecord
from bootstrap.state import Put
from bootstrap.state.lastgood import copy_of
from bootstrap.state.sqlite import SqliteStore
from bootstrap.states import State
from tests.unit.handover.rack import NOW, W7, Rack

W2 = MachineRecord(mac="52:54:00:aa:00:02", name="w2", state=State.ARMED, since=NOW)
STORE = "state/state.db"
RECORDS = "run/web/records"


@pytest.fixture(name="ended")
def fixture_ended(rack: Rack) -> Rack:
    """One that was handed over, ran there, and was ended."""
    hand_over(rack.move(), rack.api)
    assert not take_back(rack.back(), rack.api)
    return rack


@pytest.fixture(name="written")
def fixture_written(ended: Rack) -> Iterator[Rack]:
    """As a killed web leaves its store: what it wrote last is in the log alone."""
    store = SqliteStore(ended.node / STORE)
    store.commit([Put(key=f"machine/{W2.mac}", value=W2.to_bytes())])
    yield ended
    store.close()


def refused(rack: Rack, folder: Path, says: str) -> None:
    """Ask for the way back with `folder`: it is refused, and nothing has changed."""
    before = {path: path.read_bytes() for path in sorted(rack.work.rglob("*")) if path.is_file()}
    with pytest.raises(UsageError, match=says):
        take_back(rack.back(folder=folder), rack.api)
    assert before == {path: path.read_bytes() for path in sorted(rack.work.rglob("*")) if path.is_file()}
    assert rack.stage == "open"
    assert "Namespace/firstlight" in rack.api.objects


# --- a copy that is not whole, or not the newest -----------------------------------------------------------------


@pytest.mark.parametrize("is_here", [True, False])
def test_a_copy_without_the_store_brings_no_old_state_to_life(ended: Rack, *, is_here: bool) -> None:
    copy = ended.copied()
    (copy / STORE).unlink()
    if not is_here:  # then it is known from what was sent
        (ended.work / STORE).unlink()
    refused(ended, copy, r"state\.db is missing: the copy is not whole")


def test_one_that_never_had_a_store_needs_none(rack: Rack) -> None:
    (rack.work / STORE).unlink()
    hand_over(rack.move(), rack.api)
    take_back(rack.back(), rack.api)
    assert take_back(rack.back(folder=rack.copied()), rack.api)
    assert rack.stage == ""


def test_what_a_killed_web_wrote_last_comes_back_from_its_log(written: Rack) -> None:
    copy = written.copied()
    assert (copy / f"{STORE}-wal").stat().st_size

    assert take_back(written.back(folder=copy), written.api)
    assert written.machines()["w2"] == State.ARMED


def test_a_copy_that_lacks_the_log_is_not_taken_for_the_newest(written: Rack) -> None:
    copy = written.copied()
    (copy / f"{STORE}-wal").unlink()
    refused(written, copy, r"state\.db-wal is missing, which holds what was written last")


def test_a_log_that_has_lost_answered_commits_is_refused(written: Rack) -> None:
    store = SqliteStore(written.node / STORE)
    for _ in range(3):
        store.commit([Put(key=f"machine/{W2.mac}", value=W2.to_bytes())])
    copy = written.copied()
    store.close()
    log = copy / f"{STORE}-wal"
    content = bytearray(log.read_bytes())
    content[32 + 24 + 100] ^= 1
    log.write_bytes(content)
    refused(written, copy, "has lost commits that were answered")


def test_a_store_that_is_older_than_its_own_checked_copy_is_refused(written: Rack) -> None:
    copy = written.copied()
    for suffix in ("-wal", "-shm"):
        (copy / f"{STORE}{suffix}").unlink()
    newer = SqliteStore(written.folder / "newer.db")
    for _ in range(5):
        newer.commit([Put(key=f"machine/{W2.mac}", value=W2.to_bytes())])
    newer.close()
    shutil.copy(written.folder / "newer.db", copy_of(copy / STORE))
    refused(written, copy, "the copy is older, or not whole")


def test_a_copy_of_before_what_came_back_already_is_refused(ended: Rack) -> None:
    older = ended.copied("older")
    for number in range(5):
        ended.put(W2.but(arm=str(number)), into=ended.node)
    (ended.work / STORE).write_bytes((ended.node / STORE).read_bytes())  # and then it was cut off
    refused(ended, older, "the copy is older, or not whole")


def test_a_copy_of_while_it_still_ran_in_this_run_is_not_used(rack: Rack) -> None:
    hand_over(rack.move(), rack.api)
    rack.put(W2, into=rack.node)
    copy = rack.copied()
    rack.put(W2.but(state=State.READY), into=rack.node)

    assert not take_back(rack.back(folder=copy), rack.api)
    assert (rack.stage, rack.machines()) == ("open", {"w1": State.READY})
    assert f"{copy} was copied before it ended, and is not used" in rack.lines.said[-1]
    assert rack.api.of_kind("Deployment") == {}


def test_a_copy_of_before_the_end_is_not_used_in_a_later_run_either(rack: Rack) -> None:
    hand_over(rack.move(), rack.api)
    (rack.node / brought.PID).write_text("1")
    copy = rack.copied()
    (rack.node / brought.PID).unlink()  # as web does when it ends
    assert not take_back(rack.back(), rack.api)

    refused(rack, copy, "web ran there while this was copied")
    assert take_back(rack.back(folder=rack.copied("newer")), rack.api)


# --- what web has chosen -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("accepted.json", b"[", "is not what an appliance writes"),
        ("accepted.json", b'[{"mac": "52:54:00:aa:00:08"}]', "is not what an appliance writes"),
        (
            "accepted.json",
            json.dumps([W7.but(name="../w8").model_dump(by_alias=True)]).encode(),
            "is not what an appliance writes",
        ),
        ("accepted.json", b" " * ((16 << 20) + 1), "is no plain file of at most 16 MiB"),
        ("pod-subnets.json", b'{"w1": "x"}', "is not what an appliance writes"),
    ],
)
def test_what_would_break_every_verb_afterwards_is_not_taken(
    ended: Rack, name: str, content: bytes, says: str
) -> None:
    copy = ended.copied()
    (copy / RECORDS / name).write_bytes(content)
    refused(ended, copy, says)

    (copy / RECORDS / name).unlink()  # as it says
    assert take_back(ended.back(folder=copy), ended.api)
    assert accepted.read(ended.work) == (W7,)
    assert allotment.recorded(ended.work) == {"w1": 0, "w7": 1}


@pytest.mark.parametrize(
    "name",
    [
        *(STORE, f"{STORE}-wal", f"{STORE}-shm", f"{STORE}.last-good", "state/handover.json"),
        *(f"{RECORDS}/accepted.json", f"{RECORDS}/pod-subnets.json", "run/pxe/run/leases"),
    ],
)
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_link_or_a_pipe_is_not_followed(ended: Rack, name: str, kind: str) -> None:
    copy = ended.copied()
    path = copy / name
    content = path.read_bytes() if path.exists() else b"secret"
    path.unlink(missing_ok=True)
    (ended.folder / "elsewhere").write_bytes(content)
    if kind == "link":
        path.symlink_to(ended.folder / "elsewhere")
    else:
        os.mkfifo(path)
    refused(ended, copy, "plain file|symbolic link")


# --- nothing ever ran there --------------------------------------------------------------------------------------


def test_after_an_image_that_could_not_be_pulled_the_plain_way_back_is_enough(rack: Rack) -> None:
    api = rack.api
    api.is_pulled = False
    assert not hand_over(rack.move(), api)
    assert rack.stage == "open"

    assert take_back(rack.back(), api)
    assert (rack.stage, rack.machines(), api.objects) == ("", {"w1": State.READY}, {})
    assert any("nothing of it ever ran on w1" in line for line in rack.lines.said)


@pytest.mark.parametrize(
    "what",
    ["one ran", "was ready once", "another template", "another pod", "two pods", "node away", "part gone"],
)
def test_unless_it_is_known_that_nothing_ran_the_state_there_counts_as_newer(rack: Rack, what: str) -> None:
    api = rack.api
    if what == "was ready once":
        assert hand_over(rack.move(), api)
        shutil.rmtree(rack.node)  # nothing on the node says so any more
    else:
        api.is_pulled = False
        assert not hand_over(rack.move(), api)
    if what == "one ran":
        api.start("pxe")
    if what == "another template":
        api.generation = 2
    if what == "another pod":
        api.pod_age = timedelta(minutes=1)
    if what == "two pods":
        pods = api.pods
        api.pods = lambda *given: [  # type: ignore[method-assign]  # of one Deployment
            each for one in pods(*given) for each in (one, type(one)(**{**vars(one), "name": f"{one.name}2"}))
        ]
    if what == "part gone":
        api.delete("Deployment", "web", namespace="firstlight")
    api.is_ready = what != "node away"

    assert not take_back(rack.back(), api)
    assert rack.stage == "open"
    assert "handover --back --lost" in rack.lines.said[-1]


# --- until nothing is left ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet"])
def test_as_long_as_something_makes_pods_nothing_comes_back(ended: Rack, kind: str) -> None:
    api = ended.api
    names = api.names
    api.names = lambda each, *given: ["web-5d"] if each == kind else names(each, *given)  # type: ignore[method-assign]  # ends slowly

    with pytest.raises(ApplyError, match=r"web-5d did not end within 0 s"):
        take_back(ended.back(folder=ended.copied()), api)
    assert ended.stage == "open"
    assert ended.machines() == {"w1": State.READY}


def test_a_pod_that_came_at_the_last_moment_keeps_the_fence_up(ended: Rack) -> None:
    api = ended.api
    api.later = ["web-late"]
    with pytest.raises(ApplyError, match="web-late did not end"):
        take_back(ended.back(folder=ended.copied()), api)
    assert ended.stage == "open"

    assert take_back(ended.back(folder=ended.folder / "copy"), ended.api)
    assert ended.stage == ""
