"""What kubelets of control-plane hosts ask of the cluster's signers, and how such hosts are shown."""

import pytest

from bootstrap.kubernetes.access import Signer
from bootstrap.model import Cluster
from tests.unit.web.fakes import cluster
from tests.unit.web.joining import JoiningRack, csr, serving, view
from web.approver import Approver

M1, M2 = "system:node:m1", "system:node:m2"


def with_nodes(*names: str) -> Cluster:
    """Return a cluster of the control-plane hosts m1 and m2, of which `names` are nodes."""
    made = cluster(hosts=2)
    hosts = tuple(host.model_copy(update={"node": host.name in names}) for host in made.control_plane.hosts)
    plane = made.control_plane.model_copy(update={"hosts": hosts})
    return made.model_copy(update={"control_plane": plane})


@pytest.fixture
def rack() -> JoiningRack:
    return JoiningRack(cluster=with_nodes("m1"))


def asks(rack: JoiningRack, request: bytes, signer: Signer = Signer.CLIENT, *, user: str = M1) -> str:
    """File a request, go round, and say what came of it."""
    name = f"csr-{len(rack.kube.requests)}"
    rack.kube.file(name, signer, request, user=user)
    Approver(rack.site).look()
    found = rack.kube.requests[name]
    return "approved" if found.is_approved else found.refusal or "pending"


def test_a_host_that_is_a_node_renews_and_serves_as_itself(rack: JoiningRack) -> None:
    assert asks(rack, csr("m1", 3).encode()) == "approved"
    assert asks(rack, serving("m1", "m1", "10.77.0.11"), Signer.SERVING) == "approved"
    assert asks(rack, serving("m1", "10.77.0.11"), Signer.SERVING) == "approved"


@pytest.mark.parametrize(
    ("request_", "signer", "user"),
    [
        (serving("m1", "m1", "10.77.0.12"), Signer.SERVING, M1),
        (serving("m1", "m1", "10.77.0.10"), Signer.SERVING, M1),
        (serving("m1", "kubernetes"), Signer.SERVING, M1),
        (serving("m2", "m2", "10.77.0.12"), Signer.SERVING, M1),
        (csr("m2").encode(), Signer.CLIENT, M1),
        (csr("w1").encode(), Signer.CLIENT, M1),
        (csr("m1").encode(), Signer.CLIENT, "m1"),
        (csr("m1").encode(), Signer.CLIENT, "system:node:w1"),
        (csr("m2").encode(), Signer.CLIENT, M2),
        (serving("m2", "m2", "10.77.0.12"), Signer.SERVING, M2),
        (csr("m9").encode(), Signer.CLIENT, "system:node:m9"),
    ],
)
def test_for_another_name_or_address_or_a_host_that_is_no_node_nothing_is_approved(
    rack: JoiningRack, request_: bytes, signer: Signer, user: str
) -> None:
    assert asks(rack, request_, signer, user=user).startswith("denied: ")
    assert rack.kube.made == 0


def test_a_host_that_is_no_node_any_more_gets_nothing_more(rack: JoiningRack) -> None:
    assert asks(rack, csr("m1", 3).encode()) == "approved"
    rack.site.cluster = with_nodes()

    assert asks(rack, csr("m1", 4).encode()).startswith("denied: ")


def test_other_usages_are_denied(rack: JoiningRack) -> None:
    rack.kube.file("x", Signer.CLIENT, csr("m1").encode(), user=M1, usages=("any",))
    Approver(rack.site).look()

    assert rack.kube.requests["x"].refusal.startswith("denied: ")


def shown(rack: JoiningRack) -> list[tuple[str, str, str]]:
    Approver(rack.site).look()
    answer = rack.operator("GET", "/v1/machines").json
    assert answer is not None
    return [(one["name"], one["state"], one["message"]) for one in answer["hosts"]]


def test_hosts_that_are_nodes_are_shown_with_what_the_cluster_says_of_them(rack: JoiningRack) -> None:
    assert shown(rack) == [("m1", "absent", "the cluster has no such node; apply makes it one")]
    rack.kube.seen = [view("m1"), view("m2"), view("w1")]
    assert shown(rack) == [("m1", "ready", "Ready, kubelet v1.36.4")]
    rack.kube.seen = [view("m1", is_ready=False, message="no CNI")]
    assert shown(rack) == [("m1", "joined", "joined; not Ready: no CNI")]
