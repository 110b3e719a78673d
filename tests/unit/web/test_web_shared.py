"""Two appliances over one store: what one does, the other knows; and what is served while the store is away."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from bootstrap.errors import StateError
from bootstrap.records.documents import LIVE, key_of
from bootstrap.records.model import Accepted
from bootstrap.state import Entry, Put, Room, Turn, Write
from bootstrap.state.etcd_follow import TOLD
from bootstrap.state.memory import MemoryStore
from tests.unit.web.conftest import Rack
from tests.unit.web.fakes import W1, W2, BrokenStore, cluster
from tests.unit.web.looking import LookingRack
from web import accepting
from web.hearing import Hearing

NEW = "52:54:00:aa:00:77"
WISH = {"pool": "workers", "name": "w7"}


class SharedMemory:
    """A memory that several appliances have, each through a store of its own that can lose it."""

    def __init__(self, whole: MemoryStore, everyone: list["SharedMemory"]) -> None:
        self._broken = BrokenStore(whole)
        self._everyone = everyone
        self._listen: Callable[[Sequence[Turn]], None] = lambda _: None
        self._known: dict[str, Entry] = {}
        everyone.append(self)

    room = Room(writes=5, conditions=6, content=1 << 20)

    @property
    def is_away(self) -> bool:
        return self._broken.reads_fail

    @is_away.setter
    def is_away(self, value: bool) -> None:
        self._broken.reads_fail = self._broken.writes_fail = value

    def get(self, key: str) -> Entry | None:
        return self._broken.get(key)

    def scan(self, prefix: str, newer: int = 0) -> Iterator[Entry]:
        return self._broken.scan(prefix, newer)

    def commit(self, writes: Sequence[Write]) -> int:
        assert len(writes) <= 40
        revision = self._broken.commit(writes)
        turns = [Turn(key=one.key, value=one.value if isinstance(one, Put) else None) for one in writes]
        for store in self._everyone:
            store.hear(turns, revision)
        return revision

    def close(self) -> None:
        self._broken.close()

    def get_all(self, keys: Sequence[str]) -> dict[str, Entry | None]:
        return {key: self.get(key) for key in keys}

    def last_known(self, key: str) -> Entry | None:
        return self._known.get(key)

    def follow(self, listen: Callable[[Sequence[Turn]], None]) -> None:
        self._listen = listen
        entries = [*self.scan("")]
        self._known = {entry.key: entry for entry in entries}
        listen([Turn(key=one.key, value=one.value) for one in entries if one.key.startswith(TOLD)])

    def hear(self, turns: Sequence[Turn], revision: int) -> None:
        for turn in turns:
            if turn.value is not None:
                self._known[turn.key] = Entry(key=turn.key, value=turn.value, revision=revision)
        self._listen(turns)


def two(kind: type[Rack] = Rack) -> tuple[Rack, Rack]:
    """Two racks on one store that do not listen to each other yet."""
    whole, everyone = MemoryStore(), list[SharedMemory]()
    one, other = (kind(store=SharedMemory(whole, everyone)) for _ in range(2))  # type: ignore[arg-type]
    return one, other


@pytest.fixture
def racks() -> tuple[Rack, Rack]:
    one, other = two()
    for rack in (one, other):
        Hearing(rack.site).start()
    return one, other


def away(rack: Rack, *, yes: bool = True) -> None:
    assert isinstance(rack.site.store, SharedMemory)
    rack.site.store.is_away = yes


def test_what_a_machine_claims_here_is_known_there(racks: tuple[Rack, Rack]) -> None:
    one, other = racks
    one.boot(W1, uuid="3b1f7e60-0000-4000-8000-0123456789ab", serial="S-1", manufacturer="ACME")

    other.boot(W2, uuid="3b1f7e60-0000-4000-8000-0123456789ab", serial="S-2", manufacturer="ACME")

    assert other.machine("w2")["state"] == "conflict"
    assert one.machine("w1")["state"] == "conflict"


def test_what_a_machine_claims_while_another_appliance_starts_is_known_there_too() -> None:
    one, other = two()
    one.boot(W1, uuid="3b1f7e60-0000-4000-8000-0123456789ab", serial="S-1", manufacturer="ACME")
    Hearing(other.site).start()

    other.boot(W2, uuid="3b1f7e60-0000-4000-8000-0123456789ab", serial="S-2", manufacturer="ACME")

    assert other.machine("w2")["state"] == "conflict"


def test_a_stranger_that_one_has_met_is_counted_by_the_other(racks: tuple[Rack, Rack]) -> None:
    one, other = racks

    one.boot(NEW)

    assert other.site.strangers._count == 1
    assert other.operator("GET", "/v1/machines").json["strangers"][0]["mac"] == NEW  # type: ignore[index]


def test_a_machine_that_one_has_accepted_is_the_others_too(racks: tuple[Rack, Rack]) -> None:
    one, other = racks
    new = Accepted(mac=NEW, name="w7", pool="workers")

    one.site.store.commit([Put(key=f"accepted/{NEW}", value=new.to_bytes())])

    for rack in racks:
        assert rack.site.cluster.machine("w7") is not None
    assert other.machine("w7")["state"] == "armed"


def test_events_of_both_have_numbers_without_a_gap(racks: tuple[Rack, Rack]) -> None:
    for _ in range(10):
        for rack in racks:
            rack.boot(W1)

    numbers = [event.seq for event in racks[0].site.ledger.events_after(0, 1000)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 20


def test_a_machine_boots_from_what_was_known_last_and_is_told_so(racks: tuple[Rack, Rack]) -> None:
    rack = racks[0]
    fresh = rack.boot(W1)
    away(rack)

    stale = rack.boot(W1)

    assert "last-known state" not in fresh
    assert "last-known state, the store does not answer" in stale
    assert [line for line in fresh.splitlines() if line.startswith(("kernel", "initrd"))] == [
        line for line in stale.splitlines() if line.startswith(("kernel", "initrd"))
    ]
    away(rack, yes=False)
    assert "last-known state" not in rack.boot(W1)


def test_a_machine_whose_answer_is_a_404_leaves_ipxe_while_the_store_is_away() -> None:
    """Its iPXE sees no status: without the script of /ipxe/leave it would ask again for ever."""
    made = cluster()
    leaves = [one.model_copy(update={"boot_from_disk_method": "http-404"}) for one in made.machines]
    store = SharedMemory(MemoryStore(), [])
    rack = Rack(cluster=made.model_copy(update={"machines": tuple(leaves)}), store=store)  # type: ignore[arg-type]
    Hearing(rack.site).start()
    assert rack.tell("complete").status_code == 200
    ask = {"mac": W1, "platform": "efi"}
    fresh = rack.public("/ipxe/leave", query_string=ask)
    away(rack)

    boot, leave = (rack.public(path, query_string=ask) for path in ("/ipxe", "/ipxe/leave"))

    assert (boot.status_code, leave.status_code) == (404, 200)
    assert "last-known state, the store does not answer" in leave.text
    assert "last-known state" not in fresh.text
    assert fresh.text.splitlines()[-1] == leave.text.splitlines()[-1] == "exit 1"
    assert rack.public("/ipxe/leave", query_string={"mac": W2}).status_code == 404, "it is to be installed"
    assert rack.public("/ipxe/leave", query_string={"mac": NEW}).status_code == 503


def test_the_stage_a_document_of_the_past_has_a_warning(racks: tuple[Rack, Rack]) -> None:
    rack = racks[0]
    fresh = rack.public(f"/v1/ignition/{W1}")
    away(rack)

    stale = rack.public(f"/v1/ignition/{W1}")

    assert (stale.status_code, stale.data) == (200, fresh.data)
    assert "Warning" not in fresh.headers
    assert stale.headers["Warning"] == '110 firstlight "Response is Stale"'


def test_nothing_is_granted_while_the_store_is_away(racks: tuple[Rack, Rack]) -> None:
    rack = racks[0]
    arm = rack.record(W1).arm
    away(rack)

    begun = rack.ask("machine", "POST", "/v1/machine/begin", json={"mac": W1, "arm": arm})
    told = rack.ask("machine", "POST", "/v1/machine/events", json={"mac": W1, "arm": arm, "kind": "booted"})

    for answer in (begun, told):
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "5"
    assert rack.public("/ipxe", query_string={"mac": NEW, "platform": "pcbios"}).status_code == 503
    assert rack.public("/readyz").status_code == 503


def test_a_store_of_one_process_has_no_last_known_state(rack: Rack) -> None:
    rack.boot(W1)
    rack.store.reads_fail = rack.store.writes_fail = True

    assert rack.public("/ipxe", query_string={"mac": W1, "platform": "pcbios"}).status_code == 503
    assert rack.public(f"/v1/ignition/{W1}").status_code == 503


def test_documents_that_do_not_fit_into_one_commit_are_all_there(racks: tuple[Rack, Rack]) -> None:
    documents = {(f"52:54:00:aa:01:{n:02x}", LIVE): b"x" * 100 for n in range(40)}

    racks[0].site.documents.replace(documents)

    assert all(racks[1].site.store.get(key_of(*key)) for key in documents)
    assert not racks[1].site.documents.replace(documents)


def test_documents_cut_in_the_middle_are_done_again(
    racks: tuple[Rack, Rack], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, commits = racks[0].site.store, 0
    real = store.commit
    old = {("52:54:00:aa:01:ff", LIVE): b"old"}
    racks[0].site.documents.replace(old)

    def cut(writes: Sequence[Write]) -> int:
        nonlocal commits
        commits += 1
        if commits == 3:
            raise StateError("away")
        return real(writes)

    monkeypatch.setattr(store, "commit", cut)
    documents = {(f"52:54:00:aa:01:{n:02x}", LIVE): b"x" * 100 for n in range(40)}
    with pytest.raises(StateError):
        racks[0].site.documents.replace(documents)
    assert racks[0].site.documents.are_loaded()

    assert racks[1].site.documents.replace(old)  # what is half new is not taken for the old
    assert racks[1].site.documents.replace(documents)
    assert all(racks[1].site.store.get(key_of(*key)) for key in documents)


def test_two_appliances_that_accept_at_once_never_give_one_name_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = two(LookingRack)
    strangers = [NEW, "52:54:00:aa:00:78"]
    for mac in strangers:
        one.boot(mac)
    real, done = accepting._entry, list[bool]()

    def meanwhile(*words: Any) -> Accepted:
        found = real(*words)
        if not done:
            done.append(True)
            assert other.operator("POST", f"/v1/machines/{strangers[1]}/accept", json=WISH).status_code == 200
        return found

    monkeypatch.setattr(accepting, "_entry", meanwhile)

    late = one.operator("POST", f"/v1/machines/{strangers[0]}/accept", json=WISH)

    assert late.status_code == 409
    assert "another machine is called w7" in (late.json or {})["reason"]
    assert [one.mac for one in one.site.accepted()] == [strangers[1]]
