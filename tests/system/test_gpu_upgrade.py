"""`gpu upgrade` with the real API server of v1.20.2: nodes are emptied, exchanged, verified and given back, one by one.

Needs root and what tests/kubernetes/build makes. The machines are not there: what one does that boots from the network
is done in its place, and there is no GPU: reports are those of a node, signed by its key.
"""

import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bootstrap import artifacts
from bootstrap.gpu.mark import Stage, mark_from
from bootstrap.gpu.rollout import Planned, planned
from bootstrap.gpu.taint import TAINT
from bootstrap.kubernetes.api import Api
from bootstrap.model import Cluster
from bootstrap.records.documents import INSTALLED, LIVE
from bootstrap.upgrading import How, Stop, roll_out
from tests.system.claim_plane import Plane, built, control_plane, namespace_of
from tests.system.claim_rack import node_api, status, taints_of
from tests.system.pxe_segment import inside as inside_thread
from tests.unit.kubernetes.planes import cluster_of
from tests.unit.web.joining import csr
from tests.unit.web.upgrade_rack import NEW_KERNEL, OLD_KERNEL, UpgradeRack, image
from web.credentials import Credentials
from web.site import Rendered

pytestmark = pytest.mark.system

NAMESPACE, ADDRESS = "fl-t-upgrade", "10.77.0.10"
OLD, NEW = "550.163.01", "550.163.02"
READY = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting"}
NAMES = ("w1", "w2")


def t4_cluster() -> Cluster:
    """Return the lab's cluster with both machines in a pool of one T4 each."""
    document = cluster_of("lab", version="v1.20.2").model_dump(mode="json", by_alias=True, exclude_none=True)
    (workers,) = (one for one in document["pools"] if one["name"] == "workers")
    workers["gpu"] = {"products": ["t4"], "expected": 1}
    return Cluster.model_validate(document)


class RealUpgradeRack(UpgradeRack):
    """The application in this process in front of the real cluster, with machines that switch in no time."""

    def __init__(self, plane: Plane, cache: Path) -> None:
        self.plane = plane
        self.nodes: list[Api] = []
        super().__init__(cluster=plane.cluster, cache=cache)
        self.clock.now = datetime.now(UTC)
        self.connect = Credentials(plane.pki)

    def close(self) -> None:
        connection = self.connect(self.cluster)
        assert connection is not None
        for api in (connection.api, connection.watching, connection.gate, *self.nodes):
            assert isinstance(api, Api)
            api.close()

    def rendered(self) -> Rendered:
        documents = {(m.mac, kind): b"{}" for m in self.cluster.machines for kind in (LIVE, INSTALLED)}
        return Rendered(self.cluster, documents)

    def joins(self, name: str) -> None:
        """Have a machine claim until the cluster has signed, and its kubelet register or tell of itself anew."""
        number, end = self.keys[name], time.monotonic() + 60
        while (answer := self.claim(csr(name, number), self.mac(name))).status_code == 202:
            assert time.monotonic() < end, answer.text
            self.clock.forward(1)
            time.sleep(0.2)
        assert answer.status_code == 200, answer.text
        node = node_api(self, answer.json or {}, number, name)  # type: ignore[arg-type]  # it asks for plane and nodes
        if node.node(name) is None:
            spec = {"taints": [TAINT]}
            node.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}])
        status(self.plane, name, READY)
        amounts = {"nvidia.com/gpu": "1"}
        info = {"kernelVersion": self.runs[name].kernel_version, "kubeletVersion": "v1.20.2"}
        self.patch_status(name, {"nodeInfo": info, "capacity": amounts, "allocatable": amounts})
        self.approver.look()

    def turn(self, seconds: float = 5) -> None:
        """As ever, and kubelets that go on telling that they are well."""
        for name in self.runs:
            status(self.plane, name, READY)
        super().turn(seconds)

    def patch_status(self, name: str, said: Mapping[str, Any]) -> None:
        """Say of a node what its kubelet would."""
        pki, kind = self.plane.root / "pki", "Content-Type: application/strategic-merge-patch+json"
        who = ("--cacert", pki / "ca.crt", "--cert", pki / "admin.crt", "--key", pki / "admin.key")
        url = f"{self.plane.server}/api/v1/nodes/{name}/status"
        body = json.dumps({"status": said})
        done = self.plane.inside("curl", "-sf", *who, "-X", "PATCH", "-H", kind, "--data", body, url)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A control plane of one host, in a namespace of this module."""
    root, programs = tmp_path_factory.mktemp("upgrade"), built()
    with (
        namespace_of(NAMESPACE, ADDRESS),
        control_plane(Plane(root, programs, NAMESPACE, cluster=t4_cluster())) as made,
        inside_thread(NAMESPACE),
    ):
        yield made


@pytest.fixture
def rack(plane: Plane, tmp_path: Path) -> Iterator[RealUpgradeRack]:
    """Two verified nodes that run yesterday's image; today's is served."""
    cache = tmp_path / "cache"
    image(cache, "old", OLD, OLD_KERNEL)
    made = RealUpgradeRack(plane, cache)
    try:
        made.up(NAMES)
        image(cache, "new", NEW, NEW_KERNEL)
        made.site.images._found.clear()  # type: ignore[attr-defined]  # half a second later
        yield made
    finally:
        made.close()
        plane.kubectl("admin", "delete", "pods", "--all", "--force", "--grace-period=0", check=False)
        plane.kubectl("admin", "delete", "nodes,csr", "--all", check=False)


@pytest.fixture
def admin(plane: Plane) -> Iterator[Api]:
    with plane.api("admin") as api:
        yield api


def pod_on(admin: Api, plane: Plane, node: str) -> None:
    """Have a pod on a node, which leaves at once when it is asked to."""
    plane.kubectl("admin", "create", "serviceaccount", "default", check=False)
    spec = {
        "containers": [{"name": "c", "image": "x"}],
        "nodeName": node,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "tolerations": [{"operator": "Exists"}],
    }
    metadata = {"name": f"on-{node}", "namespace": "default"}
    admin.apply([{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}])


def upgrade(rack: RealUpgradeRack, admin: Api, told: list[str], power: Any = None) -> tuple[Any, Stop | None]:
    """Run it as the command does, with a clock that goes four times as fast as the machines', and does not wait."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += 4 * seconds
        rack.turn(seconds)

    def plans() -> dict[str, Planned]:
        nodes = {node.name: node for node in admin.nodes()}
        found = planned(rack.asked.gpus(), nodes, artifacts.manifests(rack.cache))
        return {one.name: one for one in found}

    how = How(seconds=1800, tell=told.append, switch=power or rack.power, clock=lambda: now[0], sleep=sleep)
    return roll_out(rack.asked, admin, list(plans().values()), how, lambda name: plans().get(name))


def is_given_back(admin: Api, name: str) -> bool:
    node = admin.node(name)
    assert node is not None
    return not (node.is_cordoned or node.upgrade or taints_of(admin, name))


def test_nodes_are_emptied_exchanged_and_given_back_one_by_one(
    rack: RealUpgradeRack, admin: Api, plane: Plane
) -> None:
    for name in NAMES:
        pod_on(admin, plane, name)
    told: list[str] = []
    seen: list[tuple[str, str, bool, list[str]]] = []

    def power(name: str, action: str) -> str:
        found = {node.name: node for node in admin.nodes()}
        mark = mark_from(found[name].upgrade)
        assert mark is not None
        held = [one for one in NAMES if found[one].is_cordoned]
        pods = plane.kubectl(
            "admin", "get", "pods", "-A", "--field-selector", f"spec.nodeName={name}", "-o", "name"
        )
        seen.append((name, str(mark.stage), mark.cordoned, [*held, *pods.split()]))
        return rack.power(name, action)

    done, stop = upgrade(rack, admin, told, power)

    assert (done, stop) == (NAMES, None), told
    assert seen == [("w1", "forward", False, ["w1"]), ("w2", "forward", False, ["w2"])]
    assert {name: found.key for name, found in rack.runs.items()} == dict.fromkeys(NAMES, "new")
    assert all(is_given_back(admin, name) for name in NAMES)
    assert [node.kernel for node in admin.nodes()] == [NEW_KERNEL] * 2


def test_one_that_fails_the_gate_goes_back_and_the_next_is_not_touched(
    rack: RealUpgradeRack, admin: Api, plane: Plane
) -> None:
    rack.spoiled["new"] = {"lines": (), "failure": "NVRM: API mismatch"}
    pod_on(admin, plane, "w2")
    arm = rack.of("w2").arm
    told: list[str] = []

    done, stop = upgrade(rack, admin, told)

    assert done == ()
    assert stop is not None
    assert stop.name == "w1"
    assert "NVRM: API mismatch" in stop.reason
    assert stop.after.startswith(f"set back to {OLD} (closed) for {OLD_KERNEL}, verified")
    assert {name: found.key for name, found in rack.runs.items()} == dict.fromkeys(NAMES, "old")
    assert all(is_given_back(admin, name) for name in NAMES)
    assert rack.of("w2").arm == arm
    assert "on-w2" in plane.kubectl("admin", "get", "pods", "-o", "name")


def test_a_run_that_is_cut_off_leaves_its_node_held_and_the_next_goes_on(
    rack: RealUpgradeRack, admin: Api
) -> None:
    def cut(name: str, action: str) -> str:
        del name, action
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upgrade(rack, admin, [], cut)
    node = admin.node("w1")
    assert node is not None
    assert node.is_cordoned
    mark = mark_from(node.upgrade)
    assert mark is not None
    assert (mark.stage, mark.driver, mark.image) == (Stage.FORWARD, f"{OLD} (closed)", "old")
    arm = rack.of("w1").arm
    assert arm != mark.arm

    done, stop = upgrade(rack, admin, [])

    assert (done, stop) == (NAMES, None)
    assert rack.of("w1").arm == arm
    assert all(is_given_back(admin, name) for name in NAMES)
