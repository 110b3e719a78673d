"""What a cluster with GPU pools gets besides: right by Kubernetes' own schemas, pinned, and only where it is needed."""

import json
import re
from typing import Any

import kubernetes_validate
import pytest

from bootstrap.adding.rendering import chosen, documents
from bootstrap.addons import Object
from bootstrap.gpu.mig import offered
from bootstrap.gpu.sample import job, resource_among
from bootstrap.gpu.taint import KEY, TAINT
from bootstrap.kubernetes import runtimes
from bootstrap.kubernetes.labels import GPU, pool_labels
from bootstrap.kubernetes.marks import marks_of
from bootstrap.kubernetes.releases import RELEASES
from bootstrap.kubernetes.runtimes import pods_per_gpu
from bootstrap.model import Cluster, Gpu, Taint
from tests import samples
from tests.unit.addons.worlds import GIVEN, cluster_with

PINNED = r"nvcr\.io/nvidia/k8s-device-plugin:v\d+\.\d+\.\d+@sha256:[0-9a-f]{64}"
CHECKED = [f"1.{minor}" for minor in RELEASES if minor >= 32]


def plugin_of(cluster: Cluster) -> tuple[Object, ...]:
    (one,) = (each for each in chosen(cluster) if each.name == "nvidia-device-plugin")
    return documents(cluster, one, GIVEN)


def parted(cluster: Cluster, mig: Any) -> Cluster:
    """Return `cluster` with the GPUs of its pools parted so."""
    gpu = Gpu(products=("h100-sxm",), mig=mig)
    pools = tuple(one.model_copy(update={"gpu": gpu}) if one.gpu else one for one in cluster.pools)
    return cluster.model_copy(update={"pools": pools})


@pytest.mark.parametrize("version", CHECKED)
def test_the_runtime_and_the_sample_are_right_by_the_schemas_of_every_supported_minor(version: str) -> None:
    sample = job(command=("true",), runtime_class="nvidia", taints=[Taint(key="a", effect="NoExecute")])

    for each in (*runtimes.objects(samples.cluster("example")), sample):
        kubernetes_validate.validate(each, version, strict=True)


def test_the_plugin_runs_on_nodes_of_gpu_pools_verified_or_not_and_is_pinned() -> None:
    cluster = samples.cluster("example")
    (runtime,), (plugin,) = runtimes.objects(cluster), plugin_of(cluster)
    pod: dict[str, Any] = plugin["spec"]["template"]["spec"]

    assert (runtime["kind"], runtime["handler"]) == ("RuntimeClass", "nvidia")
    assert pod["runtimeClassName"] == runtime["metadata"]["name"]
    assert pod["nodeSelector"] == {GPU: "nvidia"}
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert re.fullmatch(PINNED, pod["containers"][0]["image"])


def test_a_cluster_with_gpu_pools_has_it_without_being_asked_and_once() -> None:
    unasked, asked = (
        cluster_with("coredns"),
        cluster_with("coredns", {"nvidia-device-plugin": {"replicas": 2}}),
    )

    assert [(one.name, one.is_listed) for one in chosen(unasked)] == [
        ("nvidia-device-plugin", False),
        ("coredns", True),
    ]
    assert [(one.name, one.is_listed) for one in chosen(asked)] == [
        ("coredns", True),
        ("nvidia-device-plugin", True),
    ]
    assert (pods_per_gpu(unasked), pods_per_gpu(asked)) == (1, 2)


def test_time_slices_are_a_file_of_the_plugin_and_a_change_of_it_restarts_its_pods() -> None:
    two, four = (plugin_of(cluster_with({"nvidia-device-plugin": {"replicas": n}})) for n in (2, 4))
    shared = json.loads(two[0]["data"]["config.yaml"])["sharing"]["timeSlicing"]["resources"]

    assert shared == [{"name": "nvidia.com/gpu", "replicas": 2}]
    assert two[1]["spec"]["template"]["metadata"] != four[1]["spec"]["template"]["metadata"]


def test_with_partitions_the_plugin_may_open_their_capability_and_without_nothing() -> None:
    for strategy, wanted in (("none", {"drop": ["ALL"]}), ("single", {"add": ["SYS_ADMIN"]})):
        (plugin,) = plugin_of(cluster_with({"nvidia-device-plugin": {"migStrategy": strategy}}))
        (container,) = plugin["spec"]["template"]["spec"]["containers"]

        assert container["securityContext"]["capabilities"] == wanted
        assert {"name": "MIG_STRATEGY", "value": strategy} in container["env"]


@pytest.mark.parametrize(
    ("mig", "options", "strategy"),
    [
        (None, {}, "none"),
        ("1g.10gb", {}, "single"),
        (("1g.10gb", "3g.40gb"), {"replicas": 2}, "mixed"),
        ("1g.10gb", {"migStrategy": "mixed"}, "mixed"),
    ],
)
def test_how_partitions_are_offered_follows_from_the_pools(
    mig: Any, options: dict[str, Any], strategy: str
) -> None:
    cluster = parted(cluster_with(*([{"nvidia-device-plugin": options}] if options else [])), mig)
    plugin = plugin_of(cluster)[-1]
    (container,) = plugin["spec"]["template"]["spec"]["containers"]

    assert {"name": "MIG_STRATEGY", "value": strategy} in container["env"]


def test_what_a_cluster_gives_out_is_whole_ones_first_and_then_the_smallest() -> None:
    cluster = cluster_with()
    names = [f"nvidia.com/mig-{name}" for name in ("1g.10gb", "3g.40gb")]

    assert offered(cluster) == offered(parted(cluster, "1g.10gb")) == ("nvidia.com/gpu",)
    many = parted(cluster, ("3g.40gb", "1g.10gb"))
    assert offered(many) == tuple(names)
    assert offered(many.model_copy(update={"pools": (*many.pools, *cluster.pools)})) == (
        "nvidia.com/gpu",
        *names,
    )
    assert offered(samples.cluster("lab")) == ()


def test_the_sample_asks_for_what_a_node_can_give() -> None:
    names = ("nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb")
    nodes = [{"nvidia.com/gpu": 0}, {"nvidia.com/gpu": 0, "nvidia.com/mig-3g.40gb": 2}]

    assert resource_among(names, nodes) == names[2]
    assert resource_among(names, [*nodes, {names[1]: 1}]) == names[1]
    assert resource_among(names, []) == names[0]
    limits = job(resource=names[2])["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {names[2]: "1"}


def test_a_cluster_without_such_pools_gets_nothing_and_its_nodes_no_label() -> None:
    lab = samples.cluster("lab")

    assert chosen(lab) == ()
    assert pool_labels(lab.pools[0]) == lab.pools[0].labels


def test_the_label_comes_to_nodes_that_are_there_already() -> None:
    marks = marks_of(samples.cluster("example"))

    assert marks["w1"].labels == {"accelerator": "h100", GPU: "nvidia"}
    assert GPU not in marks["w2"].labels
    assert all(taint["key"] != KEY for taint in marks["w1"].taints)  # the gate's alone


def test_the_sample_never_tolerates_the_taint_of_a_node_that_is_not_verified() -> None:
    made = job(taints=[Taint(key="dedicated", effect="NoSchedule")])
    tolerated = made["spec"]["template"]["spec"]["tolerations"]

    assert {one["key"] for one in tolerated} == {"nvidia.com/gpu", "dedicated"}
    assert TAINT["key"] not in str(made)
