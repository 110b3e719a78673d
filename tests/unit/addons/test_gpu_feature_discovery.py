"""Labels of GPUs: who writes them, where it runs, and that it says what the device plugin does."""

from typing import Any

import pytest

from bootstrap.adding.rendering import chosen, documents, warnings
from bootstrap.addons import Object
from bootstrap.addons.nvidia_device_plugin import IMAGE
from bootstrap.kubernetes.labels import GPU
from tests.unit.addons.worlds import GIVEN, cluster_with

NAME = "gpu-feature-discovery"


def made(*others: Any, sample: str = "example") -> tuple[Object, ...]:
    cluster = cluster_with(*others, NAME, sample=sample)
    (one,) = (each for each in chosen(cluster) if each.name == NAME)
    return documents(cluster, one, GIVEN)


def found(objects: tuple[Object, ...], kind: str, name: str) -> dict[str, Any]:
    (one,) = (each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return one


def variables(objects: tuple[Object, ...]) -> dict[str, Any]:
    (container,) = found(objects, "DaemonSet", NAME)["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value") for each in container["env"]}


def test_it_runs_on_nodes_of_gpu_pools_verified_or_not_with_the_device_plugins_image() -> None:
    pod = found(made(), "DaemonSet", NAME)["spec"]["template"]["spec"]

    assert pod["nodeSelector"] == {GPU: "nvidia"}
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["runtimeClassName"] == "nvidia"
    assert pod["containers"][0]["image"] == IMAGE.pinned
    assert "volumes" not in pod


def test_it_may_write_of_its_own_namespace_alone_and_no_node() -> None:
    objects = made()
    (rule,) = found(objects, "Role", NAME)["rules"]
    bound = [each["subjects"][0]["name"] for each in objects if each["kind"] == "ClusterRoleBinding"]

    assert (rule["apiGroups"], rule["resources"]) == (["nfd.k8s-sigs.io"], ["nodefeatures"])
    assert sorted(bound) == ["nfd-gc", "nfd-master"]
    assert variables(objects)["GFD_USE_NODE_FEATURE_API"] == "true"


def test_labels_may_be_nvidias_and_nothing_else_is_looked_for() -> None:
    objects = made()
    (master,) = found(objects, "Deployment", "nfd-master")["spec"]["template"]["spec"]["containers"]

    assert master["args"] == ["-extra-label-ns=nvidia.com"]
    assert [each["metadata"]["name"] for each in objects if each["kind"] == "DaemonSet"] == [NAME]
    kinds = [each["spec"]["names"]["kind"] for each in objects if each["kind"] == "CustomResourceDefinition"]
    assert kinds == ["NodeFeature", "NodeFeatureRule"]
    assert objects.index(found(objects, "DaemonSet", NAME)) == len(objects) - 1


@pytest.mark.parametrize("strategy", ["none", "single", "mixed"])
def test_it_says_of_partitions_what_the_device_plugin_does(strategy: str) -> None:
    said = variables(made({"nvidia-device-plugin": {"migStrategy": strategy}}))

    assert said["MIG_STRATEGY"] == strategy
    assert ("NVIDIA_MIG_MONITOR_DEVICES" in said) is (strategy != "none")


def test_it_reads_how_the_device_plugin_shares_and_starts_anew_when_that_changes() -> None:
    two, four = (made({"nvidia-device-plugin": {"replicas": number}}) for number in (2, 4))
    pods = [found(each, "DaemonSet", NAME)["spec"]["template"] for each in (two, four)]

    assert variables(two)["CONFIG_FILE"] == "/config/config.yaml"
    assert pods[0]["spec"]["volumes"] == [{"name": "config", "configMap": {"name": "nvidia-device-plugin"}}]
    assert pods[0]["metadata"] != pods[1]["metadata"]
    assert "CONFIG_FILE" not in variables(made())


def test_where_it_runs_nowhere_that_is_told() -> None:
    lab = cluster_with(NAME, sample="lab")
    (one,) = chosen(lab)

    assert warnings(lab, one, GIVEN) == (
        "addon gpu-feature-discovery: no pool has gpu: {installCuda: true}, so it runs on no node",
    )
    assert not warnings(cluster_with(NAME), one, GIVEN)
