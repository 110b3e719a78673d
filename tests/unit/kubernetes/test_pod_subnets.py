"""Pod subnets: every node has one, nobody's changes, and they lie apart inside the pod subnet."""

from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootstrap.allotment import FILE, pod_subnets
from bootstrap.errors import RenderError, StateError
from bootstrap.kubernetes.pod_network import laid_out
from bootstrap.kubernetes.subnets import allot, allotment, capacity, dump, node_names, parse, subnet_of
from tests import samples
from tests.unit.kubernetes.planes import cluster_of

NAMES = st.sets(st.text("abc123", min_size=1, max_size=3), max_size=12)
RUNS = st.lists(NAMES, min_size=1, max_size=8)


def walk(runs: list[set[str]], size: int) -> list[tuple[set[str], dict[str, int]]]:
    """Return names and numbers of each run, each run knowing the one before."""
    done: list[tuple[set[str], dict[str, int]]] = []
    previous: dict[str, int] = {}
    for names in runs:
        previous = allot(previous, names, size)
        done.append((names, previous))
    return done


@given(RUNS, st.integers(12, 40))
def test_everyone_has_a_number_in_range_and_no_two_the_same(runs: list[set[str]], size: int) -> None:
    for names, numbers in walk(runs, size):
        assert names <= numbers.keys()
        assert len(set(numbers.values())) == len(numbers)
        assert all(0 <= number < size for number in numbers.values())


@given(RUNS, st.integers(12, 40))
def test_no_node_that_stays_gets_another_number(runs: list[set[str]], size: int) -> None:
    done = walk(runs, size)
    for (before, old), (after, new) in pairwise(done):
        assert all(old[name] == new[name] for name in before & after)


@given(RUNS)
def test_with_room_for_all_a_node_that_comes_back_finds_its_own(runs: list[set[str]]) -> None:
    everyone = set().union(*runs)
    seen: dict[str, int] = {}
    for _, numbers in walk(runs, max(len(everyone), 1)):
        assert all(seen.get(name, number) == number for name, number in numbers.items())
        seen |= numbers


@given(NAMES, st.integers(12, 40))
def test_the_order_of_names_does_not_matter(names: set[str], size: int) -> None:
    assert allot({}, sorted(names), size) == allot({}, sorted(names, reverse=True), size)
    assert allot(allot({}, names, size), names, size) == allot({}, names, size)


def test_the_number_of_one_that_is_gone_is_given_away_last() -> None:
    assert allot({"a": 0, "b": 1}, ["b", "c"], 3) == {"a": 0, "b": 1, "c": 2}
    assert allot({"a": 0, "b": 1}, ["b", "c"], 2) == {"b": 1, "c": 0}


def test_numbers_that_cannot_be_are_given_anew() -> None:
    assert allot({"a": 9, "b": -1, "c": 0, "d": 0}, ["a", "b", "c", "d"], 4) == {
        "a": 1,
        "b": 2,
        "c": 0,
        "d": 3,
    }


def test_too_many_are_refused() -> None:
    with pytest.raises(RenderError, match="3 nodes do not fit into 2"):
        allot({}, ["a", "b", "c"], 2)


def test_subnets_lie_apart_inside_the_pod_subnet() -> None:
    cluster = samples.cluster("ha")
    found = [subnet_of(cluster, number) for number in (0, 1, 255, 256, capacity(cluster) - 1)]

    assert capacity(cluster) == 1024
    assert str(found[0]) == "10.4.0.0/24"
    assert str(found[-1]) == "10.7.255.0/24"
    assert all(subnet.subnet_of(cluster.kubernetes.pod_subnet) for subnet in found)
    assert not any(one.overlaps(other) for one, other in combinations(found, 2))


def test_a_host_that_runs_a_kubelet_is_a_node() -> None:
    cluster = samples.cluster("lab")
    host = cluster.control_plane.hosts[0].model_copy(update={"node": True})
    plane = cluster.control_plane.model_copy(update={"hosts": (host,)})

    assert node_names(cluster) == ("w1", "w2")
    assert node_names(cluster.model_copy(update={"control_plane": plane})) == ("m1", "w1", "w2")


def test_every_node_has_a_route_to_the_pods_of_a_host_that_is_one() -> None:
    cluster = cluster_of("lab", nodes=True)
    numbers = allotment(cluster)
    wanted = f"route {subnet_of(cluster, numbers['m1'])} 10.77.0.10\n"

    assert wanted in laid_out(cluster, numbers).routes.decode()
    assert " 10.77.0.10\n" not in laid_out(cluster_of("lab"), numbers).routes.decode()


def test_the_file_says_what_was_allotted(tmp_path: Path) -> None:
    cluster = samples.cluster("lab")
    assert pod_subnets(cluster, tmp_path) == {"w1": 0, "w2": 1} == allotment(cluster)
    assert parse((tmp_path / FILE).read_bytes()) == {"w1": 0, "w2": 1}

    (tmp_path / FILE).write_bytes(dump({"w2": 7, "gone": 3}))
    assert pod_subnets(cluster, tmp_path) == {"gone": 3, "w1": 0, "w2": 7}
    stamp = (tmp_path / FILE).stat().st_mtime_ns
    assert pod_subnets(cluster, tmp_path) == {"gone": 3, "w1": 0, "w2": 7}
    assert (tmp_path / FILE).stat().st_mtime_ns == stamp


def test_a_look_writes_nothing(tmp_path: Path) -> None:
    assert pod_subnets(samples.cluster("lab"), tmp_path, keep=False) == {"w1": 0, "w2": 1}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"w1": "0"}', b'{"w1": true}', b'{"w1": 0'])
def test_a_damaged_file_stops_the_run(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)

    with pytest.raises(StateError, match=r"pod-subnets\.json: is damaged.*put it back from a backup"):
        pod_subnets(samples.cluster("lab"), tmp_path)
    assert (tmp_path / FILE).read_bytes() == content
