"""A machine that was accepted claims and is looked after as one of the configuration is, from either network."""

import pytest

from bootstrap.kubernetes.access import Signer
from bootstrap.model import Cluster
from bootstrap.states import State
from tests.unit.web.fakes import W3, cluster
from tests.unit.web.joining import JoiningRack, csr, serving, view
from tests.unit.web.looking import LookingRack
from web.approver import Approver

NEAR, FAR = "10.77.0.150", "10.78.0.150"


class FoundRack(LookingRack, JoiningRack):
    """A rack whose machines join, those too that nobody listed."""


def relayed(plugin: str) -> Cluster:
    """Return a cluster with a network behind a router."""
    plain = cluster(hosts=1).model_dump(mode="json", by_alias=True, exclude_none=True)
    plain["kubernetes"]["cni"]["plugin"] = plugin
    network = {"subnet": "10.78.0.0/24", "gateway": "10.78.0.1", "range": ["10.78.0.100", "10.78.0.199"]}
    plain["appliance"]["dhcp"]["subnets"] = [network]
    return Cluster.model_validate(plain)


@pytest.fixture(params=[("bridge", NEAR), ("none", NEAR), ("none", FAR)], ids=" ".join, name="where")
def fixture_where(request: pytest.FixtureRequest) -> tuple[FoundRack, str]:
    plugin, address = request.param
    rack = FoundRack(cluster=relayed(plugin))
    rack.found(address=address)
    accepted = rack.accept(pool="workers", name="w7")
    assert accepted.status_code == 200, accepted.text
    rack.tell("booted", W3, address=address)
    return rack, address


def test_it_claims_under_the_name_that_it_got(where: tuple[FoundRack, str]) -> None:
    rack, address = where
    assert rack.claim(csr("w3"), W3).status_code == 400

    assert rack.claim(csr("w7"), W3).status_code == 200

    shown = rack.machine("w7")
    assert (shown["claim"]["node"], shown["address"]) == ("w7", address)
    assert rack.record(W3).state is State.JOINED


def test_it_is_followed_and_certified_for_its_own_address_alone(where: tuple[FoundRack, str]) -> None:
    rack, address = where
    rack.claim(csr("w7"), W3)
    user = "system:node:w7"
    rack.kube.file("own", Signer.SERVING, serving("w7", "w7", address), user=user)
    rack.kube.file("other", Signer.SERVING, serving("w7", "w7", "10.77.0.101"), user=user)
    rack.kube.seen = [view("w7")]

    Approver(rack.site).look()

    assert rack.kube.requests["own"].is_approved
    assert rack.kube.requests["other"].refusal.startswith("denied: ")
    assert rack.record(W3).state is State.READY


def test_behind_a_router_it_is_refused_where_pods_are_bridged() -> None:
    rack = FoundRack(cluster=relayed("bridge"))
    rack.found(address=FAR)

    answer = rack.accept(pool="workers", name="w7")

    assert answer.status_code == 409
    assert "is behind a router, where cni bridge reaches no pods" in (answer.json or {})["reason"]
    assert rack.site.accepted() == []
