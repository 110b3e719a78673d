"""What big charts take for granted is proven, or what to do is said; nothing stays of the trial."""

from typing import Any

from bootstrap.adding.bring import Wait
from bootstrap.adding.proof import Proof, proofs
from bootstrap.gpu.taint import TAINT
from bootstrap.model import Cluster, Gpu
from tests.unit.addons.fake_api import FakeApi
from tests.unit.addons.test_bringing import Clock
from tests.unit.addons.worlds import cluster_with

NODES, CLASSES = "api/v1/nodes", "apis/storage.k8s.io/v1/storageclasses"
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
DEFAULT = {"storageclass.kubernetes.io/is-default-class": "true"}


def node(name: str, gpus: int = 0, *, held: bool = False, ready: bool = True) -> dict[str, Any]:
    status = {**(READY if ready else {}), "allocatable": {"nvidia.com/gpu": str(gpus)}}
    return {"metadata": {"name": name}, "spec": {"taints": [TAINT] if held else None}, "status": status}


def storage(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": DEFAULT}, **more}


def proven(api: FakeApi, cluster: Cluster | None = None) -> dict[str, Proof]:
    clock = Clock()
    wait = Wait(seconds=5.0, tell=lambda _: None, clock=clock, sleep=clock.sleep)
    return {one.need: one for one in proofs(api, cluster or cluster_with("coredns"), wait)}


def all_there() -> FakeApi:
    api = FakeApi()
    api.lists = {NODES: [node("w1", 8), node("w2", held=True)], CLASSES: [storage("nfs")]}
    api.objects["api/v1/namespaces/kube-system/endpoints/kube-dns"] = {"subsets": [{"addresses": [{}, {}]}]}
    api.status = {
        "PersistentVolumeClaim": {"phase": "Bound"},
        "Service": {"loadBalancer": {"ingress": [{"ip": "192.168.1.241"}]}},
    }
    return api


def test_a_cluster_that_has_all_of_it() -> None:
    api, base = all_there(), cluster_with("coredns")
    hosts = tuple(host.model_copy(update={"node": True}) for host in base.control_plane.hosts)
    cluster = base.model_copy(
        update={"control_plane": base.control_plane.model_copy(update={"hosts": hosts})}
    )
    found = proven(api, cluster)

    assert {need: one.said for need, one in found.items()} == {
        "nodes": "w1, w2",
        "webhooks": "every API server is on a node, and reaches pods",
        "names": "2 pods answer for kube-system/kube-dns",
        "volumes": "a claim of the default class nfs was bound",
        "addresses": "a service got 192.168.1.241",
        "gpus": "8 nvidia.com/gpu on nodes that are let through",
    }
    assert all(one.is_met for one in found.values())
    assert not [path for path in api.objects if "firstlight-proof" in path]


def test_a_cluster_that_has_none_of_it_is_told_what_to_do() -> None:
    api = FakeApi()
    api.lists = {NODES: [node("w1", 8, held=True), node("w2", 8, ready=False)], CLASSES: []}
    found = proven(api)

    assert [need for need, one in found.items() if one.is_met] == ["nodes"]
    assert found["webhooks"].said == "m1 has no way to pods; write node: true in controlPlane.hosts"
    assert "add coredns under addons" in found["names"].said
    assert "add nfs-provisioner under addons" in found["volumes"].said
    assert "no address in 5 s; add metallb under addons" in found["addresses"].said
    assert "`gpu status` says why" in found["gpus"].said


def test_volumes_that_do_not_come_several_defaults_and_late_binding() -> None:
    api = all_there()
    api.status = {}
    assert "a claim of the default class nfs was not bound in 5 s" in proven(api)["volumes"].said
    assert not [path for path in api.objects if "firstlight-proof" in path]
    api.lists[CLASSES] = [storage("nfs"), storage("local")]
    assert proven(api)["volumes"].said == "several classes are the default: nfs, local; leave one"
    api.lists[CLASSES] = [storage("local", volumeBindingMode="WaitForFirstConsumer")]
    assert proven(api)["volumes"].is_met


def test_a_cluster_without_gpus_wants_none() -> None:
    assert proven(all_there(), cluster_with("coredns", sample="lab"))["gpus"].is_met


def test_instances_of_gpus_count_by_their_names() -> None:
    api, cluster = all_there(), cluster_with("coredns")
    gpu = Gpu(products=("h100-sxm",), mig=("3g.40gb", "1g.10gb"))
    pools = tuple(one.model_copy(update={"gpu": gpu}) if one.gpu else one for one in cluster.pools)
    many = cluster.model_copy(update={"pools": pools})
    assert "nvidia.com/mig-1g.10gb or nvidia.com/mig-3g.40gb; `gpu status`" in proven(api, many)["gpus"].said

    api.lists[NODES][0]["status"]["allocatable"] = {
        "nvidia.com/mig-3g.40gb": "8",
        "nvidia.com/mig-1g.10gb": "8",
    }
    said = proven(api, many)["gpus"].said
    assert said == "8 nvidia.com/mig-1g.10gb, 8 nvidia.com/mig-3g.40gb on nodes that are let through"
