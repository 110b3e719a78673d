"""The appliance moves into a real API server's cluster and back: what it served here it serves from the moved state.

No kubelet is there: the test does on a folder what the pods do on their node, with the program that they run, from the
Secrets that the API server gives out. Needs root and what tests/kubernetes/build makes (minutes, the first time).
"""

import base64
import gzip
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bootstrap import failpoints
from bootstrap.config import load
from bootstrap.containers.table import CONTAINERS
from bootstrap.operator import Operator
from tests.system.claim_plane import Plane, built, control_plane, namespace_of
from tests.system.pxe_segment import wait_for
from tests.system.spine import ROOT, Outcome, Site
from tests.system.web_bench import make_image

pytestmark = pytest.mark.system

NAME, NAMESPACE, NODE = "moved", "fl-t-handover", "w1"
PLANE, HERE = "10.77.0.10", "10.77.0.1"
LISTED, FOUND, LATER = "52:54:00:79:00:01", "52:54:00:79:00:02", "52:54:00:79:00:03"
IMAGE = "registry.example.net/firstlight-{}@sha256:" + "0123456789abcdef" * 4
CONFIG = f"""
apiVersion: firstlight/v1alpha1
kind: Cluster
metadata: {{name: {NAME}}}
kubernetes: {{version: v1.20.2, controlPlaneEndpoint: "{PLANE}:6443", cni: {{plugin: none}}}}
controlPlane: {{hosts: [{{name: m1, address: {PLANE}}}]}}
etcd: {{members: [m1]}}
appliance:
  interface: srv0
  address: {HERE}/24
  dhcp: {{mode: server, range: [10.77.0.150, 10.77.0.199]}}
  containers:
    web: {IMAGE.format("web")}
    pxe: {IMAGE.format("pxe")}
pools:
  - name: workers
    os: {{family: debian, release: "13"}}
    disk: {{select: {{type: virtio}}}}
machines:
  - {{name: {NODE}, mac: "{LISTED}", pool: workers, address: 10.77.0.101}}
"""
TO = ("handover", "--to", "cluster", "--node", NODE, "--timeout", "5")
OURS = "app.kubernetes.io/name=firstlight"
SCRIPT = f"/ipxe?mac={LISTED}&platform=pcbios"
READY_SECONDS, END_SECONDS = 90.0, 60.0
READY = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}

DONE = {
    "name": "unpack",
    "image": IMAGE.format("web"),
    "imageID": "",
    "ready": True,
    "restartCount": 0,
    "state": {"terminated": {"exitCode": 0}},
}


@dataclass
class Rig:
    """The computer that hands over: its network has the API server's address on loopback, and the machines' cable."""

    site: Site
    plane: Plane
    folder: Path

    def run(self, *words: str, points: str = "") -> Outcome:
        """Run deploy.py on that network; `points` are places where it is killed."""
        done = subprocess.run(
            self.inside(*self.site.argv(*words)),
            cwd=ROOT,
            env={**self.site.environment, failpoints.VARIABLE: points},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        sys.stderr.write(f"$ deploy.py {' '.join(words)} -> {done.returncode}\n{done.stderr[-3000:]}\n")
        return Outcome(done.returncode, done.stdout, done.stderr)

    def inside(self, *argv: str) -> list[str]:
        return ["ip", "netns", "exec", NAMESPACE, *argv]

    def curl(self, path: str) -> bytes:
        argv = self.inside("curl", "-sS", "--max-time", "5", f"http://{HERE}:8080{path}")
        return subprocess.run(argv, check=False, capture_output=True).stdout

    @contextmanager
    def process(self, name: str, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run something on the network until the block ends."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                self.inside(*argv),
                cwd=ROOT,
                env=self.site.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(END_SECONDS)

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the appliance here, as `serve` does."""
        with self.process("serve", *self.site.argv("serve")) as process:
            log = self.folder / "serve.log"
            assert wait_for(lambda: self.is_ready(self.site.work), READY_SECONDS), log.read_text()[-3000:]
            yield process

    @contextmanager
    def moved(self, node: Path) -> Iterator[Operator]:
        """Run web on what lies in the node's folder, seen as its container sees it."""
        view = self.folder / "view"
        view.mkdir(exist_ok=True)
        for mount in CONTAINERS["web"].mounts:
            link = view / mount.target.rpartition("/")[2]
            if mount.root == "work" and not link.is_symlink():
                link.symlink_to(node / mount.path)
        where = ("--work", str(view), "--cache", str(self.site.cache), "--records", str(view / "records"))
        with self.process("moved", sys.executable, "-m", "web", *where):
            assert wait_for(lambda: Operator(view).is_alive(), READY_SECONDS), (
                self.folder / "moved.log"
            ).read_text()[-3000:]
            yield Operator(view)

    @staticmethod
    def is_ready(work: Path) -> bool:
        return Operator(work).is_ready()

    def get(self, *words: str) -> Any:
        """Return what kubectl shows, as the administrator."""
        return json.loads(
            self.plane.kubectl("admin", "--namespace", "firstlight", "get", *words, "-o", "json")
        )

    def land(self, node: Path) -> None:
        """Do on a folder what the init containers do, with their own command."""
        node.mkdir(exist_ok=True)
        for part in CONTAINERS:
            spec = self.get("deployment", part)["spec"]["template"]["spec"]
            parcels = self.folder / f"parcels-{part}"
            for volume in (each for each in spec["volumes"] if "projected" in each):
                self._project(volume, parcels / volume["name"].removeprefix("parcel-"))
            (init,) = spec["initContainers"]
            assert init["command"][:2] == ["python3", "-m"]
            argv = (sys.executable, "-m", *init["command"][2:], *init["args"])
            subprocess.run((*argv, "--node", str(node), "--parcels", str(parcels)), cwd=ROOT, check=True)

    def tell_run(self) -> None:
        """Say of all pods what their kubelet says when they run: what unpacks has done its work."""
        for found in self.get("pods")["items"]:
            metadata = found["metadata"]
            del metadata["resourceVersion"]
            status = {**found["status"], "initContainerStatuses": [DONE]}
            path = f"/api/v1/namespaces/firstlight/pods/{metadata['name']}/status"
            given = json.dumps({**found, "status": status})
            self.plane.kubectl("admin", "replace", "--raw", path, "-f", "-", given=given)

    def _project(self, volume: Mapping[str, Any], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():
            left.unlink()
        for source in volume["projected"]["sources"]:
            found = self.get("secret", source["secret"]["name"])["data"]
            (item,) = source["secret"]["items"]
            (folder / item["path"]).write_bytes(base64.b64decode(found[item["key"]]))


@pytest.fixture(scope="module", name="rig")
def fixture_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder, programs = tmp_path_factory.mktemp("handover"), built()
    config = folder / "config.yaml"
    config.write_text(CONFIG)
    site = Site(deploy=folder / "deploy", cache=folder / "cache", configs=(str(config),), name=NAME)
    make_image(folder, site.cache)
    done = site.run("render", "--output", str(site.work / "bundle"))
    assert done.code == 0, done.err
    with ExitStack() as stack:
        stack.enter_context(namespace_of(NAMESPACE, PLANE))
        for words in (
            ("link", "add", "srv0", "type", "veth", "peer", "name", "cli0"),
            ("address", "add", f"{HERE}/24", "dev", "srv0"),
            ("link", "set", "srv0", "up"),
            ("link", "set", "cli0", "up"),
        ):
            subprocess.run(("ip", "-n", NAMESPACE, *words), check=True)
        root = folder / "plane"
        root.mkdir()
        made = Plane(root, programs, NAMESPACE, cluster=load([config]), pki=site.work / "pki")
        yield Rig(site, stack.enter_context(control_plane(made)), folder)


def set_ready(rig: Rig) -> None:
    """Have the node be there and Ready, as its kubelet would: 40 s from a heartbeat that is new."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
    rig.plane.kubectl("admin", "apply", "-f", "-", given=json.dumps(node))
    found = json.loads(rig.plane.kubectl("admin", "get", "node", NODE, "-o", "json"))
    del found["metadata"]["resourceVersion"]  # whoever else writes to it
    path = f"/api/v1/nodes/{NODE}/status"
    heard = {**READY, "lastHeartbeatTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
    status = {"conditions": [heard], "addresses": [{"type": "InternalIP", "address": HERE}]}
    rig.plane.kubectl(
        "admin", "replace", "--raw", path, "-f", "-", given=json.dumps({**found, "status": status})
    )


def states(operator: Operator) -> dict[str, str]:
    """Return the state of each machine that the appliance knows."""
    return {machine["name"]: machine["state"] for machine in operator.machines()}


def served(rig: Rig) -> list[bytes]:
    """Return what machines are told, byte by byte; by TLS too, with the leaf that the provisioning CA signed."""
    authority = str(rig.site.work / "pki/provisioning/ca.crt")
    secure = rig.inside("curl", "-sS", "--cacert", authority, f"https://{HERE}:8443/v1/ignition/{LISTED}")
    answers = [
        rig.curl(path) for path in ("/boot.ipxe", SCRIPT, *(f"/v1/ignition/{mac}" for mac in (LISTED, FOUND)))
    ]
    return [*answers, subprocess.run(secure, check=True, capture_output=True).stdout]


@dataclass(frozen=True)
class Before:
    """What the appliance knew and served here before it moved."""

    states: Mapping[str, str]
    events: list[dict[str, Any]]
    answers: list[bytes]


@pytest.fixture(scope="module", name="before")
def fixture_before(rig: Rig) -> Before:
    """Serve here, learn of a machine that nobody listed, and hand over; killed after the check and before the end."""
    operator = Operator(rig.site.work)
    with rig.serving() as here:
        rig.curl(f"/ipxe?mac={FOUND}&platform=pcbios")
        accepted = rig.run("machine", "accept", FOUND, "--pool", "workers", "--name", "w7")
        assert accepted.code == 0, accepted.err
        answers = served(rig)
        found = Before(states(operator), operator.events(machine="w7"), answers)
        assert found.states.keys() == {"w1", "w7"}

        assert "is not in the cluster" in rig.run(*TO).err
        set_ready(rig)
        assert rig.run(*TO, points="handover.step.after=kill@1").code == -9  # checked, and nothing else
        assert rig.get("deployments,secrets", "-l", OURS)["items"] == []
        assert here.poll() is None
        assert states(operator) == found.states

        set_ready(rig)
        assert rig.run(*TO, points="handover.step.after=kill@4").code == -9  # sent, and not opened
        assert here.wait(END_SECONDS) == 0
        assert rig.get("deployments")["items"] == []
    return found


@pytest.mark.usefixtures("before")
@pytest.mark.parametrize("words", [("serve",), ("up", "--no-wait")])
def test_here_it_does_not_start_again(rig: Rig, words: tuple[str, ...]) -> None:
    refused = rig.run(*words)
    assert (refused.code, "handover --back" in refused.err) == (2, True)


def test_what_it_served_here_it_serves_from_the_moved_state(rig: Rig, before: Before) -> None:
    assert before.answers[1].startswith(b"#!ipxe")
    assert json.loads(before.answers[2])["ignition"]["version"]
    set_ready(rig)
    done = rig.run(*TO)
    assert done.code == 3, done.err  # handed over; no kubelet runs the pods here
    assert {each["metadata"]["name"] for each in rig.get("deployments")["items"]} == {"pxe", "web"}

    rig.land(rig.folder / "node")
    rig.tell_run()
    with rig.moved(rig.folder / "node") as there:
        assert served(rig) == before.answers
        assert states(there) == before.states
        assert there.events(machine="w7")[: len(before.events)] == before.events
        rig.curl(f"/ipxe?mac={LATER}&platform=pcbios")
        there.accept(LATER, pool="workers", as_name="w8", resolve=False, recheck=False)


@pytest.mark.usefixtures("before")
def test_it_comes_back_with_what_it_learned_there(rig: Rig) -> None:
    set_ready(rig)
    done = rig.run("handover", "--back", "--from", str(rig.folder / "node"))
    assert (done.code, "was copied before it ended, and is not used" in done.err) == (3, True), done.err
    assert rig.get("deployments,replicasets,pods")["items"] == []
    assert rig.run("handover", "--back", "--from", str(rig.folder / "plane")).code == 2

    done = rig.run("handover", "--back", "--from", str(rig.folder / "node"))
    assert done.code == 0, done.err
    with rig.serving():
        assert states(Operator(rig.site.work)).keys() == {"w1", "w7", "w8"}


def test_what_goes_to_the_cluster_holds_leaves_keys_and_no_authority_s(rig: Rig) -> None:
    rig.plane.kubectl("admin", "wait", "--for=delete", "namespace/firstlight", "--timeout=50s", check=False)
    set_ready(rig)
    done = rig.run(*TO)
    assert done.code == 3, done.err
    secrets = rig.get("secrets", "-l", OURS)["items"]
    assert {each["metadata"]["name"][-4:] for each in secrets} == {"-000"}
    contents = [gzip.decompress(base64.b64decode(each["data"]["piece"])) for each in secrets]

    pki = rig.site.work / "pki"
    here_only = [*pki.rglob("ca.key"), *pki.rglob("*-ca.key"), pki / "sa.key", pki / "admin.key"]
    assert len(here_only) >= 6
    for key in here_only:
        assert not any(key.read_bytes() in content for content in contents), key
    assert any((pki / "provisioning/server.key").read_bytes() in content for content in contents)


def test_after_pods_of_which_nothing_ran_the_plain_way_back_is_enough(rig: Rig) -> None:
    assert {each["status"]["phase"] for each in rig.get("pods")["items"]} == {"Pending"}
    set_ready(rig)
    done = rig.run("handover", "--back")
    assert (done.code, f"nothing of it ever ran on {NODE}" in done.err) == (0, True), done.err
    with rig.serving():
        assert states(Operator(rig.site.work)).keys() == {"w1", "w7", "w8"}
