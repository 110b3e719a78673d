"""The gate: who is held, who comes through, and what is written down of it."""

import base64
import json

import pytest

from bootstrap.errors import ApiDown
from bootstrap.gpu.taint import KEY
from bootstrap.state import Put
from bootstrap.states import State
from certs.requests import certificate_facts
from certs.statements import signer_of
from tests.unit.gpu.reports import line
from tests.unit.web.fakes import W1, W2
from tests.unit.web.gpu_rack import GpuRack, gpu_cluster
from web import gate

HELD, FREE = ["nvidia.com/gpu", KEY], ["nvidia.com/gpu"]
NONE = {"state": "no-device", "reason": "no NVIDIA device on PCI", "devices": ()}


@pytest.fixture
def rack() -> GpuRack:
    return GpuRack()


def passed(rack: GpuRack) -> GpuRack:
    rack.join(gpus=8)
    rack.report()
    rack.gate.look()
    return rack


def test_a_node_that_is_well_loses_the_taint_and_keeps_others(rack: GpuRack) -> None:
    passed(rack)

    assert rack.taints == FREE
    assert rack.record().state is State.GPU_READY
    assert rack.machine()["message"] == "Ready, kubelet v1.36.4; 8 GPUs verified, driver 570.133.20"
    assert rack.events("gpu-verified", "gpu-held") == [("gpu-verified", "gpu-ready")]


def test_the_report_with_which_it_came_through_is_kept_and_can_be_checked_by_anybody(rack: GpuRack) -> None:
    passed(rack)
    first = rack.kept()
    assert first is not None
    rack.clock.forward(300)
    rack.report(rack.said(reason="later"))
    rack.gate.look()

    assert rack.kept() == first
    assert first["verdict"] == "8 GPUs verified, driver 570.133.20"
    claim = rack.record().claim
    assert claim is not None
    certificate, signature = first["certificate"].encode(), base64.b64decode(first["signature"])
    assert signer_of(certificate, first["report"].encode(), signature) == claim.key
    assert certificate_facts(certificate).fingerprint == claim.key


def test_without_a_report_it_stays_held(rack: GpuRack) -> None:
    rack.join(gpus=8)
    rack.gate.look()

    assert rack.taints == HELD
    assert rack.record().state is State.READY


def test_a_node_without_a_gpu_is_told_so_with_the_remedy(rack: GpuRack) -> None:
    rack.join()
    rack.report(rack.said(**NONE))
    rack.gate.look()

    assert rack.taints == HELD
    told = rack.gpus()
    assert (told["state"], told["part"]) == ("no-device", "device")
    assert told["verdict"].startswith("device: no NVIDIA device on PCI; look at Above 4G decoding")
    assert "GPUs held back: device: no NVIDIA device on PCI" in rack.machine()["message"]
    assert rack.events("gpu-held") == [("gpu-held", "device")]


def is_held_until(rack: GpuRack, few: int, enough: int) -> None:
    rack.join(gpus=few)
    rack.report()
    rack.gate.look()
    assert (rack.taints, rack.gpus()["part"]) == (HELD, "plugin")

    rack.node(gpus=enough)
    rack.gate.look()
    assert (rack.taints, rack.gpus()["part"]) == (FREE, "")


def test_what_kubernetes_cannot_give_out_is_not_there(rack: GpuRack) -> None:
    is_held_until(rack, 0, 8)


def test_gpus_that_pods_share_are_counted_once(rack: GpuRack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device plugin offers each GPU so many times over (`nvidia-device-plugin: {replicas: 4}`)."""
    monkeypatch.setattr(gate, "pods_per_gpu", lambda _: 4)
    is_held_until(rack, 28, 32)


def told_parted(rack: GpuRack, *names: str) -> None:
    on = {"current": "Enabled", "pending": "Enabled", "profiles": names, "instances": len(names)}
    assert rack.report(rack.said(mig=[{"index": index, **on} for index in range(8)])).status_code == 200
    rack.gate.look()


def test_parted_gpus_are_counted_by_instance_and_shared_ones_by_pod(
    rack: GpuRack, monkeypatch: pytest.MonkeyPatch
) -> None:
    rack.cluster = gpu_cluster(expected=8, products=["h100-sxm"], mig="3g.40gb")
    rack.site.load()
    rack.join(gpus=8)
    told_parted(rack, "3g.40gb", "3g.40gb")
    assert (rack.taints, rack.gpus()["part"]) == (HELD, "plugin")
    rack.node(gpus=16)
    monkeypatch.setattr(gate, "pods_per_gpu", lambda _: 2)
    rack.gate.look()
    assert rack.taints == HELD
    rack.node(gpus=32)
    rack.gate.look()

    assert rack.taints == FREE
    told = rack.gpus()
    assert told["verdict"].endswith("; each parted into 2 x 3g.40gb (MIG)")
    assert told["mig"][0]["profiles"] == ["3g.40gb", "3g.40gb"]


def test_a_pool_that_is_to_be_parted_holds_its_nodes_until_they_are_and_offered_by_profile(
    rack: GpuRack,
) -> None:
    passed(rack)
    rack.cluster = gpu_cluster(expected=8, products=["h100-sxm"], mig=["3g.40gb", "2g.20gb"])
    rack.site.load()
    rack.gate.look()
    assert (rack.taints, rack.gpus()["part"]) == (HELD, "mig")
    assert "mig-mismatch, the node has not told how" in rack.gpus()["verdict"]

    told_parted(rack, "2g.20gb", "3g.40gb")
    assert rack.gpus()["part"] == "plugin"
    rack.node(mig_3g_40gb=8, mig_2g_20gb=8)
    rack.gate.look()
    assert rack.taints == FREE
    assert rack.record().state is State.GPU_READY


def test_one_that_fails_later_is_held_again_and_comes_through_again(rack: GpuRack) -> None:
    passed(rack)
    rack.report(rack.said(lines=[line(number, errors=3) for number in range(8)]))
    rack.gate.look()
    assert rack.taints == HELD
    assert rack.record().state is State.READY

    rack.report()
    rack.gate.look()
    assert rack.taints == FREE
    assert rack.record().state is State.GPU_READY
    assert rack.events("gpu-verified", "gpu-held") == [
        ("gpu-verified", "gpu-ready"),
        ("gpu-held", "health"),
        ("gpu-verified", "gpu-ready"),
    ]


def test_a_node_that_came_without_the_taint_gets_it(rack: GpuRack) -> None:
    rack.join(tainted=False)
    rack.gate.look()

    assert rack.taints == HELD


def test_a_kubelet_that_starts_anew_is_given_a_minute_for_its_plugin(rack: GpuRack) -> None:
    passed(rack)
    rack.node(gpus=0, tainted=False)
    rack.gate.look()
    rack.clock.forward(59)
    rack.gate.look()
    assert rack.taints == FREE
    assert rack.record().state is State.GPU_READY

    rack.clock.forward(2)
    rack.gate.look()
    assert rack.taints == HELD
    assert rack.gpus()["part"] == "plugin"


def test_the_minute_begins_anew_when_the_plugin_was_there_between(rack: GpuRack) -> None:
    passed(rack)
    for gpus in (0, 8, 0):
        rack.node(gpus=gpus, tainted=False)
        rack.gate.look()
        rack.clock.forward(40)
        rack.gate.look()

    assert rack.taints == FREE


def test_an_old_word_lets_nobody_through(rack: GpuRack) -> None:
    rack.join(gpus=8)
    rack.report()
    rack.clock.forward(3 * 300 + 1)
    rack.gate.look()
    assert rack.taints == HELD

    rack.report()
    rack.gate.look()
    assert rack.taints == FREE


def test_an_appliance_that_was_away_holds_nobody_who_had_come_through(rack: GpuRack) -> None:
    passed(rack)
    rack.clock.forward(86400)
    again = gate.Gate(rack.site)
    again.look()

    assert rack.taints == FREE


def test_a_node_that_says_none_does_not_pass_the_gate_of_a_pool_that_expects_eight_by_now(
    rack: GpuRack,
) -> None:
    rack.join()
    rack.report(rack.said(state="none", devices=(), driver="", lines=()))
    rack.gate.look()

    assert rack.taints == HELD
    assert rack.gpus()["part"] == "device"


def test_a_node_without_gpus_that_none_is_asked_of_is_ready_and_not_gpu_ready(rack: GpuRack) -> None:
    rack.join()
    rack.report(rack.said(**NONE))
    rack.cluster = gpu_cluster(installCuda=False)
    rack.site.load()
    rack.gate.look()

    assert rack.taints == FREE
    assert rack.record().state is State.READY


def test_a_node_that_is_not_ready_is_not_let_through_and_nothing_is_written_down(rack: GpuRack) -> None:
    rack.join(ready=False, gpus=8)
    rack.report()
    rack.gate.look()

    assert rack.taints == HELD
    assert rack.kept() is None


def test_a_word_of_an_earlier_arm_counts_no_more(rack: GpuRack) -> None:
    passed(rack)
    rack.arm()
    rack.join(gpus=8, tainted=False, number=1)
    rack.gate.look()

    assert rack.taints == HELD


def test_a_word_that_an_earlier_version_kept_is_as_none(rack: GpuRack) -> None:
    rack.join(gpus=8)
    rack.report()
    old = rack.kept("gpu")
    assert old is not None
    value = json.dumps({**old, "report": '{"node": "w1"}'}).encode()
    rack.store.commit([Put(key=f"gpu/{W1}", value=value)])

    rack.gate.look()

    assert rack.taints == HELD
    assert rack.gpus()["cards"] == []


def test_a_pool_that_has_gpus_no_more_lets_its_nodes_go(rack: GpuRack) -> None:
    rack.join()
    rack.report(rack.said(**NONE))
    rack.gate.look()
    without_gpus(rack)
    rack.gate.look()

    assert rack.taints == FREE
    assert rack.machine()["message"] == "Ready, kubelet v1.36.4"


def without_gpus(rack: GpuRack) -> None:
    document = rack.cluster.model_dump(mode="json", by_alias=True, exclude_none=True)
    del document["pools"][0]["gpu"]
    rack.cluster = type(rack.cluster).model_validate(document)
    rack.site.load()


def test_the_taint_does_not_stay_when_a_pool_loses_its_gpus_before_any_report(rack: GpuRack) -> None:
    rack.join()
    rack.gate.look()
    assert rack.taints == HELD

    without_gpus(rack)
    gate.Gate(rack.site).look()  # an appliance that was started anew

    assert rack.taints == FREE


def test_the_taint_does_not_stay_on_a_machine_that_moved_to_a_cpu_pool_and_was_installed_anew(
    rack: GpuRack,
) -> None:
    rack.join()
    rack.report(rack.said(**NONE))
    rack.gate.look()
    document = rack.cluster.model_dump(mode="json", by_alias=True, exclude_none=True)
    document["machines"][0]["pool"] = "spare"
    rack.cluster = type(rack.cluster).model_validate(document)
    rack.site.load()
    rack.arm()
    rack.join(number=1)  # the cluster still has its Node object, with the taint
    rack.gate.look()

    assert rack.taints == FREE


def test_in_a_cluster_that_never_had_gpus_no_node_is_looked_at(rack: GpuRack) -> None:
    without_gpus(rack)
    rack.join()
    rack.kube.trouble = ApiDown("nobody")

    assert rack.gate.look() is True


def test_a_machine_of_a_cpu_pool_is_not_touched(rack: GpuRack) -> None:
    rack.join()
    rack.report()
    rack.arm("w2")
    rack.install(W2)
    rack.claim(None, W2)
    before = rack.kube.marks["w1"]
    rack.kube.marks["w2"] = type(before)(name="w2", revision="1", labels={}, taints=(), gpus=0)
    rack.gate.look()

    assert rack.kube.marks["w2"].taints == ()
    assert rack.kube.marks["w2"].revision == "1"


def test_without_any_node_with_gpus_the_cluster_is_not_asked(rack: GpuRack) -> None:
    rack.kube.trouble = ApiDown("nobody")

    assert rack.gate.look() is True
    rack.connect = lambda _: None
    assert rack.gate.look() is False
