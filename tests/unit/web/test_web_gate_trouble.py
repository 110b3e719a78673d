"""The gate in trouble: what goes wrong with the cluster, the store or one node, and what goes on all the same."""

import threading
from types import SimpleNamespace

import pytest

from bootstrap.errors import ApiDown, ApiRefused, StateError
from bootstrap.gpu.taint import KEY, TAINT
from bootstrap.kubernetes.seen import NodeMarks
from bootstrap.model import Cluster
from tests.unit.web.fakes import W2, cluster
from tests.unit.web.gpu_rack import GpuRack
from tests.unit.web.joining import csr, view
from web import gate

HELD, FREE = ["nvidia.com/gpu", KEY], ["nvidia.com/gpu"]


@pytest.fixture
def rack() -> GpuRack:
    return GpuRack()


@pytest.mark.parametrize("status", [404, 409])
def test_a_node_that_went_or_was_changed_meanwhile_is_of_the_next_round(
    rack: GpuRack, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rack.join(gpus=8)
    rack.report()

    def refuses(*given: object) -> None:
        raise ApiRefused(str(given), status)

    with monkeypatch.context() as patch:
        patch.setattr(rack.kube, "patch_node", refuses)
        rack.gate.look()
    assert rack.taints == HELD
    rack.gate.look()
    assert rack.taints == FREE


def test_one_who_may_not_change_nodes_says_so(rack: GpuRack, monkeypatch: pytest.MonkeyPatch) -> None:
    rack.join(gpus=8)
    rack.report()

    def refuses(*given: object) -> None:
        raise ApiRefused(str(given), 403)

    monkeypatch.setattr(rack.kube, "patch_node", refuses)
    with pytest.raises(ApiRefused):
        rack.gate.look()


def both(rack: GpuRack, monkeypatch: pytest.MonkeyPatch, error: Exception) -> GpuRack:
    """Have two nodes join that are well; whatever is done to the first one's ends with `error`."""
    rack.cluster = in_one_pool(rack.cluster)
    rack.site.load()
    rack.join(gpus=8)
    rack.report()
    rack.arm("w2")
    rack.install(W2)
    rack.claim(csr("w2", 1), W2)
    rack.kube.seen.append(view("w2"))
    rack.kube.marks["w2"] = NodeMarks(name="w2", revision="1", labels={}, taints=(), gpus=8)
    rack.approver.look()
    patch_node = rack.kube.patch_node

    def refuses(name: str, patch: object) -> None:
        if name == "w1":
            raise error
        patch_node(name, patch)  # type: ignore[arg-type]

    monkeypatch.setattr(rack.kube, "patch_node", refuses)
    return rack


def in_one_pool(before: Cluster) -> Cluster:
    document = before.model_dump(mode="json", by_alias=True, exclude_none=True)
    for machine in document["machines"]:
        machine["pool"] = "workers"
    return Cluster.model_validate(document)


@pytest.mark.parametrize("error", [ApiRefused("a webhook", 403), StateError("full"), ValueError("ours")])
def test_a_node_that_a_webhook_guards_does_not_keep_the_gate_from_the_others(
    rack: GpuRack, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    both(rack, monkeypatch, error)

    with pytest.raises(type(error)):
        rack.gate.look()

    assert rack.kube.marks["w2"].taints == (TAINT,)


def test_a_node_that_a_webhook_guards_does_not_make_the_gate_slow(
    rack: GpuRack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    both(rack, monkeypatch, ApiRefused("a webhook", 403))
    waited: list[float] = []
    enough = threading.Event()

    def chance(low: float, _: float) -> float:
        if len(waited) > 3:
            enough.set()
        return low

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return enough.is_set()

    made = gate.Gate(rack.site, chance=chance)
    monkeypatch.setattr(made, "_stop", SimpleNamespace(wait=wait))
    made.start()

    assert enough.wait(10)
    assert (rack.operator("GET", "/v1/gpus").json or {})["trouble"] == "a webhook"
    assert set(waited) == {0.8 * gate.ROUND_SECONDS}
    assert caplog.text.count("could not look after the GPUs of nodes: a webhook") == 1


def test_a_gate_without_its_certificate_says_so_where_gpus_are_shown(rack: GpuRack) -> None:
    def trouble() -> str:
        return str((rack.operator("GET", "/v1/gpus").json or {})["trouble"])

    rack.connect = rack.site.connect = lambda _: None
    assert rack.gate.look() is False
    assert trouble() == "pki/gate.crt, or a file beside it, is missing: up makes it"

    rack.cluster = cluster(hosts=1)  # without GPUs
    rack.site.load()
    rack.gate.look()
    assert trouble() == ""


def test_a_store_in_trouble_lets_nobody_through(rack: GpuRack) -> None:
    rack.join(gpus=8)
    rack.report()
    rack.store.writes_fail = True

    with pytest.raises(StateError):
        rack.gate.look()
    assert rack.taints == HELD


def test_the_thread_goes_on_whatever_goes_wrong(rack: GpuRack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "ROUND_SECONDS", 0.01)
    monkeypatch.setattr(gate, "LONGEST_PAUSE_SECONDS", 0.03)
    troubles: list[Exception] = [ApiDown("nobody"), StateError("full"), ValueError("ours")]
    again, made = threading.Event(), gate.Gate(rack.site, chance=lambda low, _: low)

    def look() -> bool:
        if troubles:
            raise troubles.pop(0)
        again.set()
        return False

    monkeypatch.setattr(made, "look", look)
    made.start()
    assert again.wait(10)
    made.stop()
