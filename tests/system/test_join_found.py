"""Machines that nobody listed become nodes: accepted, they get what they join with, claim and are Ready.

The appliance is `serve` in front of a real control plane; what nobody runs here is the kubelet, whose word the
administrator gives. Needs root and what tests/kubernetes/build makes (minutes, the first time).
"""

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootstrap.allotment import recorded
from bootstrap.config import load
from bootstrap.errors import ApiRefused
from bootstrap.kubernetes.access import Signer
from bootstrap.kubernetes.api import Api
from bootstrap.kubernetes.subnets import subnet_of
from certs.requests import certificate_facts
from tests.samples import files_of
from tests.system.claim_plane import Plane, until
from tests.system.claim_rack import SERVING, has_certificate
from tests.system.fleet_cluster import KUBERNETES, ClusterSite, cluster_site
from tests.system.fleet_site import HEAD, HTTPS, RACK, SERVER
from tests.system.found_machine import SUBNETS, FoundMachine, far_network
from tests.system.pxe_segment import inside, run
from tests.unit.web.joining import serving

pytestmark = pytest.mark.system

NEAR, FAR = "10.79.6.20", "10.80.0.20"
NEAR_MAC, FAR_MAC = "52:54:00:7a:00:07", "52:54:00:7a:00:08"
BRIDGE, NONE = "cni: {{plugin: bridge}}", "cni: {{plugin: none}}"
RANGE = "range: [10.79.6.1, 10.79.7.200]"
LISTED = "machines: [{{name: w1, mac: '52:54:00:7a:00:01', pool: workers, address: 10.79.4.1}}]"
CONFIG = (HEAD + KUBERNETES + RACK).replace(NONE, BRIDGE).replace("10.4.0.0/14", "10.4.0.0/16").replace(
    RANGE, f"{RANGE}, subnets: {SUBNETS}"
).replace("machines:\n{machines}", LISTED)  # fmt: skip
READY = {
    "type": "Ready",
    "status": "True",
    "reason": "KubeletReady",
    "message": "",
    "lastHeartbeatTime": None,
    "lastTransitionTime": None,
}


@dataclass(frozen=True)
class Rig:
    """The appliance, its cluster, and a machine of either network."""

    site: ClusterSite
    plane: Plane
    near: FoundMachine
    far: FoundMachine

    def accept(self, machine: FoundMachine, name: str) -> str:
        """Accept a machine with the verb; return what it said if it was refused."""
        done = self.site.run("machine", "accept", machine.mac, "--pool", "workers", "--name", name)
        return done.stderr if done.returncode else ""

    def shown(self, *verb: str) -> dict[str, list[str]]:
        """Return the cells of the table that a verb shows, by machine."""
        lines = [line.split() for line in self.site.run(*verb).stderr.splitlines()]
        return {cells[0]: cells for cells in lines if len(cells) > 2}

    def set_ready(self, name: str) -> None:
        """Say of a node what its kubelet would."""
        found = json.loads(self.plane.kubectl("admin", "get", "node", name, "-o", "json"))
        del found["metadata"]["resourceVersion"]
        found["status"] = {"conditions": [READY]}
        path = f"/api/v1/nodes/{name}/status"
        self.plane.kubectl("admin", "replace", "--raw", path, "-f", "-", given=json.dumps(found))

    def is_shown_ready(self, name: str) -> bool:
        return all(
            self.shown(*verb).get(name, [""] * 3)[1:3] == ["workers", "ready"]
            for verb in (("machine", "list"), ("status",))
        )


@pytest.fixture(scope="module", name="rig")
def fixture_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("j")
    with cluster_site(folder, 0, CONFIG, joins=True) as (site, plane), far_network(site, FAR) as far:
        # All that the near machine sends comes from its own address.
        run(*f"ip -n {site.client} route replace 10.79.0.0/20 dev cli0 src {NEAR}".split())
        site.up()
        yield Rig(
            site,
            plane,
            FoundMachine(site=site, mac=NEAR_MAC, address=NEAR, namespace=site.client, folder=folder / "w7"),
            FoundMachine(site=site, mac=FAR_MAC, address=FAR, namespace=far, folder=folder / "w8"),
        )


def becomes_a_node(rig: Rig, machine: FoundMachine, name: str) -> None:
    """Have an accepted machine do all that it does until its node is Ready."""
    arm, document = machine.install()
    settings = files_of(document)["/etc/firstlight/node.env"][0]
    assert settings == f"NODE_NAME={name}\nNODE_MAC={machine.mac}\nNODE_SERVER=https://{SERVER}:{HTTPS}\n"

    certificate = machine.join(name, arm).encode()

    claim = rig.site.ask("GET", f"/v1/machines/{name}")
    shown = json.loads(claim.body)
    assert (shown["claim"]["node"], shown["claim"]["key"]) == (
        name,
        certificate_facts(certificate).fingerprint,
    )
    assert shown["address"] == machine.address
    with machine.api(rig.plane) as node:
        node.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}])
        with pytest.raises(ApiRefused):
            node.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "another"}}])
        for which, address in (("own", machine.address), ("other", "10.79.4.1")):
            request = serving(name, name, address, number=5)
            node.create_signing_request(f"{which}-{name}", Signer.SERVING, request, SERVING, None)
    with inside(rig.site.server), rig.plane.api("admin") as admin:
        until(lambda: has_certificate(admin, f"own-{name}"), seconds=30)
        until(lambda: is_denied(admin, f"other-{name}"), seconds=30)
        assert not has_certificate(admin, f"other-{name}")
    rig.set_ready(name)
    until(lambda: rig.is_shown_ready(name), seconds=40)


def is_denied(admin: Api, name: str) -> bool:
    found = admin.signing_request(name)
    return found is not None and found.refusal.startswith("denied: ")


def documents(machine: FoundMachine) -> str:
    """Return all that a node is to run with, as one text."""
    answer = machine.asked("GET", f"/v1/machine/kubelet?mac={machine.mac}")
    assert answer.status == 200, answer
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        files = [tar.extractfile(member) for member in tar]
        return "\n".join(file.read().decode() for file in files if file is not None)


def test_an_accepted_machine_joins_under_its_own_name_and_subnet(rig: Rig) -> None:
    rig.near.be_found()
    assert rig.accept(rig.near, "w7") == ""

    becomes_a_node(rig, rig.near, "w7")

    numbers = recorded(rig.site.work)
    assert len({numbers["w1"], numbers["w7"]}) == 2
    cluster = load([rig.site.folder / "c.yaml"])
    text = documents(rig.near)
    assert str(subnet_of(cluster, numbers["w7"])) in text
    assert str(subnet_of(cluster, numbers["w1"])) in text, "the way to the other node's pods"


def test_one_behind_a_router_is_refused_where_pods_are_bridged(rig: Rig) -> None:
    rig.far.be_found()

    assert f"{FAR} is behind a router, where cni bridge reaches no pods" in rig.accept(rig.far, "w8")


def test_one_behind_a_router_joins_from_its_own_address_with_another_network(rig: Rig) -> None:
    config = Path(rig.site.folder / "c.yaml")
    config.write_text(config.read_text().replace("plugin: bridge", "plugin: none"))
    rig.site.close()
    rig.site.prepare()
    rig.site.up()
    before = recorded(rig.site.work)
    assert rig.accept(rig.far, "w8") == ""

    becomes_a_node(rig, rig.far, "w8")

    after = recorded(rig.site.work)
    assert len(set(after.values())) == len(after) == len(before) + 1
    assert before.items() <= after.items()
    assert "w8" in documents(rig.far)
    rig.set_ready("w7")  # its kubelet's word holds for less than a minute
    until(lambda: rig.is_shown_ready("w7"), seconds=40)
