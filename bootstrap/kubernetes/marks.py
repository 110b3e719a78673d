"""Labels and taints of pools on nodes that are there already: a kubelet gives itself its own only when it registers.

What the configuration names for any pool is ours on every machine: where a machine's own pool does not name it, it
goes. What it named last is kept in the cluster, so that what was taken out of the configuration goes too. Labels
and taints of others stay.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bootstrap.kubernetes.labels import CONTROL_PLANE, host_taints, pool_labels
from bootstrap.kubernetes.seen import NodeMarks
from bootstrap.model import Cluster, Taint

NAMESPACE, RECORD = "kube-system", "firstlight-marks"


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Labels by key, and taints as the API writes them: `key`, `effect`, and `value` where there is one."""

    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()

    def to_data(self) -> dict[str, object]:
        """Return it as JSON can hold it; `Marks(**data)` is the way back."""
        return {"labels": dict(self.labels), "taints": [dict(taint) for taint in self.taints]}


@dataclass(frozen=True, kw_only=True)
class Ours:
    """What the configuration names, or named: keys of labels, and taints as `key:effect`."""

    labels: frozenset[str] = frozenset()
    taints: frozenset[str] = frozenset()


class Nodes(Protocol):
    """What of the Kubernetes API is needed here (bootstrap/kubernetes/api.py)."""

    def node_marks(self) -> list[NodeMarks]:
        """Return what each node carries."""

    def patch_node(self, name: str, patch: Mapping[str, Any]) -> None:
        """Merge `patch` into the node called `name`."""

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """Return the data of a ConfigMap, or None."""

    def apply(self, objects: Iterable[Mapping[str, Any]]) -> list[str]:
        """Bring `objects` to the cluster; return those that changed."""


def marks_of(cluster: Cluster) -> dict[str, Marks]:
    """Return what the node of each machine, and of each control-plane host that is one, is to carry, by its name."""
    pools = {pool.name: _marks(pool_labels(pool), pool.taints) for pool in cluster.pools}
    hosts = {
        host.name: _marks({CONTROL_PLANE: ""}, host_taints(host))
        for host in cluster.control_plane.hosts
        if host.node
    }
    return {**hosts, **{machine.name: pools[machine.pool] for machine in cluster.machines}}


def _marks(labels: Mapping[str, str], taints: Iterable[Taint]) -> Marks:
    return Marks(labels=labels, taints=tuple(taint.model_dump(exclude_defaults=True) for taint in taints))


def mark(nodes: Nodes, wanted: Mapping[str, Marks]) -> list[str]:
    """Give the nodes what they are to carry and take what was ours from them; return the objects that changed.

    May be done again: what was ours is forgotten only when every node is as wanted.

    Raises:
        ApiDown: no API server answered; what was done stays done.
        ApiRefused: the identity may not do this, or (409) somebody else changed a node's taints meanwhile.
    """
    before, now = _recorded(nodes.config_map(NAMESPACE, RECORD)), _named(wanted.values())
    ours = Ours(labels=before.labels | now.labels, taints=before.taints | now.taints)
    if ours == Ours():
        return []
    changed = []
    for node in nodes.node_marks():
        patch = patch_of(node, wanted[node.name], ours) if node.name in wanted else {}
        if patch:
            nodes.patch_node(node.name, patch)
            changed.append(f"Node/{node.name}")
    return [*changed, *nodes.apply([_record(now)])]


def patch_of(node: NodeMarks, wanted: Marks, ours: Ours) -> dict[str, Any]:
    """Return the merge patch (RFC 7386) that makes `node` carry what is `wanted`; empty if it does."""
    asked: dict[str, str | None] = {key: None for key in sorted(ours.labels) if key in node.labels}
    asked |= wanted.labels
    labels = {key: value for key, value in asked.items() if node.labels.get(key) != value}
    taints = _taints(node.taints, wanted.taints, ours.taints)
    patch: dict[str, Any] = {"metadata": {"labels": labels}} if labels else {}
    if taints != list(node.taints):
        # The list is replaced as a whole: never one that the cluster itself has just changed.
        patch.setdefault("metadata", {})["resourceVersion"] = node.revision
        patch["spec"] = {"taints": taints or None}
    return patch


def _taints(
    found: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, str]], ours: frozenset[str]
) -> list[Mapping[str, Any]]:
    """Return the taints in the order in which they stand there, new ones last; those that are right as they are."""
    missing = {_taint(taint): taint for taint in wanted}
    kept = []
    for taint in found:
        name = _taint(taint)
        if name not in missing and name not in ours:
            kept.append(taint)
        elif name in missing and taint.get("value", "") == missing[name].get("value", ""):
            kept.append(taint)
            del missing[name]
    return [*kept, *missing.values()]


def _taint(taint: Mapping[str, Any]) -> str:
    return f"{taint['key']}:{taint['effect']}"


def _named(marks: Iterable[Marks]) -> Ours:
    all_marks = list(marks)
    return Ours(
        labels=frozenset(key for one in all_marks for key in one.labels),
        taints=frozenset(_taint(taint) for one in all_marks for taint in one.taints),
    )


def _recorded(data: Mapping[str, str] | None) -> Ours:
    words = {key: frozenset((data or {}).get(key, "").split()) for key in ("labels", "taints")}
    return Ours(labels=words["labels"], taints=words["taints"])


def _record(ours: Ours) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": RECORD, "namespace": NAMESPACE},
        "data": {"labels": " ".join(sorted(ours.labels)), "taints": " ".join(sorted(ours.taints))},
    }
