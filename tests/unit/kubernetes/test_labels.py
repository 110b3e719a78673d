"""Labels that a kubelet may register with, by the rules of the kubelet and of NodeRestriction."""

import pytest

from bootstrap.kubernetes.labels import CONTROL_PLANE, may_label_itself


@pytest.mark.parametrize(
    "key",
    [
        "accelerator",
        "example.net/rack",
        "notkubernetes.io/x",
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
        "node.kubernetes.io/anything",
        "kubelet.kubernetes.io/x",
        "x.node.kubernetes.io/y",
    ],
)
def test_a_node_may_have_these(key: str) -> None:
    assert may_label_itself(key)


@pytest.mark.parametrize(
    "key",
    [
        CONTROL_PLANE,
        "node-role.kubernetes.io/gpu",
        "node-restriction.kubernetes.io/tier",
        "kubernetes.io/x",
        "k8s.io/x",
        "deep.down.k8s.io/x",
        "topology.kubernetes.io/rack",
    ],
)
def test_a_node_may_not_give_itself_these(key: str) -> None:
    assert not may_label_itself(key)
