"""Control-plane hosts that are nodes too: real kubelets, pods that reach each other, renewals, the appliance's own."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from bootstrap.image import host as host_image
from bootstrap.keys import ensure_keys
from bootstrap.kubernetes.places import KUBELET_PEM
from bootstrap.operator import Operator
from bootstrap.progress import silent
from certs.node import node_certificate
from certs.requests import certificate_facts
from tests.system.container_bench import Served
from tests.system.kubectl import IMAGE, Kubectl
from tests.system.node_appliance import (
    BIOS,
    FOUND,
    FOUND_ADDRESS,
    LISTED,
    LISTED_ADDRESS,
    NODE,
    Appliance,
    appliance_beside,
)
from tests.system.node_rack import KUBELETS, M1, M2, Nodes
from tests.system.pxe_segment import SERVER, DhcpClient
from tests.system.spine import CACHE, wait_for

pytestmark = pytest.mark.system

KEY = "/var/lib/firstlight/node.key"
TAINT = "node-role.kubernetes.io/control-plane"
SUBJECT = ("-subj", "/O=system:nodes/CN=system:node:m1", "-config", "/run/firstlight-host/openssl.cnf")
SERVE = "trap exit TERM; echo here > /tmp/index.html; httpd -p 8080 -h /tmp; sleep 3600 & wait"
READ_ONLY = (
    "cp -r /usr/lib/cni /tmp/plugins; mount --bind /usr /usr; mount -o remount,bind,ro /usr; "
    "mount -t tmpfs none /usr/lib/cni; ! touch /usr/x 2>&1"
)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    found = Nodes(tmp_path_factory.mktemp("nodes"))
    try:
        found.rack.up(host_roots={True: host_image.build(CACHE, silent, node=True)})
        yield found
    finally:
        found.rack.down()


def certificate(nodes: Nodes, host: str) -> bytes:
    text = nodes.hosts.run(host, "sed", "-n", "/-BEGIN CERTIFICATE-/,/-END CERTIFICATE-/p", KUBELET_PEM)
    return f"{text}\n".encode()


def test_hosts_become_ready_nodes_with_keys_of_their_own(nodes: Nodes) -> None:
    found = nodes.apply()

    assert {"m1: node m1 is Ready", "m2: node m2 is Ready"} <= set(found["proven"])
    nodes.take_kubeconfig()
    for host in ("m1", "m2"):
        node = nodes.kubectl.data("get", "node", host)
        assert node["metadata"]["labels"][TAINT] == ""
        assert [(one["key"], one["effect"]) for one in node["spec"]["taints"]] == [(TAINT, "NoSchedule")]
        assert nodes.hosts.run(host, "stat", "-c", "%a %U", KEY) == "600 root"
        subject = nodes.hosts.run(
            host, "openssl", "x509", "-in", KUBELET_PEM, "-noout", "-subject", "-nameopt", "RFC2253"
        )
        assert subject == f"subject=CN=system:node:{host},O=system:nodes"
        assert nodes.hosts.run(host, "systemctl", "--failed", "--plain", "--no-legend") == ""


def test_no_key_of_a_kubelet_is_on_this_computer(nodes: Nodes) -> None:
    for host in ("m1", "m2"):
        key = (nodes.hosts.root(host) / KEY[1:]).read_text().splitlines()[1]
        mine = [
            path for path in nodes.site.work.rglob("*") if path.is_file() and "lab" not in path.parts[-4:]
        ]
        mine = [path for path in mine if not path.is_relative_to(nodes.site.work / "lab")]
        assert not [path for path in mine if key.encode() in path.read_bytes()]
        assert certificate_facts(certificate(nodes, host)).not_after > datetime.now(UTC) + timedelta(days=6)


def test_again_nothing_changes_and_nothing_restarts(nodes: Nodes) -> None:
    before = {host: nodes.pids(host) for host in ("m1", "m2")}
    found = nodes.apply()

    assert (found["changes"], found["objects"]) == (0, [])
    assert {host: nodes.pids(host) for host in ("m1", "m2")} == before


def test_kubelets_serve_with_certificates_of_their_own_names(nodes: Nodes) -> None:
    with nodes.approving() as appliance:
        for host in ("m1", "m2"):
            nodes.kubectl.run_pod(f"web-{host}", node=host, script=SERVE)
        wait_for(
            lambda: {one.name for one in appliance.site.host_nodes.values() if one.is_ready} == {"m1", "m2"},
            "the appliance sees both nodes",
            timeout=30,
        )
        shown = appliance.operator("GET", "/v1/machines").json
        assert shown is not None
        assert [(one["name"], one["state"]) for one in shown["hosts"]] == [("m1", "ready"), ("m2", "ready")]
        for host in ("m1", "m2"):
            served = nodes.hosts.root(host) / "var/lib/kubelet/pki/kubelet-server-current.pem"
            wait_for(served.is_symlink, f"kubelet of {host} has a serving certificate", timeout=60)
    for host in ("m1", "m2"):
        assert nodes.kubectl("exec", f"web-{host}", "--", "cat", "/tmp/index.html") == "here"
        assert nodes.kubectl("logs", f"web-{host}") == ""


def test_pods_reach_each_other_and_a_service_from_both_hosts(nodes: Nodes) -> None:
    nodes.kubectl("expose", "pod", "web-m2", "--port=80", "--target-port=8080", "--name=web")
    service = nodes.kubectl.data("get", "service", "web")["spec"]["clusterIP"]
    address = {
        host: nodes.kubectl.data("get", "pod", f"web-{host}")["status"]["podIP"] for host in ("m1", "m2")
    }

    for source, target in (("m1", address["m2"]), ("m2", address["m1"])):
        asked = partial(answer, nodes.kubectl, f"web-{source}")
        assert asked(target, 8080) == "here"
        wait_for(lambda asked=asked: asked(service, 80) == "here", f"{service} from {source}", timeout=30)  # type: ignore[misc]


def answer(kubectl: Kubectl, pod: str, address: str, port: int) -> str:
    """Return the last line that the web server at `address` says to somebody in `pod`."""
    ask = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} {port} | tail -n 1"
    return kubectl("exec", pod, "--", "sh", "-c", ask)


def test_a_pod_that_asks_for_no_node_is_kept_away_by_the_taint(nodes: Nodes) -> None:
    nodes.kubectl("run", "lonely", f"--image={IMAGE}", "--image-pull-policy=Never", "--", "sleep", "60")

    def is_kept_away() -> bool:
        status = nodes.kubectl.data("get", "pod", "lonely")["status"]
        return [one.get("reason") for one in status.get("conditions", [])] == ["Unschedulable"]

    wait_for(is_kept_away, "the scheduler finds no node", timeout=60)
    nodes.kubectl("delete", "pod", "lonely", "--now")


def test_a_kubelet_renews_its_certificate_with_a_new_key(nodes: Nodes) -> None:
    """A certificate with two minutes to go is renewed at once."""
    root = nodes.hosts.root("m1")
    request = nodes.hosts.run("m1", "openssl", "req", "-new", "-key", KEY, *SUBJECT)
    keyring = ensure_keys(nodes.cluster, nodes.site.work, datetime.now(UTC)).keyring
    late = node_certificate(
        keyring, f"{request}\n".encode(), "m1", life=timedelta(minutes=2), now=datetime.now(UTC)
    )
    pem = root / str((root / KUBELET_PEM[1:]).readlink())[1:]
    pem.write_bytes(late + (root / KEY[1:]).read_bytes())
    with nodes.approving():
        nodes.hosts.run("m1", "systemctl", "restart", "kubelet")
        wait_for(
            lambda: (
                certificate_facts(certificate(nodes, "m1")).not_after > datetime.now(UTC) + timedelta(days=1)
            ),
            "kubelet has renewed its certificate",
            timeout=90,
        )
    assert certificate_facts(certificate(nodes, "m1")).fingerprint != certificate_facts(late).fingerprint
    assert nodes.apply()["changes"] == 0


def test_a_host_that_is_to_be_no_node_any_more_is_one_no_more(nodes: Nodes) -> None:
    before = nodes.pids("m1")
    nodes.write(M1, {**M2, "node": False})
    lines = nodes.planned("m2")
    assert lines[0].startswith("m2: take node m2 out of the cluster")
    assert {"m2: stop and disable kubelet.service", "m2: stop and disable kube-proxy.service"} <= set(lines)
    assert "m2: remove containers, pods' network, key and certificate of its kubelet" in lines
    assert nodes.kubectl.data("get", "nodes")["items"][1]["metadata"]["name"] == "m2", "it was only planned"

    nodes.apply()

    names = [one["metadata"]["name"] for one in nodes.kubectl.data("get", "nodes")["items"]]
    assert names == ["m1"]
    assert nodes.hosts.run("m2", "sh", "-c", "ctr -n k8s.io task ls -q; ip -o link show cni0 2>&1; true").endswith(
        "does not exist."
    )  # fmt: skip
    root = nodes.hosts.root("m2")
    for path in (KEY, KUBELET_PEM, "/opt/firstlight/bin/kubelet", "/etc/firstlight/containerd.toml"):
        assert not os.path.lexists(root / path[1:]), path
    assert nodes.hosts.run("m2", "systemctl", "is-active", "kube-apiserver", "containerd") == "active\nactive"
    assert "KUBE-" not in nodes.hosts.run("m2", "iptables-save", "-t", "nat")
    assert nodes.apply()["changes"] == 0
    after = nodes.pids("m1")
    assert {unit: after[unit] for unit in KUBELETS} == before


def test_a_host_whose_usr_cannot_be_written_becomes_a_node_too(nodes: Nodes) -> None:
    """As on Flatcar and Fedora CoreOS: /usr is read-only, and what is added stands in /opt."""
    nodes.write(M1, M2)
    nodes.hosts.run("m2", "sh", "-euc", READ_ONLY)
    (lacks,) = nodes.planned("host m2")
    assert "it is to be a node (node: true) and lacks the CNI plugins; `apt-get install" in lacks
    assert "mirror.cniPlugins" in lacks
    nodes.hosts.run("m2", "sh", "-euc", "mkdir -p /opt/cni; mv /tmp/plugins /opt/cni/bin")

    found = nodes.apply()

    assert "m2: node m2 is Ready" in found["proven"]
    nodes.kubectl("delete", "pod", "web-m2", "--now", "--ignore-not-found")
    nodes.kubectl.run_pod("again-m2", node="m2", script=SERVE)


# --- the appliance's own pods ------------------------------------------------------------------------------

TO = ("--to", "cluster", "--node", NODE)


@dataclass(frozen=True)
class Before:
    """What the appliance knew and served before it moved."""

    states: Mapping[str, str]
    events: list[dict[str, Any]]
    answers: list[bytes]


@pytest.fixture(scope="module", name="appliance")
def fixture_appliance(
    nodes: Nodes, boxes: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Appliance]:
    nodes.apply()
    nodes.take_kubeconfig()
    with appliance_beside(nodes, boxes.store, tmp_path_factory.mktemp("appliance")) as made:
        yield made


def states(machines: list[dict[str, Any]]) -> dict[str, str]:
    return {machine["name"]: machine["state"] for machine in machines}


def offered(appliance: Appliance, mac: str) -> str:
    """Return the address that a machine is offered, with a loader of the appliance's."""
    client = DhcpClient(appliance.cable)
    try:
        offer = client.ask("discover", mac, BIOS)
        assert offer is not None
        assert offer.siaddr == SERVER
        return str(offer.yiaddr)
    finally:
        client.close()


@pytest.fixture(scope="module", name="before")
def fixture_before(appliance: Appliance) -> Before:
    """Serve here, learn of a machine that nobody listed, and hand over; killed before the pods, whose address comes."""
    appliance.bring_images()
    operator = Operator(appliance.site.work)
    with appliance.serving() as here:
        appliance.be_found(FOUND, FOUND_ADDRESS)
        accepted = appliance.site.run("machine", "accept", FOUND, "--pool", "workers", "--name", "w7")
        assert accepted.code == 0, accepted.err
        assert offered(appliance, LISTED) == LISTED_ADDRESS
        answers = appliance.answers()
        assert all(answers)
        found = Before(states(operator.machines()), operator.events(machine="w7"), answers)
        assert found.states.keys() == {"w1", "w7"}
        assert found.events
        assert appliance.hand_over(*TO, points="handover.step.after=kill@4").code == -9
        assert here.wait(60) == 0
    appliance.give_address()
    return found


def test_a_kubelet_runs_the_appliance_that_was_handed_over(appliance: Appliance, before: Before) -> None:
    done = appliance.hand_over(*TO)

    assert done.code == 0, f"{done.err}\n{appliance.story()}"
    assert appliance.site.run("serve").code == 2
    pods = appliance.pods()
    assert {name: (pod["ready"], pod["restartCount"]) for name, pod in pods.items()} == {
        "web": (True, 0),
        "pxe": (True, 0),
    }
    assert appliance.answers() == before.answers
    assert offered(appliance, LISTED) == LISTED_ADDRESS
