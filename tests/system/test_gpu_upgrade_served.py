"""`gpu upgrade` as a person runs it: deploy.py, the appliance behind its nginx, and a real control plane of v1.20.2.

Two machines are played: the power driver's program says when one is switched, and then it boots, installs and joins by
the scripts of real nodes. The script that looks at GPUs is the real one too; what it looks at is a folder laid out as
sysfs, with programs in the place of nvidia-smi and containerd. Needs root and what tests/kubernetes/build makes.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bootstrap.artifacts import manifests
from bootstrap.config import load
from bootstrap.gpu.mark import ANNOTATION
from bootstrap.gpu.taint import TAINT
from tests.system.claim_plane import Plane, until
from tests.system.fleet_cluster import KUBERNETES, ClusterSite, cluster_site
from tests.system.fleet_site import HEAD, HTTPS, RACK, ROOT, RUN_SECONDS
from tests.system.found_machine import FoundMachine
from tests.system.test_join_found import READY
from tests.unit.node.gpu_machine import GpuMachine
from tests.unit.web.upgrade_rack import NEW_KERNEL, OLD_KERNEL, T4, image

pytestmark = pytest.mark.system

OLD, NEW = "550.163.01", "550.163.02"
MACS = {"w1": "52:54:00:7b:00:01", "w2": "52:54:00:7b:00:02"}
POWER = "[sh, power, {}]"
LISTED = "\n".join(
    f"  - {{{{name: {name}, mac: '{mac}', pool: workers, power: {{{{driver: command, on: [sh, power, on], "
    f"off: [sh, power, off], netboot: [sh, power, netboot]}}}}}}}}"
    for name, mac in MACS.items()
)
GPU = "kernel: cloud}}\n    gpu: {{products: [t4], expected: 1, checkInterval: 1m}}"
CONFIG = (HEAD + KUBERNETES + RACK.replace('release: "13"}}', f'release: "13", {GPU}')).replace(
    "{machines}", LISTED
)
WAIT = "600"
"""Seconds that a node is waited for: nothing here is about how soon it is back."""
CHECK_SECONDS = 2.0
"""How often a node looks here; its timer's minute would be waited for."""


@dataclass
class Box:
    """A machine's folders, with the scripts of real nodes around them; what GpuMachine asks of a node."""

    folder: Path
    namespace: str

    def run(self, script: str, **settings: str) -> subprocess.CompletedProcess[str]:
        own = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "FAKE": str(self.folder),
            "FL_ETC": str(self.folder / "etc"),
            "FL_STATE": str(self.folder / "state"),
            "FL_JOINED": str(self.folder / "pki/kubelet-client-current.pem"),
        }
        return subprocess.run(
            ("ip", "netns", "exec", self.namespace, "sh", str(ROOT / "configs/node" / script)),
            env={**own, **settings},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@dataclass
class Played:
    """One machine with a T4."""

    site: ClusterSite
    plane: Plane
    name: str
    fails: bool = False
    runs: str = ""
    gpu: GpuMachine = field(init=False)
    wire: FoundMachine = field(init=False)

    def __post_init__(self) -> None:
        folder = self.site.folder / self.name
        for name in ("etc", "bin"):
            (folder / name).mkdir(parents=True)
        (folder / "state").symlink_to(".")
        self.wire = FoundMachine(
            site=self.site,
            mac=MACS[self.name],
            address="10.79.0.2",
            namespace=self.site.client,
            folder=folder,
        )
        self.gpu = GpuMachine(Box(folder, self.site.client))  # type: ignore[arg-type]  # what it asks of a node
        self.gpu.show(T4)
        self.gpu.register_runtime()
        self.gpu.offer(1)

    def boots(self) -> None:
        """Boot from the network, and do what the machine is told."""
        script = self.wire._plain(f"/ipxe?mac={self.wire.mac}&platform=pcbios").body.decode()
        if "firstlight.arm=" not in script:
            return
        arm = script.partition("firstlight.arm=")[2].split()[0]
        mine = {"mac": self.wire.mac, "arm": arm}
        begun = self.wire.secure("POST", "/v1/machine/begin", {**mine, "nonce": "n1"})
        found = next(
            one
            for one in manifests(self.site.folder / "cache")
            if one.disk.sha256 == begun["image"]["sha256"]
        )
        if self.fails and found.key == "new":
            failed = {**mine, "kind": "failed", "message": "the disk gives I/O errors", "stage": "write"}
            self.wire.secure("POST", "/v1/machine/events", failed)
            return
        for left in ("node.key", "gpu", "pki"):  # the disk is a new one
            path = self.wire.folder / left
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        document = begun["config"]["url"].partition(f":{HTTPS}")[2]
        assert self.wire.asked("GET", document).status == 200
        self.wire.secure("POST", "/v1/machine/events", {**mine, "kind": "complete"})
        booted = {**mine, "kind": "booted", "address": self.wire.address}
        self.wire.secure("POST", "/v1/machine/events", booted)
        self.runs = found.key
        self.gpu.load_driver(found.driver_version, "closed")
        self.wire.join(self.name, arm)
        self.gpu.write_settings(load([self.site.folder / "c.yaml"]).pool("workers"))
        self.kubelet(found.kernel_version)

    def kubelet(self, kernel: str = "") -> None:
        """Register if need be, and say that all is well."""
        shown = self.plane.kubectl("admin", "get", "node", self.name, "-o", "json", check=False)
        if not shown.startswith("{"):
            node = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": self.name},
                "spec": {"taints": [TAINT]},
            }
            with self.wire.api(self.plane) as api:
                api.apply([node])
            shown = self.plane.kubectl("admin", "get", "node", self.name, "-o", "json")
        found = json.loads(shown)
        del found["metadata"]["resourceVersion"]
        amounts = {"nvidia.com/gpu": "1"}
        kernel = kernel or found["status"]["nodeInfo"]["kernelVersion"]
        found["status"] = {
            "conditions": [READY],
            "nodeInfo": {"kernelVersion": kernel, "kubeletVersion": "v1.20.2"},
            "capacity": amounts,
            "allocatable": amounts,
        }
        path = f"/api/v1/nodes/{self.name}/status"
        self.plane.kubectl("admin", "replace", "--raw", path, "-f", "-", given=json.dumps(found))

    def turn(self) -> None:
        """Do what a node's timers do."""
        if self.runs and (self.wire.folder / "pki/kubelet-client-current.pem").exists():
            self.gpu.node.run(
                "gpu",
                FL_SYS=str(self.gpu.folder / "sys"),
                FL_PROC=str(self.gpu.folder / "proc"),
                FL_PLUGINS=str(self.gpu.folder / "plugins"),
                FL_SYSEXT=str(self.gpu.folder / "enabled-sysext.conf"),
            )
            self.kubelet()


@dataclass
class Rig:
    """The appliance, its cluster, and the two machines."""

    site: ClusterSite
    plane: Plane
    machines: dict[str, Played]
    seen: int = 0

    @property
    def switched(self) -> list[str]:
        log = self.site.folder / "power.log"
        return log.read_text().splitlines() if log.exists() else []

    def play(self) -> None:
        """Have machines that were switched on boot, and all do what nodes do."""
        lines = self.switched
        for line in lines[self.seen :]:
            name, what = line.split()
            if what == "on":
                self.machines[name].boots()
        self.seen = len(lines)
        for machine in self.machines.values():
            machine.turn()

    def run(self, *words: str) -> tuple[int, str]:
        """Run deploy.py while the machines are played; return its exit code and what it said."""
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(self.site.run, *words)
            end = time.monotonic() + RUN_SECONDS
            while not asked.done() and time.monotonic() < end:
                self.play()
                time.sleep(CHECK_SECONDS)
            done = asked.result()
        return done.returncode, done.stderr

    def node(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.plane.kubectl("admin", "get", "node", name, "-o", "json"))
        return found

    def is_given_back(self, name: str) -> bool:
        node = self.node(name)
        held = [
            one for one in node["spec"].get("taints", []) if not one["key"].startswith("node.kubernetes.io/")
        ]
        return not (
            node["spec"].get("unschedulable") or held or ANNOTATION in node["metadata"].get("annotations", {})
        )


@pytest.fixture(scope="module", name="rig")
def fixture_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Both machines run yesterday's image, verified; today's is there."""
    folder = tmp_path_factory.mktemp("u")
    (folder / "power").write_text('echo "$FIRSTLIGHT_MACHINE $1" >>power.log\n')
    with cluster_site(folder, 0, CONFIG, joins=True) as (site, plane):
        image(folder / "cache", "old", OLD, OLD_KERNEL)
        site.up()
        rig = Rig(site, plane, {name: Played(site, plane, name) for name in MACS})
        for name, machine in rig.machines.items():
            armed = site.run("machine", "arm", name, "--yes")
            assert armed.returncode == 0, armed.stderr
            machine.boots()

        def are_verified() -> bool:
            rig.play()
            shown = {
                one["name"]: one["state"]
                for one in json.loads(site.ask("GET", "/v1/machines").body)["machines"]
            }
            return shown == dict.fromkeys(MACS, "gpu-ready")

        until(are_verified, seconds=90)
        image(folder / "cache", "new", NEW, NEW_KERNEL)
        yield rig


def upgrades(rig: Rig) -> list[int]:
    """Return the processes of `gpu upgrade`."""
    found = []
    for pid in rig.site.pids():
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            found += [pid] * (b"upgrade" in words and b"gpu" in words)
    return found


def test_who_would_get_what_is_shown_and_nothing_done(rig: Rig) -> None:
    code, said = rig.run("gpu", "upgrade", "--dry-run")

    assert code == 0, said
    for name in MACS:
        (line,) = (line for line in said.splitlines() if line.startswith(f"{name} "))
        assert f"{OLD} (closed) for {OLD_KERNEL}" in line
        assert f"{NEW} (closed) for {NEW_KERNEL}" in line
        assert " install " in line
    assert rig.switched == []


def test_the_first_is_upgraded_the_second_fails_and_goes_back(rig: Rig) -> None:
    rig.machines["w2"].fails = True
    code, said = rig.run("gpu", "upgrade", "--yes", "--timeout", WAIT)

    assert code == 3, said
    assert {name: one.runs for name, one in rig.machines.items()} == {"w1": "new", "w2": "old"}
    assert f"w1: verified with {NEW} (closed) for {NEW_KERNEL}; takes pods again" in said
    last = said.strip().splitlines()[-1]
    assert last.startswith("w2: the machine is failed: the disk gives I/O errors; set back to"), said
    assert last.endswith("verified, and takes pods again")
    assert rig.switched == [
        f"{name} {what}" for name in ("w1", "w2", "w2") for what in ("netboot", "off", "on")
    ]
    assert all(rig.is_given_back(name) for name in MACS)
    assert rig.node("w1")["status"]["nodeInfo"]["kernelVersion"] == NEW_KERNEL
    shown = json.loads(rig.site.ask("GET", "/v1/machines/w2").body)
    assert shown["gpu"]["pin"] == {"driver": "550 (closed)", "image": "old"}


def test_ended_while_it_waits_it_goes_on_with_the_next_run(rig: Rig) -> None:
    """The cause is removed; SIGINT comes when the machine has been switched."""
    rig.machines["w2"].fails = False
    before = len(rig.switched)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(rig.site.run, "gpu", "upgrade", "--yes", "--timeout", WAIT)
        until(lambda: len(rig.switched) > before and rig.switched[-1] == "w2 on", seconds=300)
        time.sleep(2.0)  # what switched it has ended
        for pid in upgrades(rig):
            os.kill(pid, signal.SIGINT)
        done = asked.result()
    assert done.returncode == 130, done.stderr
    assert "takes no pods until this is run again" in done.stderr
    assert rig.node("w2")["spec"]["unschedulable"] is True

    code, said = rig.run("gpu", "upgrade", "--yes", "--timeout", WAIT)

    assert code == 0, said
    assert {name: one.runs for name, one in rig.machines.items()} == dict.fromkeys(MACS, "new")
    assert all(rig.is_given_back(name) for name in MACS)
    assert rig.run("gpu", "upgrade", "--yes")[0] == 0
