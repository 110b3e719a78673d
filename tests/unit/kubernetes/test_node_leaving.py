"""How a node leaves its cluster: in which order, how long it is waited for, and what cuts it off."""

from dataclasses import dataclass, field

import pytest

from bootstrap.errors import ApiDown, ApiRefused
from bootstrap.kubernetes.leaving import Leave, PodsStay, leave
from bootstrap.kubernetes.seen import NodeView

DOWN = ApiDown("no API server answers at https://10.0.0.1:6443")


@dataclass
class Cluster:
    """A cluster with one node; `rounds` is what each look at its pods finds, the last one for ever."""

    is_ready: bool = True
    is_there: bool = True
    rounds: list[list[str] | ApiDown] = field(default_factory=lambda: [[]])
    done: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    now: float = 0.0

    def node(self, name: str) -> NodeView | None:
        if not self.is_there:
            return None
        return NodeView(
            name=name,
            is_ready=self.is_ready,
            message="Kubelet stopped posting node status.",
            addresses=(),
            version="v1.36.4",
            is_cordoned=False,
        )

    def cordon(self, name: str, *, on: bool = True) -> None:
        self.done.append(f"cordon {name} {on}")

    def evict_pods(self, node: str) -> list[str]:
        self.done.append(f"evict {node}")
        found = self.rounds.pop(0) if len(self.rounds) > 1 else self.rounds[0]
        if isinstance(found, ApiDown):
            raise found
        return found

    def delete_node(self, name: str) -> bool:
        self.done.append(f"delete {name}")
        return True

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def leave(self, seconds: float = 60) -> bool:
        how = Leave(seconds=seconds, tell=self.told.append, clock=lambda: self.now, sleep=self.sleep)
        return leave(self, "w1", how)


def test_it_gets_no_new_pods_then_its_pods_leave_then_it_goes() -> None:
    cluster = Cluster(rounds=[["default/a", "default/b"], ["default/b"], ["default/b"], []])

    assert cluster.leave() is True
    assert cluster.done == ["cordon w1 True", *["evict w1"] * 4, "delete w1"]
    assert cluster.told == [
        "w1: takes no new pods",
        "w1: default/a, default/b leaving",
        "w1: default/b leaving",
        "w1: its node is deleted",
    ]


def test_pods_that_do_not_leave_in_time_keep_the_node() -> None:
    cluster = Cluster(rounds=[["default/held"]])

    with pytest.raises(PodsStay, match=r"default/held still there after 60 s.*--force.*kubectl uncordon w1"):
        cluster.leave()
    assert "delete w1" not in cluster.done
    assert 60 <= cluster.now < 65


def test_without_waiting_the_pods_are_asked_once_and_left_behind() -> None:
    cluster = Cluster(rounds=[["default/held"]])

    assert cluster.leave(0) is True
    assert cluster.done == ["cordon w1 True", "evict w1", "delete w1"]
    assert "w1: default/held not waited for" in cluster.told
    assert cluster.now == 0


def test_pods_of_a_kubelet_that_does_not_answer_are_not_waited_for() -> None:
    cluster = Cluster(is_ready=False, rounds=[["default/a"]])

    assert cluster.leave() is True
    assert cluster.now == 0
    assert "not waited for (the node is not Ready: Kubelet stopped posting" in cluster.told[1]


def test_a_node_that_is_not_there_is_left_alone() -> None:
    cluster = Cluster(is_there=False)

    assert cluster.leave() is False
    assert cluster.done == []


def test_a_node_that_goes_meanwhile_has_left() -> None:
    class Vanishing(Cluster):
        def cordon(self, name: str, *, on: bool = True) -> None:
            del name, on
            raise ApiRefused("nodes w1 not found", 404)

    assert Vanishing().leave() is False


def test_who_may_not_cordon_deletes_nothing() -> None:
    class Forbidden(Cluster):
        def cordon(self, name: str, *, on: bool = True) -> None:
            del name, on
            raise ApiRefused("nodes w1 is forbidden", 403)

    cluster = Forbidden()
    with pytest.raises(ApiRefused):
        cluster.leave()
    assert cluster.done == []


def test_an_api_server_that_restarts_meanwhile_is_asked_again() -> None:
    cluster = Cluster(rounds=[["default/a"], DOWN, DOWN, []])

    assert cluster.leave() is True
    assert cluster.told[2] == f"w1: {DOWN}; asking again"


def test_an_api_server_that_stays_away_deletes_nothing() -> None:
    cluster = Cluster(rounds=[["default/a"], DOWN])

    with pytest.raises(ApiDown):
        cluster.leave()
    assert "delete w1" not in cluster.done


def test_of_many_pods_a_few_are_named() -> None:
    cluster = Cluster(rounds=[[f"default/p{number}" for number in range(9)], []])

    cluster.leave()

    assert cluster.told[1].endswith("default/p4 and 4 more leaving")
