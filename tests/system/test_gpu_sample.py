"""A real kubelet gives out GPUs that a device plugin offers, and the sample gets one; without any it stays Pending.

The plugin is one for tests, since there is no GPU here: it registers at kubelet as NVIDIA's does. So this proves
kubelet's and the scheduler's part, and ours, and nothing of a driver.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bootstrap.gpu.sample import NAME
from bootstrap.image import host as host_image
from bootstrap.kubernetes import gpu_agent
from bootstrap.kubernetes.tree import HostFile
from bootstrap.model import Gpu
from bootstrap.progress import silent
from tests.system.kubectl import IMAGE
from tests.system.node_rack import M1, Nodes
from tests.system.spine import CACHE, ROOT, wait_for
from tests.unit.gpu.machines import pool

pytestmark = pytest.mark.system

SAMPLE = ("gpu", "run-sample", "--image", IMAGE)
SAYS = ("--", "sh", "-c", "echo I have $NVIDIA_VISIBLE_DEVICES")
COUNT = 8


class OneNode(Nodes):
    """A host that is a node to which everybody may come."""

    def write(self, *hosts: dict[str, Any]) -> None:
        del hosts
        super().write({**M1, "taints": []})

    @property
    def root(self) -> Path:
        return self.hosts.root("m1")

    def allocatable(self) -> str:
        found = self.kubectl.data("get", "node", "m1")["status"]["allocatable"]
        return str(found.get("nvidia.com/gpu", "none"))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneNode]:
    found = OneNode(tmp_path_factory.mktemp("gpus"))
    try:
        found.rack.up(host_roots={True: host_image.build(CACHE, silent, node=True)})
        found.apply()
        found.kubectl.kubeconfig.write_text(found.run("kubeconfig").out)
        with found.approving():
            served = found.root / "var/lib/kubelet/pki/kubelet-server-current.pem"
            wait_for(served.is_symlink, "kubelet has a serving certificate", timeout=60)
        yield found
    finally:
        found.rack.down()


@contextmanager
def plugin(node: OneNode, count: int) -> Iterator[None]:
    """Have a device plugin offer so many GPUs; the path of a socket is short, so it goes by a link."""
    with tempfile.TemporaryDirectory() as short:
        link = Path(short) / "s"
        link.symlink_to(node.root / "var/lib/kubelet/device-plugins")
        argv = (sys.executable, "-m", "tests.system.device_plugin", str(link), str(count), "300")
        with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "registered\n"
                yield
            finally:
                process.terminate()
                process.wait(20)


def jobs(node: OneNode) -> str:
    return node.kubectl("get", "jobs", "--output", "name")


def test_where_no_gpu_can_be_given_out_the_sample_stays_pending_and_says_why(node: OneNode) -> None:
    assert node.allocatable() == "none"
    done = node.run(*SAMPLE, "--timeout", "6", *SAYS)

    assert (done.code, done.out) == (1, "")
    assert "sample: Pending: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu." in done.err
    assert "no GPU was given to it in 6 s: 0/1 nodes are available" in done.err
    wait_for(lambda: jobs(node) == "", "the Job goes after its pods", timeout=60)


def test_eight_gpus_become_allocatable_and_the_sample_gets_one_and_succeeds(node: OneNode) -> None:
    with plugin(node, COUNT):
        wait_for(lambda: node.allocatable() == "8", "nvidia.com/gpu: 8 is allocatable", timeout=60)

        done = node.run(*SAMPLE, "--timeout", "120", *SAYS)

        assert done.code == 0, done.err
        assert "sample: Succeeded on m1" in done.err
        assert done.out.startswith("I have GPU-")
        wait_for(lambda: jobs(node) == "", "the Job goes after its pods", timeout=60)
        failing = node.run(*SAMPLE, "--timeout", "120", "--", "sh", "-c", "echo no; exit 3")
        assert (failing.code, failing.out) == (1, "no\n")
        assert "sample: Failed on m1: exit code 3" in failing.err


def test_what_kubelet_writes_down_of_a_plugin_is_what_the_agent_reads(node: OneNode) -> None:
    script = f'FL_SOURCE_ONLY=1 . "{ROOT / "configs/node/gpu"}"; plugin'
    with plugin(node, COUNT):
        wait_for(lambda: node.allocatable() == "8", "nvidia.com/gpu: 8 is allocatable", timeout=60)
        done = subprocess.run(
            ("sh", "-c", script),
            env={
                "PATH": "/usr/bin:/bin",
                "FL_PLUGINS": str(node.root / "var/lib/kubelet/device-plugins"),
            },
            capture_output=True,
            text=True,
            check=True,
        )

    assert done.stdout == "8\n"


def test_a_sample_of_an_earlier_run_gives_way(node: OneNode) -> None:
    left = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": NAME, "labels": {"app.kubernetes.io/name": NAME}},
        "spec": {
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{"name": "c", "image": "localhost/none:1"}],
                }
            }
        },
    }
    file = node.site.deploy / "left.json"
    file.write_text(json.dumps(left))
    node.kubectl("apply", "-f", str(file))
    with plugin(node, 1):
        wait_for(lambda: node.allocatable() == "1", "one GPU is allocatable", timeout=60)
        with node.approving():
            done = node.run(*SAMPLE, "--timeout", "120", *SAYS)

    assert (done.code, done.out) == (0, "I have GPU-0\n"), done.err


def test_systemd_runs_the_agent_at_its_interval_and_goes_on_when_that_fails(node: OneNode) -> None:
    """The host has no node.env: each turn fails, and says so."""
    given = pool(install_cuda=False).model_copy(update={"gpu": Gpu(install_cuda=False, check_interval=2)})
    for path, file in gpu_agent.files(given):
        assert isinstance(file, HostFile)
        assert isinstance(file.content, bytes)
        target = node.root / path[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(file.mode)
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    node.hosts.run("m1", "systemctl", "daemon-reload")
    wants = node.hosts.run("m1", "systemctl", "show", "-p", "Wants", "--value", "timers.target")
    assert gpu_agent.TIMER in wants.split()
    node.hosts.run("m1", "systemctl", "restart", gpu_agent.TIMER)
    try:
        time.sleep(22)  # ten seconds before the first, then two and what the turn takes
        said = node.hosts.run(
            "m1", "journalctl", "-u", "firstlight-gpu.service", "-o", "cat", "--since", since
        )
    finally:
        node.hosts.run("m1", "systemctl", "stop", gpu_agent.TIMER)

    turns = said.count("firstlight: /etc/firstlight/node.env, gpu.env or arm is missing")
    assert 3 <= turns <= 7, said
