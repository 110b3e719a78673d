"""The store in real etcd: the questions of all stores, and what befalls a cluster of three members."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from bootstrap.errors import StateError
from bootstrap.etcd import Credentials, connected
from bootstrap.records.ledger import Change, Ledger, Note
from bootstrap.records.model import MachineRecord
from bootstrap.state import Delete, Put, Store, Turn
from bootstrap.state.etcd import EtcdStore, open_etcd
from bootstrap.state.etcd_calls import CALL_SECONDS
from bootstrap.state.etcd_txn import ROOM
from bootstrap.state.memory import MemoryStore
from tests.store_questions import ACTS, PREFIXES, QUESTIONS, Acts, answer_of
from tests.system.etcd_members import Members, members

pytestmark = pytest.mark.system

NAMES = ("m1", "m2", "m3")
NUMBERS = count()
INTERRUPTION_SECONDS = 5.0  # the promise of S-04
HEARD_SECONDS = 15.0  # a watch on a member that is frozen lives 5 s


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    with members(tmp_path_factory.mktemp("etcd"), *NAMES) as running:
        store = new(running)
        until(lambda: answers(store), 60)
        store.close()
        yield running


def new(cluster: Members, name: str = "") -> EtcdStore:
    return open_etcd(cluster.urls, cluster.credentials, name or f"rack{next(NUMBERS)}")


def answers(store: Store) -> bool:
    try:
        store.get("a")
    except StateError:
        return False
    return True


def until(question: Callable[[], bool], seconds: float) -> float:
    began = time.monotonic()
    while not question():
        assert time.monotonic() - began < seconds
        time.sleep(0.05)
    return time.monotonic() - began


@pytest.fixture
def store(cluster: Members) -> Iterator[EtcdStore]:
    made = new(cluster)
    yield made
    made.close()


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.__name__)
def test_real_etcd_does_what_every_store_does(store: EtcdStore, question: Callable[[Store], None]) -> None:
    question(store)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(acts=ACTS, prefix=PREFIXES)
def test_real_etcd_agrees_with_a_memory(cluster: Members, acts: Acts, prefix: str) -> None:
    made = new(cluster)
    try:
        assert answer_of(made, acts, prefix) == answer_of(MemoryStore(), acts, prefix)
    finally:
        made.close()


@pytest.mark.parametrize("writes", [128, 129, ROOM.writes])
def test_real_etcd_takes_the_largest_commit(store: EtcdStore, writes: int) -> None:
    """In two levels of transactions, beside as many conditions as there may be."""
    conditions = [Put(key=f"c/{number}", value=b"", after=0) for number in range(ROOM.conditions)]
    many = [Put(key=f"k/{number}", value=b"x" * 400) for number in range(writes)]

    revision = store.commit([*conditions, *many])

    assert {revision} == {entry.revision for entry in store.scan("")}
    assert len(list(store.scan("k/"))) == writes


def test_a_commit_of_the_size_that_is_promised_fits_and_a_larger_one_is_named(store: EtcdStore) -> None:
    half = ROOM.content // 2
    store.commit([Put(key="a", value=b"x" * half), Put(key="b", value=b"x" * half)])

    for size in (1_700_000, 2 << 20):
        with pytest.raises(StateError, match=r"(too large|larger than max).*raise its --max-request-bytes"):
            store.commit([Put(key="c", value=b"x" * size)])
    assert [entry.key for entry in store.scan("")] == ["a", "b"]


def test_the_largest_reports_of_machines_are_no_error_of_what_waits_beside_them(store: EtcdStore) -> None:
    """More than etcd takes in one request: each of 1 MiB, as an installer may bring, and small ones in between."""
    ledger = Ledger(store, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    large = {f"m{at:02d}" for at in range(0, 48, 8)}

    def told(mac: str) -> int:
        facts = Put(key=f"facts/{mac}", value=b"x" * (1 << 20))
        note = Note(who="machine", what="facts", log=mac, machine=mac)
        written = ledger.change(
            mac,
            lambda _, now: Change(
                record=MachineRecord(mac=mac, name=mac, since=now),
                note=note,
                writes=(facts,) if mac in large else (),
            ),
        )
        assert written is not None
        return written.seq

    with ThreadPoolExecutor(32) as pool:
        numbers = list(pool.map(told, [f"m{at:02d}" for at in range(48)]))

    assert sorted(numbers) == list(range(1, 49))
    assert len(list(store.scan("facts/"))) == len(large)


def compact(cluster: Members, store: EtcdStore) -> None:
    revision = store.commit([])
    host, _, port = cluster.addresses["m1"].rpartition(":")
    client = connected(host, int(port), cluster.credentials, seconds=5)
    client.compact(revision, physical=True)
    client.close()


class Ear:
    def __init__(self) -> None:
        self.state: dict[str, bytes] = {}

    def __call__(self, turns: Sequence[Turn]) -> None:
        for turn in turns:
            if turn.value is None:
                self.state.pop(turn.key, None)
            else:
                self.state[turn.key] = turn.value


@pytest.fixture
def pair(cluster: Members) -> Iterator[tuple[EtcdStore, EtcdStore, Ear]]:
    """Two processes on one state, of which the second follows."""
    name, ear = f"pair{next(NUMBERS)}", Ear()
    one, other = new(cluster, name), new(cluster, name)
    one.commit([Put(key="machine/first", value=b"1")])
    other.follow(ear)
    until(lambda: "machine/first" in ear.state, HEARD_SECONDS)
    yield one, other, ear
    other.close()
    one.close()


def test_what_one_writes_the_other_hears_at_once_and_across_a_compaction(
    cluster: Members, pair: tuple[EtcdStore, EtcdStore, Ear]
) -> None:
    one, other, ear = pair
    for number in range(200):
        one.commit(
            [Put(key=f"stranger/{number}", value=b"x"), Put(key="machine/first", value=b"%d" % number)]
        )
    took = until(lambda: len(ear.state) == 201, HEARD_SECONDS)
    compact(cluster, one)
    one.commit([Delete(key="stranger/7")])

    until(lambda: "stranger/7" not in ear.state, HEARD_SECONDS)
    assert took < 5
    known = other.last_known("machine/first")
    assert known is not None
    assert known.value == b"199"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_one_member_that_is_away_is_hardly_noticed(
    cluster: Members, pair: tuple[EtcdStore, EtcdStore, Ear], name: str, number: signal.Signals
) -> None:
    one, other, ear = pair
    longest, last = 0.0, time.monotonic()
    cluster.processes[name].send_signal(number)
    try:
        for at in range(150):
            for store in (one, other):
                store.commit([Put(key=f"machine/{at}", value=b"x")])
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
        until(lambda: "machine/149" in ear.state, HEARD_SECONDS)
    finally:
        back(cluster, name, number)

    assert longest < INTERRUPTION_SECONDS
    assert {f"machine/{at}" for at in range(150)} <= set(ear.state)


def back(cluster: Members, name: str, number: signal.Signals) -> None:
    if number == signal.SIGSTOP:
        cluster.processes[name].send_signal(signal.SIGCONT)
    else:
        cluster.processes[name].wait(10)
        cluster.start(name)
    store = open_etcd([f"https://{cluster.addresses[name]}"], cluster.credentials, "none")
    until(lambda: answers(store), 60)
    store.close()


def test_without_a_majority_there_is_one_clear_error_in_time_and_the_last_known_state(
    cluster: Members, pair: tuple[EtcdStore, EtcdStore, Ear]
) -> None:
    one, other, _ = pair
    for name in NAMES[:2]:
        cluster.processes[name].send_signal(signal.SIGSTOP)
    try:
        for store in (one, other):
            began = time.monotonic()
            with pytest.raises(
                StateError, match=r"etcd \(https://.*\): no answer within 6 s \(.*\); look whether"
            ):
                store.commit([Put(key="machine/lost", value=b"x")])
            assert time.monotonic() - began < 2 * CALL_SECONDS
        known = other.last_known("machine/first")
        assert known is not None
    finally:
        for name in NAMES[:2]:
            cluster.processes[name].send_signal(signal.SIGCONT)

    assert until(lambda: answers(one), 30) < 30
    one.commit([Put(key="machine/back", value=b"x")])


@pytest.mark.parametrize("what", ["nobody's", "none"])
def test_a_certificate_that_etcd_does_not_take_is_one_clear_error(
    cluster: Members, tmp_path: Path, what: str
) -> None:
    with members(tmp_path / "another") as another:
        theirs = another.credentials
    authority = cluster.credentials.authority
    wrong = (
        Credentials(authority) if what == "none" else Credentials(authority, theirs.certificate, theirs.key)
    )
    store = open_etcd(cluster.urls, wrong, "rack")

    with pytest.raises(
        StateError, match=r"no answer within 6 s \(.+\); look whether it runs .*appliance\.etcd"
    ):
        store.get("a")


def test_a_server_of_another_authority_gets_nothing(cluster: Members, tmp_path: Path) -> None:
    with members(tmp_path / "another") as another:
        store = open_etcd(cluster.urls, another.credentials, "rack")

    with pytest.raises(StateError, match="no answer within 6 s"):
        store.commit([Put(key="a", value=b"secret")])
