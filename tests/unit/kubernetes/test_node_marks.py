"""Labels and taints of pools on nodes that are there already: ours come and go, those of others stay."""

import json
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from bootstrap.errors import ApiDown
from bootstrap.kubernetes.marks import Marks, Ours, mark, marks_of, patch_of
from bootstrap.kubernetes.seen import NodeMarks, node_marks_from
from bootstrap.model import Taint
from tests.unit.kubernetes.planes import cluster_of

GPU = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}
SICK = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}


class Cluster:
    """Nodes that keep what they are given, as an API server does."""

    def __init__(self, **nodes: dict[str, Any]) -> None:
        self.nodes = {
            name: {"labels": {"kubernetes.io/os": "linux"}, "taints": [], **node}
            for name, node in nodes.items()
        }
        self.record: dict[str, str] | None = None
        self.patches: dict[str, Mapping[str, Any]] = {}
        self.down_for = ""

    def node_marks(self) -> list[NodeMarks]:
        return [
            NodeMarks(name=name, revision="7", labels=node["labels"], taints=tuple(node["taints"]))
            for name, node in self.nodes.items()
        ]

    def patch_node(self, name: str, patch: Mapping[str, Any]) -> None:
        if name == self.down_for:
            raise ApiDown("gone")
        node, self.patches[name] = self.nodes[name], patch
        for key, value in patch.get("metadata", {}).get("labels", {}).items():
            node["labels"] = {k: v for k, v in node["labels"].items() if k != key}
            node["labels"] |= {} if value is None else {key: value}
        if "spec" in patch:
            node["taints"] = patch["spec"]["taints"] or []

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        assert (namespace, name) == ("kube-system", "firstlight-marks")
        return self.record

    def apply(self, objects: Iterable[Mapping[str, Any]]) -> list[str]:
        (wanted,) = objects
        changed = ["ConfigMap/kube-system/firstlight-marks"] if wanted["data"] != self.record else []
        self.record = wanted["data"]
        return changed


def test_a_host_that_is_a_node_carries_kubeadm_s_label_and_taint_or_what_it_is_given() -> None:
    cluster = cluster_of("ha", nodes=True)
    first, second, third = cluster.control_plane.hosts
    mine = (Taint(key="mine", value="v", effect="NoExecute"),)
    hosts = (
        first,
        second.model_copy(update={"taints": mine}),
        third.model_copy(update={"taints": ()}),
    )
    plane = cluster.control_plane.model_copy(update={"hosts": hosts})
    found = marks_of(cluster.model_copy(update={"control_plane": plane}))

    label = {"node-role.kubernetes.io/control-plane": ""}
    taint = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
    assert found["m1"] == Marks(labels=label, taints=(taint,))
    assert found["m2"] == Marks(labels=label, taints=({"key": "mine", "value": "v", "effect": "NoExecute"},))
    assert found["m3"] == Marks(labels=label)
    assert not {"m1", "m2", "m3"} & set(marks_of(cluster_of("ha")))


def test_a_host_gets_its_label_and_others_lose_none() -> None:
    cluster = Cluster(m1={}, w1={"labels": {"theirs": "x"}})

    assert mark(cluster, {"m1": Marks(labels={"node-role.kubernetes.io/control-plane": ""})}) == [
        "Node/m1",
        "ConfigMap/kube-system/firstlight-marks",
    ]
    assert cluster.nodes["m1"]["labels"]["node-role.kubernetes.io/control-plane"] == ""
    assert cluster.nodes["w1"]["labels"] == {"theirs": "x"}
    assert mark(cluster, {"m1": Marks(labels={"node-role.kubernetes.io/control-plane": ""})}) == []


def test_a_pool_says_what_the_nodes_of_its_machines_carry() -> None:
    cluster = cluster_of("lab")
    taints = (Taint(key="k", value="v", effect="NoSchedule"), Taint(key="x", effect="NoExecute"))
    pools = tuple(
        pool.model_copy(update={"labels": {"rack": "a"}, "taints": taints}) for pool in cluster.pools
    )

    marks = marks_of(cluster.model_copy(update={"pools": pools}))

    found = Marks(
        labels={"rack": "a"},
        taints=({"key": "k", "value": "v", "effect": "NoSchedule"}, {"key": "x", "effect": "NoExecute"}),
    )
    assert marks == dict.fromkeys([machine.name for machine in cluster.machines], found)
    assert marks["w1"].to_data() == json.loads(json.dumps(marks["w1"].to_data()))


def test_a_cluster_without_labels_and_taints_is_not_asked_for_its_nodes() -> None:
    cluster = Cluster(w1={})
    cluster.node_marks = lambda: pytest.fail("asked")  # type: ignore[method-assign]

    assert mark(cluster, {"w1": Marks()}) == []
    assert cluster.record is None


def test_what_came_into_the_configuration_comes_to_the_node_once() -> None:
    cluster, wanted = (
        Cluster(w1={}, theirs={}),
        {"w1": Marks(labels={"rack": "a"}, taints=(GPU,)), "w9": Marks()},
    )

    assert mark(cluster, wanted) == ["Node/w1", "ConfigMap/kube-system/firstlight-marks"]
    assert cluster.nodes["w1"] == {"labels": {"kubernetes.io/os": "linux", "rack": "a"}, "taints": [GPU]}
    assert mark(cluster, wanted) == []


def test_what_left_the_configuration_leaves_the_node_and_what_others_gave_stays() -> None:
    theirs = {"key": "maintenance", "effect": "NoSchedule"}
    cluster = Cluster(w1={"labels": {"by-hand": "1"}, "taints": [SICK, theirs]})
    mark(cluster, {"w1": Marks(labels={"rack": "a", "row": "1"}, taints=(GPU,))})

    mark(cluster, {"w1": Marks(labels={"row": "2"})})

    assert cluster.nodes["w1"] == {"labels": {"by-hand": "1", "row": "2"}, "taints": [SICK, theirs]}
    assert mark(cluster, {"w1": Marks()}) == ["Node/w1", "ConfigMap/kube-system/firstlight-marks"]
    assert cluster.nodes["w1"]["labels"] == {"by-hand": "1"}
    assert mark(cluster, {"w1": Marks()}) == []


def test_a_machine_that_moved_to_another_pool_loses_what_only_the_first_has() -> None:
    cluster = Cluster(w1={"labels": {"gpu": "a100"}}, w2={})

    mark(cluster, {"w1": Marks(labels={"cpu": "1"}), "w2": Marks(labels={"gpu": "a100"})})

    assert cluster.nodes["w1"]["labels"] == {"cpu": "1"}


def test_a_taint_whose_value_changed_is_replaced_and_one_that_is_right_keeps_its_place() -> None:
    old = {**GPU, "value": "old"}
    node = NodeMarks(
        name="w1", revision="7", labels={}, taints=(SICK, old, {"key": "x", "effect": "NoExecute"})
    )
    ours = Ours(taints=frozenset({"nvidia.com/gpu:NoSchedule"}))

    patch = patch_of(node, Marks(taints=({**GPU, "value": "new"},)), ours)

    assert patch == {
        "metadata": {"resourceVersion": "7"},
        "spec": {"taints": [SICK, {"key": "x", "effect": "NoExecute"}, {**GPU, "value": "new"}]},
    }
    assert patch_of(node, Marks(taints=(old,)), ours) == {}


def test_a_run_that_was_cut_off_forgets_nothing() -> None:
    cluster = Cluster(w1={}, w2={})
    mark(cluster, {name: Marks(labels={"rack": "a"}) for name in ("w1", "w2")})
    cluster.down_for = "w2"
    with pytest.raises(ApiDown):
        mark(cluster, {"w1": Marks(), "w2": Marks()})
    cluster.down_for = ""

    assert mark(cluster, {"w1": Marks(), "w2": Marks()}) == [
        "Node/w2",
        "ConfigMap/kube-system/firstlight-marks",
    ]


def test_what_a_node_gives_out_of_its_gpus_is_read_by_resource() -> None:
    amounts = {
        "cpu": "8",
        "nvidia.com/gpu": "4",
        "nvidia.com/mig-1g.10gb": "14",
        "nvidia.com/mig-3g.40gb": "odd",
    }
    node = SimpleNamespace(
        metadata=SimpleNamespace(name="w1", resourceVersion="7", labels=None),
        spec=None,
        status=SimpleNamespace(allocatable=amounts),
    )

    found = node_marks_from(node)

    assert found.instances == {"nvidia.com/mig-1g.10gb": 14, "nvidia.com/mig-3g.40gb": 0}
    assert found.given(2) == {"nvidia.com/gpu": 2, **found.instances}
