"""The gate with the real API server of v1.20.2: who may take the taint, and who is held and let through.

Needs root and what tests/kubernetes/build makes. There is no GPU here: reports are those of a node, signed by its key.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from bootstrap.adding.rendering import Given, chosen, documents
from bootstrap.errors import ApiRefused
from bootstrap.gpu.taint import KEY, TAINT
from bootstrap.kubernetes import gpu_agent, runtimes
from bootstrap.kubernetes.api import Api
from bootstrap.kubernetes.nodes import node_documents
from bootstrap.kubernetes.pod_network import laid_out
from bootstrap.kubernetes.rbac import GATE
from bootstrap.kubernetes.subnets import allotment
from bootstrap.model import Cluster
from bootstrap.states import State
from tests.system.claim_plane import Plane, built, control_plane, namespace_of, until
from tests.system.claim_rack import W1, W2, RealRack, joined, node_api, status, taints_of
from tests.system.pxe_segment import inside as inside_thread
from tests.unit.gpu.reports import report
from tests.unit.kubernetes.planes import cluster_of
from tests.unit.web.gpu_rack import signature
from web.gate import Gate

pytestmark = pytest.mark.system

NAMESPACE, ADDRESS = "fl-t-gate", "10.77.0.10"
READY = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting"}
HELD = [{"key": KEY, "effect": "NoSchedule"}]


def gpu_cluster() -> Cluster:
    """Return the lab's cluster with w1 in a pool of H100, on a system that has their driver, and w2 in one of none."""
    document = cluster_of("lab", version="v1.20.2").model_dump(mode="json", by_alias=True, exclude_none=True)
    (workers,) = (one for one in document["pools"] if one["name"] == "workers")
    flatcar = {"family": "flatcar", "release": "4593.2.5"}
    gpus = {**workers, "name": "gpus", "os": flatcar, "gpu": {"products": ["h100-sxm"]}}
    document["pools"].append(gpus)
    for machine in document["machines"]:
        machine["pool"] = "gpus" if machine["name"] == "w1" else "workers"
    return Cluster.model_validate(document)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A control plane of one host, in a namespace of this module."""
    root, programs = tmp_path_factory.mktemp("gate"), built()
    with (
        namespace_of(NAMESPACE, ADDRESS),
        control_plane(Plane(root, programs, NAMESPACE, cluster=gpu_cluster())) as made,
        inside_thread(NAMESPACE),
    ):
        yield made


class GateRack(RealRack):
    """The application in this process, with machines that tell of their GPUs."""

    def __init__(self, plane: Plane) -> None:
        super().__init__(plane)
        self.gate = Gate(self.site)

    def close(self) -> None:
        connection = self.connect(self.cluster)
        assert connection is not None
        assert isinstance(connection.gate, Api)
        connection.gate.close()
        super().close()

    def register(self, name: str, mac: str, number: int, taints: list[Mapping[str, str]]) -> Api:
        """Have a machine join and its kubelet register, and be Ready."""
        node = node_api(self, joined(self, name, mac, number), number, name)
        node.apply(
            [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"taints": taints}}]
        )
        status(self.plane, name, READY)
        self.approver.look()
        return node

    def look_at(self, *devices: str, **more: Any) -> None:
        text = report(*devices, **{"arm": self.record(W1).arm, **more}).model_dump_json(by_alias=True)
        body = {"mac": W1, "arm": self.record(W1).arm, "report": text, "signature": signature(text)}
        answer = self.ask("machine", "POST", "/v1/machine/gpus", json=body)
        assert answer.status_code == 200, answer.text

    def give(self, count: int) -> None:
        """Say of w1 what its kubelet would with a device plugin."""
        amounts = {"nvidia.com/gpu": str(count)}
        body = json.dumps({"status": {"capacity": amounts, "allocatable": amounts}})
        pki, kind = self.plane.root / "pki", "Content-Type: application/strategic-merge-patch+json"
        who = ("--cacert", pki / "ca.crt", "--cert", pki / "admin.crt", "--key", pki / "admin.key")
        url = f"{self.plane.server}/api/v1/nodes/w1/status"
        done = self.plane.inside("curl", "-sf", *who, "-X", "PATCH", "-H", kind, "--data", body, url)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def rack(plane: Plane) -> Iterator[GateRack]:
    made = GateRack(plane)
    yield made
    made.close()
    plane.kubectl("admin", "delete", "nodes,csr", "--all", check=False)


@pytest.fixture
def admin(plane: Plane) -> Iterator[Api]:
    with plane.api("admin") as api:
        yield api


def test_a_kubelet_of_a_gpu_pool_registers_with_the_taint_and_one_of_another_without() -> None:
    cluster = gpu_cluster()
    network = laid_out(cluster, allotment(cluster))
    found = {
        machine.name: node_documents(cluster, machine, b"ca\n", network)[
            "/etc/kubernetes/kubelet.env"
        ].content
        for machine in cluster.machines
    }

    assert f"--register-with-taints={KEY}:NoSchedule".encode() in bytes(found["w1"])  # type: ignore[arg-type]
    assert b"taints" not in bytes(found["w2"])  # type: ignore[arg-type]


def test_a_machine_without_a_gpu_joins_is_tainted_and_told_what_to_do(rack: GateRack, admin: Api) -> None:
    rack.register("w1", W1, 0, [TAINT])
    rack.look_at(state="no-device", reason="no NVIDIA device on PCI", devices=(), driver="", lines=())

    rack.gate.look()

    assert taints_of(admin, "w1") == HELD
    message = rack.machine("w1")["message"]
    assert "GPUs held back: device: no NVIDIA device on PCI; look at Above 4G decoding" in message
    assert rack.machine("w1")["gpu"]["state"] == "no-device"
    assert rack.record(W1).state is State.READY


def test_a_node_may_not_take_its_own_taint_and_the_gate_may(rack: GateRack, admin: Api) -> None:
    node = rack.register("w1", W1, 0, [TAINT])
    nothing: tuple[list[Any] | None, ...] = (None, [])
    for taints in nothing:
        patch: dict[str, Any] = {"spec": {"taints": taints}}
        with pytest.raises(ApiRefused) as refused:
            node.patch_node("w1", patch)
        assert refused.value.status == 403
        assert "not allowed to modify taints" in str(refused.value)
    assert taints_of(admin, "w1") == HELD
    rack.look_at()
    rack.gate.look()
    assert taints_of(admin, "w1") == HELD  # nothing can be given out yet
    assert rack.machine("w1")["gpu"]["part"] == "plugin"

    rack.give(8)
    rack.gate.look()

    assert taints_of(admin, "w1") == []
    assert rack.record(W1).state is State.GPU_READY
    assert rack.machine("w1")["message"].endswith("8 GPUs verified, driver 570.133.20")


def test_a_node_that_came_without_its_taint_gets_it_and_one_that_fails_later_too(
    rack: GateRack, admin: Api
) -> None:
    rack.register("w1", W1, 0, [])
    rack.gate.look()
    assert taints_of(admin, "w1") == HELD
    rack.look_at()
    rack.give(8)
    rack.gate.look()
    assert taints_of(admin, "w1") == []

    rack.look_at(
        *["2330"] * 8, lines=(), failure="Unable to determine the device handle for GPU 0000:03:00.0"
    )
    rack.gate.look()

    assert taints_of(admin, "w1") == HELD
    assert rack.record(W1).state is State.READY


def test_the_node_of_a_cpu_pool_is_not_touched(rack: GateRack, admin: Api) -> None:
    """The API server's audit log says whom the gate has changed."""
    rack.register("w1", W1, 0, [])
    rack.register("w2", W2, 1, [])
    rack.gate.look()
    rack.gate.look()

    assert taints_of(admin, "w1") == HELD
    assert taints_of(admin, "w2") == []
    log = rack.plane.root / "var/log/kubernetes/kube-apiserver-audit.log"

    def changed() -> set[str]:
        lines = map(json.loads, log.read_text().splitlines())
        by_gate = [line for line in lines if line["user"]["username"] == GATE]
        return {line["objectRef"]["name"] for line in by_gate if line["verb"] not in ("get", "list")}

    until(lambda: "w1" in changed(), seconds=20)
    assert changed() == {"w1"}


def test_the_plugin_and_the_runtime_class_are_taken_once(plane: Plane, admin: Api) -> None:
    (plugin,) = chosen(plane.cluster)
    wanted = (*runtimes.objects(plane.cluster), *documents(plane.cluster, plugin, Given()))

    assert admin.apply(wanted) == ["RuntimeClass/nvidia", "DaemonSet/kube-system/nvidia-device-plugin"]
    until(lambda: admin.apply(wanted) == [], seconds=20)  # its controller writes its status meanwhile


def test_systemd_takes_the_timer_and_the_service(tmp_path: Any) -> None:
    """`systemd-analyze verify` reads them with all their settings; the program is put where they want it."""
    pool = gpu_cluster().pool("gpus")
    units = []
    for path, file in gpu_agent.files(pool):
        if path.endswith((".service", ".timer")):
            target = tmp_path / path.rpartition("/")[2]
            assert isinstance(file.content, bytes)
            target.write_bytes(file.content)
            units.append(str(target))
    script = (
        "mount -t tmpfs none /opt && mkdir -p /opt/firstlight/bin && "
        "install -m 755 /dev/null /opt/firstlight/bin/gpu && exec systemd-analyze verify --recursive-errors=no "
    )
    done = subprocess.run(
        ("unshare", "--mount", "sh", "-c", script + " ".join(units)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")
