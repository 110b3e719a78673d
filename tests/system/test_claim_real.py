"""Claims, renewals and nodes with the real API server and signer of v1.20.2: what is signed opens what it should.

Needs root and what tests/kubernetes/build makes (minutes, the first time).
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bootstrap.errors import ApiDown, ApiRefused
from bootstrap.kubernetes.access import Signer
from bootstrap.kubernetes.api import Api
from bootstrap.kubernetes.marks import Marks
from bootstrap.kubernetes.rbac import objects
from bootstrap.states import State
from certs.requests import certificate_facts
from tests.system.claim_plane import Plane, built, control_plane, namespace_of, until
from tests.system.claim_rack import (
    RENEWAL,
    SERVING,
    W1,
    W2,
    RealRack,
    has_certificate,
    joined,
    marked,
    node_api,
    race,
    status,
    taints_of,
)
from tests.system.pxe_segment import inside as inside_thread
from tests.tier import Promise, dice, rounds, seed
from tests.unit.web.joining import csr, serving
from web.claim import Claiming, Desk

pytestmark = pytest.mark.system

NAMESPACE, ADDRESS = "fl-t-claim", "10.77.0.10"
SERVER = f"https://{ADDRESS}:6443"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A control plane of one host, in a namespace of this module."""
    root, programs = tmp_path_factory.mktemp("claims"), built()
    with (
        namespace_of(NAMESPACE, ADDRESS),
        control_plane(Plane(root, programs, NAMESPACE)) as made,
        inside_thread(NAMESPACE),
    ):
        yield made


@pytest.fixture
def rack(plane: Plane) -> Iterator[RealRack]:
    made = RealRack(plane)
    yield made
    made.close()
    plane.kubectl("admin", "delete", "nodes,csr", "--all", check=False)


@pytest.fixture
def admin(plane: Plane) -> Iterator[Api]:
    with plane.api("admin") as api:
        yield api


def test_the_cluster_signs_the_machine_s_own_key_and_lets_it_in(rack: RealRack) -> None:
    granted = joined(rack)

    facts = certificate_facts(granted["certificate"].encode())
    claim = rack.record(W1).claim
    assert claim is not None
    assert facts.fingerprint == claim.key
    assert claim.expires_at == facts.not_after
    assert rack.record(W1).state is State.JOINED
    assert granted["endpoint"] == f"https://{ADDRESS}:6443"
    node = node_api(rack, granted)
    assert node.node("w1") is None  # it may ask for itself, and is not there yet
    with pytest.raises(ApiRefused):
        node.cordon("w2")


def test_the_same_key_gets_the_same_and_the_cluster_is_asked_once(rack: RealRack, admin: Api) -> None:
    first = joined(rack)

    assert rack.claim(csr(), W1).json == first
    assert len(admin.signing_requests(Signer.CLIENT)) == 1


def test_an_answer_that_was_lost_before_it_was_written_down_is_the_same_certificate(rack: RealRack) -> None:
    """The appliance died after the cluster signed: the request is found by its name."""
    rack.install(W1)
    desk = Desk(rack.site)
    real, failed = desk._keep, []

    def dies(*given: Any) -> None:
        failed.append(given[1])
        raise ConnectionAbortedError

    desk._keep = dies  # type: ignore[method-assign,assignment]
    asked = Claiming(mac=W1, arm=rack.record(W1).arm or "", csr=csr())
    for _ in range(20):
        try:
            desk.answer(asked)
        except ConnectionAbortedError:
            break
    desk._keep = real  # type: ignore[method-assign]

    assert joined(rack)["certificate"] == failed[0]


def test_a_second_key_gets_nothing_and_the_first_cannot_renew(rack: RealRack, admin: Api) -> None:
    granted = joined(rack)
    assert rack.claim(csr(number=1), W1).status_code == 409
    assert rack.record(W1).state is State.QUARANTINED

    node = node_api(rack, granted)
    node.create_signing_request("renew-q", Signer.CLIENT, csr(number=2).encode(), RENEWAL, None)
    rack.approver.look()

    found = admin.signing_request("renew-q")
    assert found is not None
    assert found.refusal.startswith("denied: ")
    assert len([one for one in admin.signing_requests(Signer.CLIENT) if one.certificate]) == 1


def test_a_node_renews_with_a_new_key_and_serves_under_its_own_name(rack: RealRack, admin: Api) -> None:
    node = node_api(rack, joined(rack))
    node.create_signing_request("renew-1", Signer.CLIENT, csr(number=2).encode(), RENEWAL, None)
    own = str(rack.cluster.machines[0].address)
    node.create_signing_request("serve-1", Signer.SERVING, serving("w1", "w1", own), SERVING, None)
    node.create_signing_request("serve-2", Signer.SERVING, serving("w1", "w1", ADDRESS), SERVING, None)
    node.create_signing_request("steal-1", Signer.CLIENT, csr("w2").encode(), RENEWAL, None)

    rack.approver.look()

    until(lambda: has_certificate(admin, "renew-1") and has_certificate(admin, "serve-1"), seconds=30)
    for name in ("serve-2", "steal-1"):
        found = admin.signing_request(name)
        assert found is not None
        assert found.refusal.startswith("denied: ")
    rack.approver.look()
    renewed = admin.signing_request("renew-1")
    assert renewed is not None
    claim = rack.record(W1).claim
    assert claim is not None
    facts = certificate_facts(renewed.certificate)
    assert (claim.renewed, claim.expires_at) == (facts.fingerprint, facts.not_after)
    granted = {
        "certificate": renewed.certificate.decode(),
        "ca": (rack.plane.root / "pki/ca.crt").read_text(),
    }
    assert node_api(rack, granted, 2).node("w1") is None


def test_a_retired_machine_loses_its_right_to_renew(rack: RealRack, admin: Api) -> None:
    node = node_api(rack, joined(rack))
    told = rack.operator("POST", "/v1/machines/w1/retire").json
    assert told is not None
    assert "its certificate ends at" in told["reason"]

    node.create_signing_request("renew-r", Signer.CLIENT, csr(number=2).encode(), RENEWAL, None)
    rack.approver.look()

    found = admin.signing_request("renew-r")
    assert found is not None
    assert found.refusal.startswith("denied: ")
    assert rack.claim(csr(), W1).status_code == 404


def test_a_reinstalled_machine_joins_under_the_same_name(rack: RealRack) -> None:
    first = joined(rack)
    rack.operator("POST", "/v1/machines/w1/arm")
    second = joined(rack, number=3)

    assert first["certificate"] != second["certificate"]
    node_api(rack, second, 3).node("w1")
    assert rack.record(W1).state is State.JOINED


def test_a_frozen_api_server_makes_machines_wait_and_nothing_else(rack: RealRack) -> None:
    """SIGSTOP: it takes connections and says nothing."""
    program = f"{rack.plane.root}/opt/firstlight/bin/kube-apiserver"
    pid = int(rack.plane.inside("pgrep", "-xf", f"{program} .*").stdout.split()[0])
    rack.install(W1)
    rack.install(W2)
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answers = [rack.claim(csr(), W1), rack.claim(csr("w2"), W2)]
        took = time.monotonic() - began
        assert [answer.status_code for answer in answers] == [202, 202]
        assert took < 20, took
        assert "API server" in rack.machine("w1")["message"]
        assert rack.record(W1).claim is not None
        with pytest.raises(ApiDown):
            rack.approver.look()
    finally:
        os.kill(pid, signal.SIGCONT)
    joined(rack)
    joined(rack, "w2", W2)


def test_ready_follows_the_cluster(rack: RealRack, admin: Api) -> None:
    node = node_api(rack, joined(rack))
    node.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "w1"}}])
    rack.approver.look()
    assert rack.record(W1).state is State.JOINED
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting"}
    status(rack.plane, "w1", ready)
    rack.approver.look()
    assert rack.record(W1).state is State.READY
    assert rack.machine("w1")["message"].startswith("Ready")

    status(rack.plane, "w1", {**ready, "status": "False", "message": "container runtime is down"})
    rack.approver.look()
    assert rack.machine("w1")["message"] == "joined; not Ready: container runtime is down"
    admin.delete_node("w1")
    rack.approver.look()
    assert rack.machine("w1")["message"] == "joined; its node is not registered yet"


def test_races_of_two_keys_never_make_two_certificates(plane: Plane, admin: Api, promise: Promise) -> None:
    count, chance = rounds(10, 200), dice("claims")
    made = 0
    for number in range(count):
        rack = RealRack(plane)
        rack.install(W1)
        keys = [10 + 2 * number, 11 + 2 * number]
        chance.shuffle(keys)
        statuses = race(rack, [csr(number=key) for key in keys], chance)
        assert statuses.count(200) <= 1
        assert rack.record(W1).state is State.QUARANTINED
        assert len(rack.alarms(W1)) == 1
        made += statuses.count(200)
        rack.close()
    signed = [one for one in admin.signing_requests(Signer.CLIENT) if one.certificate]
    plane.kubectl("admin", "delete", "csr", "--all", check=False)
    assert len(signed) <= count
    promise(
        promise="T-02 two keys race, real cluster",
        asked="two clients with different keys: never two certificates, always an alarm",
        done=f"{count} races against the real API server and signer",
        found=f"{len(signed)} certificates, {made} handed out, {count} alarms",
        seed=seed(),
    )


# --- the door itself ---------------------------------------------------------------------------------------


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": data,
    }


def test_objects_are_applied_once(admin: Api) -> None:
    wanted = [config_map("a", key="one"), *objects()]

    assert "ConfigMap/default/a" in admin.apply(wanted)
    assert admin.apply(wanted) == []
    assert admin.apply([config_map("a", key="two")]) == ["ConfigMap/default/a"]
    with pytest.raises(ApiRefused):
        admin.apply([{"apiVersion": "v1", "kind": "Nonsense", "metadata": {"name": "x"}}])
    with pytest.raises(ApiRefused):
        admin.apply([config_map("Not A Name")])


def test_what_is_written_is_read_again(admin: Api) -> None:
    admin.probe("one")
    admin.probe("two")


def test_a_node_is_cordoned_and_deleted(admin: Api) -> None:
    admin.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "c1"}}])

    admin.cordon("c1")
    assert [node.is_cordoned for node in admin.nodes() if node.name == "c1"] == [True]
    admin.cordon("c1", on=False)
    assert [node.is_cordoned for node in admin.nodes() if node.name == "c1"] == [False]
    assert admin.delete_node("c1") is True
    assert admin.delete_node("c1") is False
    with pytest.raises(ApiRefused) as refused:
        admin.cordon("c1")
    assert refused.value.status == 404


def test_labels_and_taints_of_a_pool_come_to_a_node_that_is_there_already(admin: Api, plane: Plane) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "c3", "labels": {"by-hand": "1"}}}
    admin.apply([node])
    plane.kubectl("admin", "taint", "node", "c3", "maintenance:NoSchedule")
    assert taints_of(admin, "c3") == [{"key": "maintenance", "effect": "NoSchedule"}]
    gpu = {"key": "nvidia.com/gpu", "value": "a100", "effect": "NoSchedule"}
    wanted = Marks(labels={"rack": "a", "topology.kubernetes.io/zone": "z"}, taints=(gpu,))

    assert marked(admin, {"c3": wanted}) == ["Node/c3", "ConfigMap/kube-system/firstlight-marks"]
    assert marked(admin, {"c3": wanted}) == []
    (found,) = (one for one in admin.node_marks() if one.name == "c3")
    assert found.labels == {"by-hand": "1", **wanted.labels}
    assert taints_of(admin, "c3") == [{"key": "maintenance", "effect": "NoSchedule"}, gpu]
    with pytest.raises(ApiRefused) as refused:
        admin.patch_node("c3", {"metadata": {"resourceVersion": "1"}, "spec": {"taints": None}})
    assert refused.value.status == 409

    marked(admin, {"c3": Marks()})

    (found,) = (one for one in admin.node_marks() if one.name == "c3")
    assert found.labels == {"by-hand": "1"}
    assert taints_of(admin, "c3") == [{"key": "maintenance", "effect": "NoSchedule"}]
    admin.delete_node("c3")


def test_pods_are_asked_to_leave_but_those_of_the_node_itself(admin: Api, plane: Plane) -> None:
    admin.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "c2"}}])
    plane.kubectl("admin", "create", "serviceaccount", "default", check=False)
    plain = {
        "containers": [{"name": "c", "image": "x"}],
        "nodeName": "c2",
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,  # a token comes some seconds after its account
    }
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u"}
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": plain},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "d", "namespace": "default", "ownerReferences": [owner]},
            "spec": plain,
        },
    ]
    admin.apply(pods)

    assert admin.evict_pods("c2") == ["default/p"]
    until(lambda: admin.evict_pods("c2") == [], seconds=20)
    plane.kubectl("admin", "delete", "pod", "d", "--force", "--grace-period=0", check=False)
    admin.delete_node("c2")


def test_addresses_are_tried_in_turn_and_the_dead_one_last(plane: Plane) -> None:
    dead = f"https://{ADDRESS}:9"

    with plane.api("admin", servers=(dead, SERVER)) as api:
        assert isinstance(api.nodes(), list)
        assert api._order == [SERVER, dead]
    with (
        plane.api("admin", servers=(dead,)) as api,
        pytest.raises(ApiDown, match="no API server answers at https"),
    ):
        api.nodes()


def test_a_server_of_another_authority_is_not_talked_to(plane: Plane) -> None:
    other = plane.root / "pki/provisioning/ca.crt"

    with plane.api("admin", authority=other) as api, pytest.raises(ApiDown):
        api.nodes()


def test_this_computer_s_proxies_and_kubeconfig_do_not_count(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")

    with plane.api("admin") as api:
        assert isinstance(api.nodes(), list)


def test_the_identities_of_web_may_do_nothing_else(plane: Plane) -> None:
    with plane.api("claims") as claims, plane.api("status") as watching:
        refused: list[Callable[[], object]] = [
            claims.nodes,
            lambda: claims.apply([config_map("a", key="x")]),
            lambda: watching.signing_requests(Signer.CLIENT),
            lambda: watching.delete_node("w1"),
        ]
        for act in refused:
            with pytest.raises(ApiRefused) as error:
                act()
            assert error.value.status == 403
        assert isinstance(watching.nodes(), list)
