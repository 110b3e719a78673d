"""Addons and the real API server of v1.20.2: strictly right, applied once, nothing to change the second time.

Needs root and what tests/kubernetes/build makes. No node is there, so no pod runs: what runs in them is not shown here.
"""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bootstrap.adding import bring, record
from bootstrap.adding.bring import Brought, Wait
from bootstrap.adding.objects import Objects
from bootstrap.adding.record import Ref, ref_of
from bootstrap.adding.rendering import Given, choose, documents
from bootstrap.cli import run
from bootstrap.config import to_yaml
from bootstrap.errors import ApiRefused
from bootstrap.kubernetes import runtimes
from bootstrap.kubernetes.api import Api
from bootstrap.model import Cluster
from tests.system.claim_plane import Plane, built, control_plane, namespace_of, until
from tests.system.pxe_segment import inside as inside_thread
from tests.system.test_gpu_gate import gpu_cluster
from tests.unit.addons.worlds import CASES, OPTIONS, cluster_with

pytestmark = pytest.mark.system

NAMESPACE, ADDRESS, VERSION = "fl-t-addons", "10.77.0.10", "v1.20.2"
FOLDER = (
    (
        "site/10-kind.yaml",
        b"""apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crates.example.net}
spec:
  group: example.net
  scope: Cluster
  names: {kind: Crate, plural: crates}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}
""",
    ),
    (
        "site/20-one.yaml",
        b"""apiVersion: example.net/v1
kind: Crate
metadata: {name: one}
spec: {size: 0644}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: site}
data: {greeting: hello}
""",
    ),
)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A control plane of one host, in a namespace of this module, of a cluster with a pool of GPUs."""
    root, programs = tmp_path_factory.mktemp("addons"), built()
    with (
        namespace_of(NAMESPACE, ADDRESS),
        control_plane(Plane(root, programs, NAMESPACE, cluster=gpu_cluster())) as made,
        inside_thread(NAMESPACE),
    ):
        with made.api("admin") as api:
            api.apply(runtimes.objects(made.cluster))
        yield made


@pytest.fixture
def admin(plane: Plane) -> Iterator[Api]:
    with plane.api("admin") as api:
        yield api


def given_of(plane: Plane) -> Given:
    return Given(kubelet_ca=(plane.pki / "kubelet-ca.crt").read_text(), folders={"site": FOLDER})


def cluster_of(plane: Plane, *addons: Any, version: str = VERSION) -> Cluster:
    chosen = cluster_with(*addons, version=version)
    return plane.cluster.model_copy(update={"addons": chosen.addons, "kubernetes": chosen.kubernetes})


class Hand:
    """Applies and removes addons of the plane's cluster."""

    def __init__(self, plane: Plane, api: Api) -> None:
        self.plane, self.api = plane, api
        self.wait = Wait(tell=lambda _: None)

    def apply(self, name: str, options: Any, version: str = VERSION, **more: Any) -> Brought:
        cluster = cluster_of(self.plane, {name: options}, version=version)
        return bring.apply(
            self.api, cluster, choose(cluster, (name,)), given_of(self.plane), self.wait, **more
        )

    def diff(self, name: str, options: Any, version: str = VERSION) -> str:
        cluster = cluster_of(self.plane, {name: options}, version=version)
        return bring.diff(self.api, cluster, choose(cluster, (name,)), given_of(self.plane))

    def made(self, name: str, options: Any, version: str = VERSION) -> tuple[dict[str, Any], ...]:
        cluster = cluster_of(self.plane, {name: options}, version=version)
        return documents(cluster, choose(cluster, (name,))[0], given_of(self.plane))

    def settle(self) -> None:
        """Wait until controllers have written what they write of a workload that they have not seen yet."""
        objects = Objects(self.api)
        refs = [ref for refs in record.read(self.api).values() for ref in refs]
        waiting = [ref for ref in refs if ref.kind in ("DaemonSet", "Deployment")]
        until(lambda: all(_is_seen(objects.get(ref) or {}) for ref in waiting), seconds=30)


def _is_seen(found: Mapping[str, Any]) -> bool:
    marks = found["metadata"].get("annotations", {})
    is_marked = found["kind"] != "Deployment" or "deployment.kubernetes.io/revision" in marks
    return is_marked and found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]


@pytest.fixture
def hand(plane: Plane, admin: Api) -> Iterator[Hand]:
    made = Hand(plane, admin)
    yield made
    # metrics-server first: while nobody answers for a part of the API, no namespace goes.
    for name in sorted(record.read(admin), key=lambda name: name != "metrics-server"):
        assert bring.remove(admin, name, made.wait).failed == {}


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda value: str(value)[:40])
def test_an_addon_is_applied_once_and_there_is_nothing_to_change_then(
    hand: Hand, name: str, options: Any
) -> None:
    shown = hand.diff(name, options)
    first = hand.apply(name, options)

    assert first.failed == {}
    assert sorted(first.changed) == sorted(str(ref_of(each)) for each in hand.made(name, options))
    assert all(f"+++ wanted/{name}\n" in shown for name in first.changed)
    hand.settle()
    assert hand.diff(name, options) == ""
    assert hand.apply(name, options) == Brought()

    gone = bring.remove(hand.api, name, hand.wait)
    assert (gone.failed, sorted(gone.changed)) == ({}, sorted(f"-{each}" for each in first.changed))
    assert record.read(hand.api) == {}


def strict(schema: Any) -> Any:
    """Return a definition of the API's OpenAPI document that refuses fields which it does not name."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "int-or-string":
        return {}
    found = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        found["additionalProperties"] = False
    return found


@pytest.fixture(scope="module")
def check(plane: Plane) -> Callable[[Mapping[str, Any]], None]:
    """Validate strictly by the OpenAPI document that this API server serves."""
    document = json.loads(plane.kubectl("admin", "get", "--raw", "/openapi/v2"))
    definitions = {name: strict(each) for name, each in document["definitions"].items()}
    names = {
        (kind["group"], kind["version"], kind["kind"]): name
        for name, each in document["definitions"].items()
        for kind in each.get("x-kubernetes-group-version-kind", ())
    }

    def validate(each: Mapping[str, Any]) -> None:
        group, _, version = each["apiVersion"].rpartition("/")
        name = names[(group, version, each["kind"])]
        schema = {"$ref": f"#/definitions/{name}", "definitions": definitions}
        jsonschema.Draft202012Validator(schema).validate(each)

    return validate


def test_every_object_is_strictly_right_by_the_schema_of_the_real_api_server(
    hand: Hand, check: Callable[[Mapping[str, Any]], None]
) -> None:
    for name, options in CASES:
        for each in hand.made(name, options):
            if not each["apiVersion"].startswith("example.net"):
                check(each)

    (wrong,) = (copy.deepcopy(each) for each in hand.made("coredns", {}) if each["kind"] == "Deployment")
    wrong["spec"]["template"]["spec"]["containers"][0]["imagePulPolicy"] = "Always"
    with pytest.raises(jsonschema.ValidationError, match="imagePulPolicy"):
        check(wrong)
    with pytest.raises(ApiRefused, match="imagePulPolicy"):
        Objects(hand.api).apply(wrong, force=True, trial=True)


def test_definitions_of_later_releases_are_taken_and_their_objects_held_to_them(hand: Hand) -> None:
    """MetalLB for v1.21 and later is configured by kinds of its own, whose schemas refuse what is wrong."""
    options = OPTIONS["metallb"][0]
    brought = hand.apply("metallb", options, "v1.36.4")

    assert brought.failed == {}
    assert "IPAddressPool/metallb-system/firstlight" in brought.changed
    hand.settle()
    assert hand.diff("metallb", options, "v1.36.4") == ""
    assert hand.apply("metallb", options, "v1.36.4") == Brought()
    (pool,) = (each for each in hand.made("metallb", options, "v1.36.4") if each["kind"] == "IPAddressPool")
    for spec in ({}, {"addresses": "10.0.0.1"}, {"addresses": ["10.0.0.1-10.0.0.2"], "autoAssign": "yes"}):
        with pytest.raises(ApiRefused):
            Objects(hand.api).apply({**pool, "spec": spec}, force=True, trial=True)


def test_what_somebody_else_made_is_taken_over_only_when_asked(hand: Hand) -> None:
    (theirs,) = (each for each in hand.made("coredns", {}) if each["kind"] == "Deployment")
    own = {**theirs, "spec": {**theirs["spec"], "replicas": 5}}
    hand.plane.kubectl(
        "admin", "apply", "--server-side", "--field-manager=helm", "-f", "-", given=json.dumps(own)
    )

    refused = hand.apply("coredns", {}).failed["coredns"]
    assert 'conflict with "helm"' in refused
    assert refused.endswith("addon apply coredns --force")
    assert hand.apply("coredns", {}).failed["coredns"] == refused
    assert hand.apply("coredns", {}, force=True).failed == {}
    assert (
        hand.plane.kubectl(
            "admin", "-n", "kube-system", "get", "deployment", "coredns", "-o", "jsonpath={.spec.replicas}"
        )
        == "2"
    )


def test_a_namespace_that_was_there_is_joined_and_left_as_it_was(hand: Hand) -> None:
    hand.plane.kubectl("admin", "create", "namespace", "metallb-system")
    before = hand.plane.kubectl(
        "admin", "get", "namespace", "metallb-system", "-o", "jsonpath={.metadata.labels}"
    )
    for _ in range(2):
        assert hand.apply("metallb", OPTIONS["metallb"][0]).failed == {}
        gone = bring.remove(hand.api, "metallb", hand.wait)
        assert (gone.failed, "-Namespace/metallb-system" in gone.changed) == ({}, False)
        after = hand.plane.kubectl(
            "admin", "get", "namespace", "metallb-system", "-o", "jsonpath={.metadata.labels}"
        )
        assert after == before
    hand.plane.kubectl("admin", "delete", "namespace", "metallb-system")


def test_a_part_of_the_api_that_is_not_there_is_no_object(hand: Hand) -> None:
    objects = Objects(hand.api)

    assert objects.get(Ref("nope.example/v1", "Thing", "", "x")) is None
    assert objects.get(Ref("v1", "ConfigMap", "nowhere", "x")) is None
    assert objects.delete(Ref("apps/v1", "Deployment", "nowhere", "x")) is False


def test_an_option_that_makes_less_takes_away_what_it_made_and_no_volume(hand: Hand) -> None:
    volume = {"name": "data", "path": "/data", "size": "1GiB"}
    whole: dict[str, Any] = {"server": "192.168.1.5", "path": "/nfsroot", "volumes": [volume]}
    hand.apply("nfs-provisioner", whole)
    less = hand.apply("nfs-provisioner", {**whole, "dynamic": False, "volumes": [{**volume, "name": "more"}]})

    assert less.failed == {}
    assert {"-StorageClass/nfs", "-Deployment/kube-system/nfs-provisioner"} <= set(less.changed)
    assert hand.plane.kubectl("admin", "get", "pv", "-o", "name").split() == [
        "persistentvolume/data",
        "persistentvolume/more",
    ]
    immutable = hand.apply("nfs-provisioner", {**whole, "volumes": [{**volume, "path": "/other"}]}).failed
    assert "addon remove nfs-provisioner, then addon apply nfs-provisioner" in immutable["nfs-provisioner"]


@pytest.fixture
def command(plane: Plane, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Any]]:
    """The command line, with the keys of the plane's cluster; the configuration is written anew for each call."""
    (work := tmp_path / "deploy" / plane.cluster.metadata.name).mkdir(parents=True, mode=0o700)
    (work / "pki").symlink_to(plane.pki)
    (tmp_path / "site").mkdir()
    for name, data in FOLDER:
        (tmp_path / name).write_bytes(data)

    def call(addons: list[Any], *words: str, output: str = "table") -> tuple[int, str, str]:
        whole = plane.cluster.model_dump(mode="json", by_alias=True, exclude_none=True)
        whole = {**{key: value for key, value in whole.items() if key != "lab"}, "addons": addons}
        for machine in whole["machines"]:
            machine.pop("power", None)
        whole["appliance"]["dhcp"].pop("upstream", None)
        for pool in whole["pools"]:
            pool["os"].pop("kernel", None)
        (tmp_path / "config.yaml").write_text(to_yaml(whole))
        options = ("--config", str(tmp_path / "config.yaml"), "--deploy", str(tmp_path / "deploy"))
        code = run([*options, "--output", output, "addon", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    yield call
    for name in ("manifests", "coredns", "nvidia-device-plugin"):
        call([], "remove", name)


def test_the_verbs_do_what_they_say(command: Callable[..., Any]) -> None:
    addons = ["coredns", {"manifests": {"directory": "site"}}]

    code, out, err = command(addons, "list")
    assert (code, [line.split()[:3] for line in out.splitlines()[1:]]) == (
        0,
        [["nvidia-device-plugin", "by", "itself"], ["coredns", "yes", "0"], ["manifests", "yes", "0"]],
    ), err
    code, out, _ = command(addons, "diff")
    assert code == 0
    assert "+++ wanted/Deployment/kube-system/coredns" in out
    assert "+++ wanted/Crate/one" in out
    code, out, err = command(addons, "apply")
    assert (code, "applied DaemonSet/kube-system/nvidia-device-plugin" in err) == (0, True)
    assert "Crate/one" in out.split()
    assert command(addons, "apply", "--dry-run")[:2] == (0, "")
    code, out, err = command(addons, "apply")
    assert (code, out.split()) == (0, ["CHANGED"])
    assert "nvidia-device-plugin, coredns, manifests: nothing changed" in err

    code, out, _ = command(addons, "list", output="json")
    rows = {row["addon"]: row for row in json.loads(out)}
    assert (rows["coredns"]["objects"], rows["coredns"]["ready"]) == (7, "0/2")
    assert rows["manifests"]["objects"] == 3

    code, out, err = command(["coredns"], "list")
    assert ["manifests", "no", "3"] in [line.split()[:3] for line in out.splitlines()]
    code, out, err = command(["coredns"], "remove", "manifests")
    assert (code, out.split()) == (
        0,
        ["CHANGED", "-ConfigMap/site", "-Crate/one", "-CustomResourceDefinition/crates.example.net"],
    )
    assert command(["coredns"], "remove", "manifests")[0] == 2
    assert command(["coredns"], "apply", "metallb")[0] == 2
