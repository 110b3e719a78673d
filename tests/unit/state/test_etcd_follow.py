"""What one process hears of what others write to etcd."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from bootstrap.errors import StateError
from bootstrap.state import Delete, Put, Turn, etcd_follow
from bootstrap.state.etcd import EtcdStore
from tests.contract.etcd_likeness import Member, serving, store_at


class Ear:
    """Gathers what is told."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.fails = 0
        self._lock = threading.Lock()

    def __call__(self, turns: Sequence[Turn]) -> None:
        if self.fails:
            self.fails -= 1
            raise StateError("not now")
        with self._lock:
            self.turns += turns

    @property
    def state(self) -> dict[str, bytes]:
        with self._lock:
            return {
                key: value
                for key, value in {turn.key: turn.value for turn in self.turns}.items()
                if value is not None
            }


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Member, list[str]]]:
    monkeypatch.setattr(etcd_follow, "WATCH_SECONDS", 0.5)
    monkeypatch.setattr(etcd_follow, "PAUSE_SECONDS", 0.05)
    with serving(tmp_path) as found:
        yield found


@pytest.fixture
def writer(served: tuple[Member, list[str]]) -> Iterator[EtcdStore]:
    made = store_at(served[1])
    yield made
    made.close()


@pytest.fixture
def follower(served: tuple[Member, list[str]]) -> Iterator[EtcdStore]:
    made = store_at(served[1], try_seconds=0.3, call_seconds=0.6)
    yield made
    made.close()


def until(question: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_was_there_is_told_and_then_every_change(writer: EtcdStore, follower: EtcdStore) -> None:
    ear = Ear()
    writer.commit([Put(key="machine/a", value=b"1"), Put(key="event/1", value=b"")])
    follower.follow(ear)
    until(lambda: ear.state == {"machine/a": b"1"})

    for number in range(50):
        writer.commit(
            [Put(key="machine/a", value=str(number).encode()), Put(key=f"stranger/{number}", value=b"")]
        )
    writer.commit([Delete(key="stranger/7"), Put(key="document/a/live", value=b"doc")])

    wanted = {"machine/a": b"49"} | {f"stranger/{n}": b"" for n in range(50) if n != 7}
    until(lambda: ear.state == wanted)
    until(lambda: follower.last_known("document/a/live") is not None)


def test_a_compaction_loses_nothing(
    writer: EtcdStore, follower: EtcdStore, served: tuple[Member, list[str]]
) -> None:
    ear, member = Ear(), served[0]
    writer.commit([Put(key="stranger/a", value=b"1"), Put(key="stranger/b", value=b"1")])
    follower.follow(ear)
    until(lambda: len(ear.state) == 2)
    member.fault.silent = True  # nobody hears what happens now, and then its history is gone
    with member.lock:
        time.sleep(0.6)  # the watch ends
        member.entries = {
            key: entry for key, entry in member.entries.items() if not key.endswith(b"stranger/a")
        }
        member.revision += 5
        member.entries[b"/firstlight/clusters/rack1/state/stranger/c"] = (b"1", member.revision)
        member.compacted = member.revision
    member.fault.silent = False

    until(lambda: ear.state == {"stranger/b": b"1", "stranger/c": b"1"})


@pytest.mark.system
def test_what_the_listener_could_not_take_is_told_again(writer: EtcdStore, follower: EtcdStore) -> None:
    ear = Ear()
    follower.follow(ear)
    until(lambda: follower._follower._revision > 0)
    ear.fails = 2

    writer.commit([Put(key="accepted/a", value=b"1")])

    until(lambda: ear.state == {"accepted/a": b"1"})


def test_the_last_known_state_is_there_while_etcd_is_away(
    writer: EtcdStore, follower: EtcdStore, served: tuple[Member, list[str]]
) -> None:
    writer.commit([Put(key="machine/a", value=b"1"), Put(key="document/a/node", value=b"not for booting")])
    follower.follow(Ear())
    until(lambda: follower.last_known("machine/a") is not None)
    served[0].fault.silent = True

    with pytest.raises(StateError):
        follower.get("machine/a")
    known = follower.last_known("machine/a")

    assert known is not None
    assert known.value == b"1"
    assert follower.last_known("document/a/node") is None
    assert follower.last_known("machine/b") is None


def test_a_deleted_machine_is_known_no_more(writer: EtcdStore, follower: EtcdStore) -> None:
    writer.commit([Put(key="machine/a", value=b"1")])
    follower.follow(Ear())
    until(lambda: follower.last_known("machine/a") is not None)

    writer.commit([Delete(key="machine/a")])

    until(lambda: follower.last_known("machine/a") is None)
