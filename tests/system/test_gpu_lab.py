"""A machine without a GPU in a pool of GPUs, and one of another pool: from power-on to the gate's word, all real.

Everything is real but the GPU, which is not there: two virtual machines, a control plane, kubelets. For hours of many
runs only (`./check soak`): each of its parts is shown by others each time.
"""

from collections.abc import Iterator

import pytest

from bootstrap.artifacts import find_manifest
from bootstrap.gpu.taint import KEY
from tests.system.kubectl import IMAGE, SLEEPER, kubectl_of
from tests.system.spine import CACHE, LAB, Site, show_logs, wait_for

pytestmark = [pytest.mark.system, pytest.mark.soak]

LAYER = "tests/system/gpu-lab.yaml"
REPORT_SECONDS = 240.0
HELD = "GPUs held back: device: no NVIDIA device on PCI; look at Above 4G decoding in the firmware, the riser"


@pytest.fixture(scope="module", name="site")
def fixture_site(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Site]:
    """The rack after one `up`: both machines are nodes."""
    site = Site(deploy=tmp_path_factory.mktemp("labgpu"), cache=CACHE, configs=(LAB, LAYER), name="labgpu")
    failed_before = request.session.testsfailed
    try:
        first = site.run()
        assert first.code == 0, first.err[-4000:]
        yield site
    finally:
        if request.session.testsfailed > failed_before:
            show_logs(site)
        site.run("down", timeout=120)


def test_the_machine_joins_is_tainted_and_the_gate_says_what_lacks_and_what_to_do(site: Site) -> None:
    wait_for(lambda: HELD in site.machine("w1")["message"], HELD, timeout=REPORT_SECONDS)

    assert site.machine("w1")["state"] == "ready"
    assert site.machine("w1")["gpu"]["state"] == "no-device"
    assert site.machine("w1")["gpu"]["part"] == "device"
    assert KEY in kubectl_of(site).carried_by("w1")[1]
    shown = site.run("gpu", "status", timeout=60)
    assert shown.code == 1
    assert [line.split()[0] for line in shown.out.splitlines()] == ["NODE", "w1"]
    assert "w1: held back: device: no NVIDIA device on PCI" in shown.err
    assert site.in_machine("w1", "systemctl", "is-active", "firstlight-gpu.timer") == "active"


def test_the_machine_of_the_other_pool_has_nothing_of_it(site: Site) -> None:
    assert kubectl_of(site).carried_by("w2")[1] == []
    assert "GPU" not in site.machine("w2")["message"]
    assert site.machine("w2")["gpu"]["state"] is None
    there = site.in_machine("w2", "sh", "-c", "ls /opt/firstlight/bin /etc/systemd/system /etc/firstlight")
    assert "gpu" not in there


def test_pods_stay_away_from_the_held_node(site: Site) -> None:
    kubectl = kubectl_of(site)
    kubectl("create", "deployment", "plain", f"--image={IMAGE}", "--replicas=0")
    kubectl("patch", "deployment", "plain", "--patch", SLEEPER)
    kubectl("scale", "deployment", "plain", "--replicas=4")
    kubectl("rollout", "status", "deployment/plain", "--timeout=100s")

    pods = [
        pod for pod in kubectl.data("get", "pods")["items"] if not pod["metadata"].get("deletionTimestamp")
    ]
    assert {pod["spec"]["nodeName"] for pod in pods} == {"w2"}
    assert len(pods) == 4


def test_a_node_names_the_kernel_of_its_image_in_the_same_words(site: Site) -> None:
    """By that `gpu upgrade` tells whether a node runs the pair of its image."""
    image = find_manifest(CACHE, "debian", "13", "cloud")
    assert image is not None
    nodes = kubectl_of(site).data("get", "nodes")["items"]

    shown = {one["metadata"]["name"]: one["status"]["nodeInfo"]["kernelVersion"] for one in nodes}
    assert shown["w1"] == shown["w2"] == image.kernel_version


def test_an_upgrade_of_a_pool_without_a_driver_has_nothing_to_do(site: Site) -> None:
    done = site.run("gpu", "upgrade", "--yes", timeout=60)

    assert done.code == 0, done.err
    assert [line.split() for line in done.out.splitlines()[1:]] == []
