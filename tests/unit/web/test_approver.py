"""What kubelets ask of the cluster's signers, and what follows from how their nodes are."""

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bootstrap.kubernetes.access import Signer
from bootstrap.records.ledger import Change
from bootstrap.states import State
from certs.requests import client_request
from tests.unit.certs import crafted
from tests.unit.web.fakes import W1, W2, behind_relay, cluster
from tests.unit.web.joining import DOWN, JoiningRack, csr, serving, view
from web import approver as rounds
from web.approver import Approver, message_of, own_addresses
from web.credentials import nowhere

NODE = "system:node:w1"


class Rounds(JoiningRack):
    """A rack with one machine in the cluster, and the approver's rounds by hand."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.install()
        assert self.claim().status_code == 200
        self.approver = Approver(self.site)

    def asks(self, request: bytes, signer: Signer = Signer.CLIENT, *, user: str = NODE, **more: Any) -> str:
        """File a request, go round, and say what came of it."""
        name = f"csr-{len(self.kube.requests)}"
        self.kube.file(name, signer, request, user=user, **more)
        self.approver.look()
        found = self.kube.requests[name]
        return "approved" if found.is_approved else found.refusal or "pending"


@pytest.fixture
def rack() -> Rounds:
    return Rounds()


def test_a_node_renews_with_a_new_key_of_its_own(rack: Rounds) -> None:
    assert rack.asks(csr(number=3).encode()) == "approved"

    claim = rack.record().claim
    assert claim is not None
    assert claim.renewed == crafted_fingerprint(3)
    assert claim.key == crafted_fingerprint(0)
    assert rack.site.ledger.events_of(W1)[-1].what == "renewed"
    assert rack.claim().status_code == 200  # the key that it claimed with stays its own


def crafted_fingerprint(number: int) -> str:
    return client_request(csr(number=number).encode(), "w1").fingerprint


@pytest.mark.parametrize("state", ["quarantined", "retired", "armed"])
@pytest.mark.parametrize("signer", list(Signer))
def test_a_machine_that_lost_its_standing_gets_nothing_more(rack: Rounds, state: str, signer: Signer) -> None:
    if state == "quarantined":
        rack.claim(csr(number=1))
    else:
        rack.operator("POST", f"/v1/machines/w1/{'retire' if state == 'retired' else 'arm'}")
    request = csr(number=3).encode() if signer is Signer.CLIENT else serving()

    assert rack.asks(request, signer).startswith("denied: ")
    assert rack.kube.made == 1


@pytest.mark.parametrize(
    ("user", "request_"),
    [
        ("system:node:w2", csr("w2").encode()),
        ("system:node:w2", csr("w1").encode()),
        (NODE, csr("w2").encode()),
        (NODE, crafted.right("w1", rdns=(((crafted.O, crafted.UTF8, b"system:masters"),),)).pem()),
        (NODE, b"nonsense"),
        (NODE, b""),
        ("w1", csr().encode()),
        ("kubernetes-admin", csr().encode()),
        ("system:bootstrap:abcdef", csr().encode()),
        ("", csr().encode()),
        ("system:node:", csr().encode()),
    ],
)
def test_all_other_requests_are_denied_with_a_reason_and_an_event(
    rack: Rounds, user: str, request_: bytes
) -> None:
    before = rack.site.ledger.last_event()

    answer = rack.asks(request_, user=user)

    assert answer.startswith("denied: ")
    newest = rack.site.ledger.events_after(before, 10)
    assert [event.what for event in newest] == ["request-denied"]
    assert newest[0].reason


@pytest.mark.parametrize(
    "usages",
    [
        ("digital signature", "client auth", "server auth"),
        ("client auth",),
        ("digital signature", "cert sign"),
        ("any",),
        (),
    ],
)
def test_other_usages_are_denied(rack: Rounds, usages: tuple[str, ...]) -> None:
    rack.kube.file("csr-x", Signer.CLIENT, csr(number=3).encode(), user=NODE)
    rack.kube.requests["csr-x"] = replace(rack.kube.requests["csr-x"], usages=usages)

    rack.approver.look()

    assert rack.kube.requests["csr-x"].refusal


@pytest.mark.parametrize("signer", list(Signer))
def test_the_usages_of_older_kubelets_are_right_too(rack: Rounds, signer: Signer) -> None:
    last = "client auth" if signer is Signer.CLIENT else "server auth"
    request = csr(number=3).encode() if signer is Signer.CLIENT else serving()

    usages = ("digital signature", "key encipherment", last)
    assert rack.asks(request, signer, usages=usages) == "approved"


def test_a_node_serves_on_its_own_name_and_addresses(rack: Rounds) -> None:
    rack.kube.signs = False

    assert rack.asks(serving(), Signer.SERVING) == "approved"
    for names in (("w2",), ("w1", "10.77.0.102"), ("kubernetes",), ("w1", "10.77.0.10"), ("w1", "10.3.0.1")):
        assert rack.asks(serving("w1", *names), Signer.SERVING).startswith("denied: ")
    assert rack.asks(csr().encode(), Signer.SERVING).startswith("denied: ")


def test_a_machine_that_has_not_told_its_address_is_decided_later(rack: Rounds) -> None:
    rack.site.ledger.change(W1, lambda record, _: changed(record, address=None))

    assert rack.asks(serving(), Signer.SERVING) == "pending"
    assert "request-denied" not in [event.what for event in rack.site.ledger.events_of(W1)]


def changed(record: Any, **changes: Any) -> Any:
    return Change(record=record.but(**changes))


@pytest.mark.parametrize("told", ["10.77.0.1", "10.77.0.11", "10.77.0.10", "10.77.0.102", "10.78.0.5"])
def test_an_address_of_somebody_else_is_not_its_own(told: str) -> None:
    """A machine tells its address itself: it may not come to serve on the API server's."""
    machines = ({"name": "w1", "mac": W1}, {"name": "w2", "mac": W2, "address": "10.77.0.102"})
    rack = JoiningRack(cluster=cluster(*machines, hosts=1))
    record = rack.record().but(address=told)

    assert own_addresses(rack.cluster, record, [record]) == frozenset()
    honest = record.but(address="10.77.0.150")
    other = rack.record(W2).but(address="10.77.0.150")
    assert [str(one) for one in own_addresses(rack.cluster, honest, [honest])] == ["10.77.0.150"]
    assert own_addresses(rack.cluster, honest, [honest, other]) == frozenset()


def test_an_address_behind_a_relay_is_its_own_where_there_is_one() -> None:
    rack = JoiningRack(cluster=cluster({"name": "w1", "mac": W1}, hosts=1))
    record = rack.record().but(address="10.78.0.150")

    assert own_addresses(rack.cluster, record, [record]) == frozenset()
    relayed = behind_relay(rack.cluster)
    assert [str(one) for one in own_addresses(relayed, record, [record])] == ["10.78.0.150"]


def test_a_reserved_address_is_the_only_one() -> None:
    rack = JoiningRack(cluster=cluster({"name": "w1", "mac": W1, "address": "10.77.0.105"}, hosts=1))
    record = rack.record().but(address="10.77.0.150")

    assert [str(one) for one in own_addresses(rack.cluster, record, [record])] == ["10.77.0.105"]


def test_our_own_requests_are_left_to_the_claim(rack: Rounds) -> None:
    assert rack.asks(csr(number=5).encode(), user="firstlight:claims") == "pending"


def test_a_flood_of_wrong_requests_does_not_fill_the_log(rack: Rounds) -> None:
    for number in range(rounds.MOST_DENIALS + 30):
        rack.kube.file(f"x-{number}", Signer.CLIENT, b"x", user="mallory")
    before = rack.site.ledger.last_event()

    rack.approver.look()

    assert all(not one.is_pending for one in rack.kube.requests.values())
    assert rack.site.ledger.last_event() - before == rounds.MOST_DENIALS


def test_a_node_goes_ready_and_back_as_the_cluster_says(rack: Rounds) -> None:
    rack.kube.seen = [view(), view("m1")]
    rack.approver.look()
    assert rack.record().state is State.READY
    assert rack.machine()["message"] == "Ready, kubelet v1.36.4"

    events = rack.site.ledger.last_event()
    rack.approver.look()
    assert rack.site.ledger.last_event() == events

    rack.kube.seen = [view(is_ready=False, message="Kubelet stopped\x1b[31m posting node status.")]
    rack.approver.look()
    assert rack.record().state is State.JOINED
    assert rack.machine()["message"] == "joined; not Ready: Kubelet stopped [31m posting node status."

    rack.kube.seen = []
    rack.approver.look()
    assert rack.machine()["message"] == message_of(None)


def test_the_end_of_a_renewed_certificate_is_what_retire_tells(rack: Rounds) -> None:
    rack.clock.forward(3 * 24 * 3600)
    rack.asks(csr(number=3).encode())
    rack.approver.look()

    claim = rack.record().claim
    assert claim is not None
    assert claim.expires_at == rack.clock.now + timedelta(days=7)
    told = rack.operator("POST", "/v1/machines/w1/retire").json
    assert told is not None
    assert told["reason"].endswith("its certificate ends at 2026-01-11 00:00 UTC at the latest")


def test_without_a_cluster_it_does_not_run(rack: Rounds) -> None:
    rack.connect = nowhere

    assert rack.approver.look() is False


def test_a_request_that_was_written_down_and_not_approved_is_approved_in_the_next_round(rack: Rounds) -> None:
    """The appliance died between the two."""
    real = rack.kube.decide

    def fails(*given: Any, **more: Any) -> None:
        del given, more
        raise DOWN

    rack.kube.decide = fails  # type: ignore[method-assign]  # the API server goes away
    with pytest.raises(type(DOWN)):
        rack.asks(csr(number=3).encode())
    rack.kube.decide = real  # type: ignore[method-assign]
    rack.approver.look()

    assert rack.kube.requests["csr-1"].is_approved


def test_it_goes_round_by_itself_through_every_trouble(rack: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "ROUND_SECONDS", 0.01)
    monkeypatch.setattr(rounds, "LONGEST_PAUSE_SECONDS", 0.05)
    rack.kube.trouble = DOWN
    rack.kube.seen = [view()]
    approver = Approver(rack.site)
    approver.start()
    try:
        rack.kube.trouble = ValueError("our bug")
        rack.kube.trouble = None
        assert eventually(lambda: rack.record().state is State.READY)
    finally:
        approver.stop()


def eventually(is_so: Any) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.01)
    return False
