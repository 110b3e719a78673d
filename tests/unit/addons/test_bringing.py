"""What is applied, what goes, what stays, and what the record remembers; against a likeness of the API."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from bootstrap.adding import bring, record
from bootstrap.adding.bring import Brought, Wait
from bootstrap.adding.objects import NoSuchKind, Objects
from bootstrap.adding.record import Ref
from bootstrap.adding.rendering import Given, choose, documents
from bootstrap.errors import ApiDown, ApiRefused, UsageError
from bootstrap.model import Cluster
from tests.unit.addons.fake_api import FakeApi
from tests.unit.addons.worlds import CA, cluster_with

METALLB = {"metallb": {"addresses": ["192.168.1.241-192.168.1.250"]}}
NFS = {"nfs-provisioner": {"server": "192.168.1.5", "path": "/nfsroot"}}
DNS = "apis/apps/v1/namespaces/kube-system/deployments/coredns"


class Clock:
    """Time that passes while one sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


Bring = Callable[..., Brought]


def wait_of(told: list[str]) -> Wait:
    clock = Clock()
    return Wait(seconds=5.0, tell=told.append, clock=clock, sleep=clock.sleep)


def lab(*addons: Any) -> Cluster:
    """A cluster without GPUs, so that nothing comes by itself."""
    return cluster_with(*addons, sample="lab")


def applied(
    api: FakeApi, *addons: Any, folder: bytes = b"", told: list[str] | None = None, **more: Any
) -> Brought:
    cluster = lab(*addons)
    given = Given(kubelet_ca=CA, folders={"site": (("site/a.yaml", folder),)})
    return bring.apply(
        api, cluster, choose(cluster, ()), given, wait_of(told if told is not None else []), **more
    )


def difference(api: FakeApi, *addons: Any) -> str:
    cluster = lab(*addons)
    return bring.diff(api, cluster, choose(cluster, ()), Given(kubelet_ca=CA))


def test_the_first_time_all_is_new_and_the_second_nothing(api: FakeApi) -> None:
    told: list[str] = []
    first = applied(api, "coredns", NFS, "metrics-server", METALLB, told=told)
    kinds = {name.partition("/")[0] for name in first.changed}

    assert first.failed == {}
    assert {"Deployment", "StorageClass", "IPAddressPool", "Namespace", "APIService"} <= kinds
    assert told[0] == "applied ServiceAccount/kube-system/coredns"
    again = applied(api, "coredns", NFS, "metrics-server", METALLB)
    assert again == Brought()
    assert difference(api, "coredns", NFS, "metrics-server", METALLB) == ""


def test_the_difference_shows_what_would_change_and_changes_nothing(api: FakeApi) -> None:
    shown = difference(api, "coredns", METALLB)

    assert "+++ wanted/Deployment/kube-system/coredns\n" in shown
    assert "+  replicas: 2\n" in shown
    assert "+++ wanted/IPAddressPool/metallb-system/firstlight\n" in shown
    assert len(api.objects) == 2

    applied(api, "coredns")
    assert [
        line for line in difference(api, {"coredns": {"replicas": 3}}).splitlines() if line[0] in "+-"
    ] == [
        "--- cluster/Deployment/kube-system/coredns",
        "+++ wanted/Deployment/kube-system/coredns",
        "-  replicas: 2",
        "+  replicas: 3",
    ]


def test_a_kind_that_comes_with_the_addon_is_waited_for_and_no_other() -> None:
    slow = FakeApi(late=3)
    assert applied(slow, METALLB).failed == {}

    text = b"apiVersion: example.net/v1\nkind: Thing\nmetadata: {name: a}\n"
    brought = applied(FakeApi(), {"manifests": {"directory": "site"}}, folder=text)
    assert brought.failed["manifests"].startswith("the API has no Thing in example.net/v1; apply its")


def test_an_api_server_that_is_away_for_a_moment_is_waited_for_and_not_for_ever() -> None:
    assert applied(FakeApi(down=3), "coredns").failed == {}
    assert applied(FakeApi(down=100), "coredns").failed == {"coredns": "no API server answers"}
    assert applied(_Down(), "coredns").failed == {"coredns": "no API server answers"}


class _Down(FakeApi):
    def config_map(self, namespace: str, name: str) -> Any:
        del namespace, name
        raise ApiDown("no API server answers")


def test_what_an_addon_no_longer_makes_goes_but_for_what_holds_others_things(api: FakeApi) -> None:
    volume = {"name": "data", "path": "/data", "size": "1GiB"}
    applied(api, {"nfs-provisioner": {**NFS["nfs-provisioner"], "volumes": [volume]}})
    less: dict[str, Any] = {
        **NFS["nfs-provisioner"],
        "dynamic": False,
        "volumes": [{**volume, "name": "more"}],
    }
    text = difference(api, {"nfs-provisioner": less})
    brought = applied(api, {"nfs-provisioner": less})

    assert "--- cluster/StorageClass/nfs\n" in text
    assert "-StorageClass/nfs" in brought.changed
    assert "-Deployment/kube-system/nfs-provisioner" in brought.changed
    assert "apis/storage.k8s.io/v1/storageclasses/nfs" not in api.objects
    assert "api/v1/persistentvolumes/data" in api.objects
    names = [ref.name for ref in record.read(api)["nfs-provisioner"]]
    assert names == ["data", "more"]
    assert applied(api, {"nfs-provisioner": less}) == Brought()


def test_an_addon_that_left_the_configuration_stays_until_it_is_removed(api: FakeApi) -> None:
    applied(api, "coredns", METALLB)
    assert applied(api, "coredns") == Brought()
    assert "api/v1/namespaces/metallb-system" in api.objects

    brought = bring.remove(api, "metallb", wait_of([]))
    assert brought.failed == {}
    assert brought.changed[0] == "-L2Advertisement/metallb-system/firstlight"
    assert brought.changed[-1] == "-Namespace/metallb-system"
    assert not [path for path in api.objects if "metallb" in path]
    assert list(record.read(api)) == ["coredns"]


def test_what_does_not_go_is_named_and_stays_in_the_record(api: FakeApi) -> None:
    applied(api, "coredns")
    api.stuck.add(DNS)
    brought = bring.remove(api, "coredns", wait_of([]))

    assert brought.failed["coredns"].startswith(
        "still there after 5 s: Deployment/kube-system/coredns; look at"
    )
    assert [ref.kind for ref in record.read(api)["coredns"]] == ["Deployment"]
    api.stuck.clear()
    assert bring.remove(api, "coredns", wait_of([])).changed == ["-Deployment/kube-system/coredns"]
    assert record.read(api) == {}


def test_what_somebody_else_manages_is_not_taken_without_being_asked(api: FakeApi) -> None:
    api.write(DNS, "helm", kind="Deployment", metadata={"name": "coredns"}, spec={"replicas": 5})
    brought = applied(api, "coredns")

    assert brought.failed["coredns"].startswith(
        "Deployment/kube-system/coredns: Apply failed with 1 conflict"
    )
    assert brought.failed["coredns"].endswith("; to make it ours all the same: addon apply coredns --force")
    assert api.objects[DNS]["spec"] == {"replicas": 5}
    assert applied(api, "coredns").failed == brought.failed  # and not the second time either
    told: list[str] = []
    assert "-Deployment/kube-system/coredns" not in bring.remove(api, "coredns", wait_of(told)).changed
    assert "left Deployment/kube-system/coredns, which was there before" in told
    assert api.objects[DNS]["spec"] == {"replicas": 5}

    assert applied(api, "coredns").failed == brought.failed
    assert applied(api, "coredns", force=True).failed == {}
    api.write(DNS, "kubectl", spec={"replicas": 7})
    assert applied(api, "coredns").changed == ["Deployment/kube-system/coredns"]  # it is ours by now
    assert api.objects[DNS]["spec"]["replicas"] == 2
    assert "-Deployment/kube-system/coredns" in bring.remove(api, "coredns", wait_of([])).changed


def test_what_was_there_before_and_was_only_joined_is_never_deleted(api: FakeApi) -> None:
    """A namespace with the work of others in it, above all."""
    namespace = "api/v1/namespaces/metallb-system"
    api.objects[namespace] = {"kind": "Namespace", "metadata": {"name": "metallb-system"}}
    for _ in range(2):  # the second time too: what was left has no mark of ours
        assert applied(api, METALLB).failed == {}
        assert applied(api, METALLB) == Brought()
        told: list[str] = []
        brought = bring.remove(api, "metallb", wait_of(told))

        assert (brought.failed, "-Namespace/metallb-system" in brought.changed) == ({}, False)
        assert "left Namespace/metallb-system, which was there before" in told
        assert not api.objects[namespace]["metadata"]["managedFields"]
        assert record.read(api) == {}


def test_two_addons_never_have_one_object(api: FakeApi) -> None:
    text = b"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: coredns, namespace: kube-system}\n"
    brought = applied(api, "coredns", {"manifests": {"directory": "site"}}, folder=text)
    twice = applied(
        api, {"manifests": {"directory": "site"}}, folder=b"---\n".join([text.replace(b"coredns", b"x")] * 2)
    )

    assert brought.failed == {
        "manifests": "Deployment/kube-system/coredns is of the addon coredns already; take it out of one of them"
    }
    assert twice.failed == {"manifests": "Deployment/kube-system/x is there twice; remove one"}


def test_the_record_is_written_before_the_objects_so_that_none_is_forgotten(api: FakeApi) -> None:
    applied(api, "coredns")
    patches = [path for method, path in api.calls if method == "PATCH"]

    assert patches[0] == "api/v1/namespaces/kube-system/configmaps/firstlight-addons"
    rows = json.loads((api.config_map("kube-system", "firstlight-addons") or {})["coredns"])
    assert ["apps/v1", "Deployment", "kube-system", "coredns"] in rows


def test_a_damaged_record_says_what_to_do(api: FakeApi) -> None:
    path = "api/v1/namespaces/kube-system/configmaps/firstlight-addons"
    for text in ("{", "[1]", "[[1,2]]"):
        api.objects[path] = {"data": {"coredns": text}}
        with pytest.raises(ApiRefused, match=r"is damaged .*; delete it, then `addon apply` writes it anew"):
            record.read(api)


def test_an_addon_that_is_not_configured_cannot_be_applied() -> None:
    with pytest.raises(
        UsageError, match=r"addon metallb is not in the configuration \(coredns\); add it under"
    ):
        choose(lab("coredns"), ("metallb",))


def test_a_version_of_an_api_is_no_other_object(api: FakeApi) -> None:
    old, new = Ref("policy/v1beta1", "A", "", "x"), Ref("policy/v1", "A", "", "x")
    assert old.identity == new.identity
    assert bring._no_longer((old,), [new]) == []
    assert Objects(api).delete(Ref("nope/v1", "A", "", "x")) is False
    with pytest.raises(NoSuchKind, match="the API has no A in nope/v1"):
        Objects(api).apply({"apiVersion": "nope/v1", "kind": "A", "metadata": {"name": "x"}}, force=True)
    assert Objects(api).get(Ref("nope/v1", "A", "", "x")) is None


def test_after_an_upgrade_the_record_has_the_versions_of_today(api: FakeApi) -> None:
    """policy/v1beta1 went with v1.25: what the record called so is asked for, and deleted, as policy/v1."""
    applied(api, "coredns")
    path = "api/v1/namespaces/kube-system/configmaps/firstlight-addons"
    data = api.objects[path]["data"]
    data["coredns"] = data["coredns"].replace("policy/v1", "policy/v1beta1")
    assert applied(api, "coredns") == Brought()
    assert "-PodDisruptionBudget/kube-system/coredns" in bring.remove(api, "coredns", wait_of([])).changed


def test_pods_that_are_ready_are_counted(api: FakeApi) -> None:
    applied(api, "coredns", METALLB)
    api.write(DNS, "controller", status={"readyReplicas": 1})
    speakers = "apis/apps/v1/namespaces/metallb-system/daemonsets/speaker"
    api.write(speakers, "controller", status={"numberReady": 2, "desiredNumberScheduled": 3})
    known = record.read(api)

    assert list(bring.workloads(Objects(api), known["coredns"])) == [(1, 2)]
    assert sorted(bring.workloads(Objects(api), known["metallb"])) == [(0, 1), (2, 3)]


def test_a_pool_of_tainted_machines_alone_takes_the_pods_of_the_whole_cluster() -> None:
    (first, *_) = cluster_with("coredns").pools
    assert first.taints
    tainted = cluster_with("coredns").model_copy(update={"pools": (first,)})
    for cluster, wanted in ((cluster_with("coredns"), False), (tainted, True)):
        (one,) = choose(cluster, ("coredns",))
        (pods,) = (each for each in documents(cluster, one, Given()) if each["kind"] == "Deployment")
        keys = {one["key"] for one in pods["spec"]["template"]["spec"]["tolerations"]}
        assert ("nvidia.com/gpu" in keys) is wanted


def test_a_part_of_the_api_that_v1_20_cannot_apply_is_made_all_the_same(api: FakeApi) -> None:
    """Its API server broke the connection off at the APIService of metrics-server, at `addon diff` already."""
    service = "apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io"
    name = "APIService/v1beta1.metrics.k8s.io"
    assert f"+++ wanted/{name}\n" in difference(api, "metrics-server")
    assert service not in api.objects

    assert name in applied(api, "metrics-server").changed
    assert applied(api, "metrics-server") == Brought()
    assert difference(api, "metrics-server") == ""
    api.objects[service]["spec"]["versionPriority"] = 7
    assert applied(api, "metrics-server").changed == [name]
    assert api.objects[service]["spec"]["versionPriority"] == 100
    assert f"-{name}" in bring.remove(api, "metrics-server", wait_of([])).changed
    assert service not in api.objects
