"""Several appliances on one store give each node one pod subnet, whoever asks first."""

from pathlib import Path

import pytest

from bootstrap.accepted import composed
from bootstrap.allotment import FILE, pod_subnets
from bootstrap.errors import StateError
from bootstrap.kubernetes.subnets import parse
from bootstrap.model import Cluster
from bootstrap.records.model import Accepted
from bootstrap.render.node import Joining
from bootstrap.state import Put
from bootstrap.state.memory import MemoryStore
from tests.unit.web.fakes import cluster
from web.allotting import SUBNETS, ReadJoining, allotted


def asker(store: MemoryStore, work: Path) -> ReadJoining:
    work.mkdir(exist_ok=True)

    def ask(whole: Cluster) -> Joining | None:
        pod_subnets(whole, work)
        return None

    return allotted(store, work, ask)


def with_machines(*names: str) -> Cluster:
    more = [
        Accepted(mac=f"52:54:00:bb:00:{at:02x}", name=name, pool="workers") for at, name in enumerate(names)
    ]
    return composed(cluster(), more)


def numbers(work: Path) -> dict[str, int]:
    return parse((work / FILE).read_bytes())


def test_who_comes_second_gets_the_numbers_of_the_first(tmp_path: Path) -> None:
    store, one, other = MemoryStore(), tmp_path / "one", tmp_path / "other"
    asker(store, one)(with_machines("zebra"))
    asker(store, one)(with_machines("ape", "zebra"))

    asker(store, other)(with_machines("ape", "zebra"))

    assert numbers(one) == numbers(other) == {"w1": 0, "w2": 1, "zebra": 2, "ape": 3}


def test_two_that_meet_new_nodes_at_once_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, one, other = MemoryStore(), tmp_path / "one", tmp_path / "other"
    asker(store, one)(cluster())
    real, done = store.commit, list[bool]()

    def overtaken(writes: list[Put]) -> int:
        if not done:
            done.append(True)
            asker(store, other)(with_machines("zebra"))
        return real(writes)

    monkeypatch.setattr(store, "commit", overtaken)
    asker(store, one)(with_machines("ape", "zebra"))

    assert numbers(one) == {"w1": 0, "w2": 1, "zebra": 2, "ape": 3}
    entry = store.get(SUBNETS)
    assert entry is not None
    assert parse(entry.value) == numbers(one)


def test_a_number_that_another_has_is_given_up(tmp_path: Path) -> None:
    store, one, other = MemoryStore(), tmp_path / "one", tmp_path / "other"
    asker(store, one)(with_machines("zebra"))
    other.mkdir()
    pod_subnets(with_machines("ape"), other)

    asker(store, other)(with_machines("ape", "zebra"))

    assert numbers(other) == {"w1": 0, "w2": 1, "zebra": 2, "ape": 3}


def test_a_damaged_allotment_is_named_and_nothing_given_out(tmp_path: Path) -> None:
    store = MemoryStore()
    store.commit([Put(key=SUBNETS, value=b"[]")])

    with pytest.raises(StateError, match="meta/pod-subnets in the store is damaged"):
        asker(store, tmp_path / "one")(cluster())
    assert not (tmp_path / "one" / FILE).exists()
