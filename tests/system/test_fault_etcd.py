"""One of three members of etcd is killed, frozen or cut off while two replicas grant, take reports and bind keys."""

import http.client
import itertools
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from bootstrap.failpoints import NAMES as FAILPOINT_NAMES
from bootstrap.failpoints import VARIABLE
from tests.history import History
from tests.history_claims import CLAIM_CHECKERS
from tests.history_order import check
from tests.system.etcd_lives import Life, Living, Pulse, Question, Wire, mac_of, macs
from tests.system.etcd_rack import HTTP, NAMES, Rack, rack
from tests.system.fleet_rig import FORGOTTEN_SOCKETS, Observer, story
from tests.system.fleet_site import Answer
from tests.system.pxe_segment import inside
from tests.system.web_bench import ADDRESS, asked
from tests.tier import Promise, dice, rounds, seed

pytestmark = [pytest.mark.system, pytest.mark.promise, FORGOTTEN_SOCKETS]

ROUNDS = rounds(ci=1, soak=20)
LIVES = rounds(ci=12, soak=40)
KINDS = ("killed", "frozen", "cut off")
AT_ONCE, EVERY_RIVAL = 6, 3
HOLD_SECONDS, CALM_SECONDS = 6.0, 1.0
STALE_SECONDS = 9.0  # who finds out that etcd is away waits 6 s; all others are answered at once
INTERRUPTION_SECONDS = 5.0  # the promise's own figure
FAILPOINTS = tuple(name for name in FAILPOINT_NAMES if name.startswith("etcd."))
KILLS = rounds(ci=2, soak=20)
COUNT = (len(KINDS) * ROUNDS + KILLS + len(FAILPOINTS)) * LIVES + 3
PULSES = (COUNT - 1, COUNT - 2)


class Balancer:
    """Asks whichever replica answers."""

    def __init__(self, found: Rack) -> None:
        self._rack = found

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        for replica in self._rack.replicas[1:]:
            try:
                answer = replica.ask(method, path, body)
            except OSError:
                continue
            if answer.status < 500:
                return answer
        return self._rack.replicas[0].ask(method, path, body)


@dataclass(frozen=True)
class Rig:
    """What runs, and the history of everything."""

    rack: Rack
    history: History
    observer: Observer
    numbers: Iterator[int]

    def wire(self, name: str) -> Wire:
        return Wire(self.rack, self.history, random.Random(dice(name).getrandbits(64)))

    def verdict(self) -> None:
        self.rack.await_whole()
        self.observer.end()
        found = [*check(self.history), *(bad for checker in CLAIM_CHECKERS for bad in checker(self.history))]
        assert not found, story(self.history, found)

    def acknowledged(self) -> int:
        return sum(bool(call.is_done and call.body.get("seq")) for call in self.history.calls)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder, history = tmp_path_factory.mktemp("s04"), History()
    try:
        with rack(folder, macs(COUNT)) as found, Observer(Balancer(found), history) as observer:
            yield Rig(found, history, observer, iter(range(COUNT)))
    finally:
        history.write(folder / "history.jsonl")


@contextmanager
def killed(found: Rack, name: str) -> Iterator[None]:
    process = found.etcd.processes[name]
    process.kill()
    process.wait(10)
    yield
    found.etcd.start(name)


@contextmanager
def frozen(found: Rack, name: str) -> Iterator[None]:
    process = found.etcd.processes[name]
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@contextmanager
def cut_off(found: Rack, name: str) -> Iterator[None]:
    found.plug(name, connected=False)
    try:
        yield
    finally:
        found.plug(name, connected=True)


FAULTS = {"killed": killed, "frozen": frozen, "cut off": cut_off}


def pulses(rig: Rig) -> list[Pulse]:
    """Return a pulse through each replica, of a machine each that is being written."""
    return [
        Pulse(rig.wire(f"pulse {number}"), replica, number)
        for replica, number in zip(rig.rack.replicas, PULSES, strict=True)
    ]


def next_lives(rig: Rig) -> list[Life]:
    """Return machines that have not lived yet."""
    return [
        Life(rig.wire(f"life {one}"), one, rivals=one % EVERY_RIVAL == 0)
        for one in itertools.islice(rig.numbers, LIVES)
    ]


@pytest.mark.parametrize("what", KINDS)
def test_a_member_is_away_and_nothing_is_lost_or_granted_twice(rig: Rig, promise: Promise, what: str) -> None:
    chance = dice(f"members {what}")
    silences = []
    for number in range(ROUNDS):
        rig.rack.await_whole()
        lives = next_lives(rig)
        victim = rig.rack.leader() if number % 2 == 0 else chance.choice(NAMES)
        beats = pulses(rig)
        for beat in beats:
            beat.start()
        with Living(lives, AT_ONCE) as living:
            time.sleep(CALM_SECONDS)
            for beat in beats:
                beat.since()
            rig.history.saw("fault", {"what": what, "victim": victim})
            with FAULTS[what](rig.rack, victim):
                time.sleep(HOLD_SECONDS)
            living.finish()
        for beat in beats:
            silences.append(beat.since())
            beat.stop()
    rig.verdict()

    assert max(silences) < INTERRUPTION_SECONDS
    claims = sum(call.what == "claim" and call.status == 202 for call in rig.history.calls)
    promise(
        promise=f"S-04 one of three members of etcd is {what}",
        asked="20 times under claims through two replicas: 0 acknowledged events lost, 0 keys bound twice, < 5 s "
        "without an acknowledgement",
        done=f"{ROUNDS} times, the leader first, {LIVES} machines each, every third with a rival",
        found=f"0 of {rig.acknowledged()} acknowledged events lost, 0 of {claims} claims bound a second key, at most "
        f"{max(silences):.1f} s without an acknowledgement",
        seed=seed(),
    )


def test_replicas_are_killed_and_nothing_is_lost_or_granted_twice(rig: Rig, promise: Promise) -> None:
    chance = dice("replicas")
    for _ in range(KILLS):
        rig.rack.await_whole()
        with Living(next_lives(rig), AT_ONCE) as living:
            time.sleep(chance.uniform(0.5, 2.0))
            chance.choice(rig.rack.replicas).kill_worker()
            living.finish()
    for replica, name in zip(rig.rack.replicas, FAILPOINTS, strict=True):
        rig.rack.await_whole()
        replica.stop()
        start = len(replica.log.read_text(errors="replace"))
        replica.start(**{VARIABLE: f"{name}=kill%40"})
        rig.rack.await_whole()
        with Living(next_lives(rig), AT_ONCE) as living:
            living.finish()
        assert f"failpoint {name}: kill" in replica.log.read_text(errors="replace")[start:]
        replica.stop()
        replica.start()
    rig.verdict()
    promise(
        promise="S-01 kill -9 of a replica over etcd",
        asked="under claims through both: 0 acknowledged events lost, 0 keys bound twice",
        done=f"{KILLS} kills at random, then every 40th commit at {', '.join(FAILPOINTS)}",
        found=f"0 of {rig.acknowledged()} acknowledged events lost, no key bound twice",
        seed=seed(),
    )


def test_without_a_majority_stage_a_goes_on_and_claims_are_told_when_to_come_again(
    rig: Rig, promise: Promise
) -> None:
    rig.rack.await_whole()
    number = COUNT - 3
    name, mac, wire = f"w{number}", mac_of(number), rig.wire("majority")
    arm = wire.armed(name, mac)
    begin = Question(
        who=name,
        what="begin",
        path="/v1/machine/begin",
        body={"mac": mac, "arm": arm, "nonce": "late"},
        named={"name": name, "mac": mac, "arm": arm, "nonce": "late"},
    )
    fresh = [boot(rig, at, mac) for at in range(2)]
    with frozen(rig.rack, NAMES[0]), frozen(rig.rack, NAMES[1]):
        time.sleep(8.0)  # one call has found out by then
        took = []
        for at in range(2):
            began = time.monotonic()
            stale = boot(rig, at, mac)
            took.append(time.monotonic() - began)
            assert took[-1] < STALE_SECONDS
            assert arm in stale
            assert "last-known state, the store does not answer" in stale
            assert "last-known state" not in fresh[at]
            answer = wire.once(rig.rack.replicas[at], begin)
            waits = {name.lower(): value for name, value in answer.headers.items()}.get("retry-after")
            assert (answer.status, waits) == (503, "5"), answer
    began = time.monotonic()
    rig.rack.await_whole()
    back = time.monotonic() - began
    assert "last-known state" not in boot(rig, 0, mac)
    rig.verdict()
    promise(
        promise="S-04 no majority of etcd",
        asked="stage A from what was known last, marked so; 503 with Retry-After for grants; well again by itself",
        done="two of three members frozen, both replicas asked",
        found=f"stage A in {max(took):.1f} s at most, no grant, well {back:.0f} s after",
        seed=seed(),
    )


def boot(rig: Rig, at: int, mac: str) -> str:
    """Return the script that a machine gets of a replica."""
    replica = rig.rack.replicas[at]
    with inside(replica.namespace):
        connection = http.client.HTTPConnection(ADDRESS, HTTP, timeout=20)
        answer = asked(connection, "GET", f"/ipxe?mac={mac.replace(':', '-')}&platform=efi")
    assert answer.status == 200, answer
    return answer.body.decode()
