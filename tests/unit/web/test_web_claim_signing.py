"""POST /v1/claim and the cluster that signs: away, late, refusing, wrong or overtaken, it makes one certificate."""

from dataclasses import replace
from typing import Any

import pytest

from bootstrap.kubernetes.access import Signer
from bootstrap.states import State
from tests.unit.certs import crafted
from tests.unit.web.fakes import W1
from tests.unit.web.joining import DOWN, REFUSES, FakeCluster, JoiningRack, csr
from web import claim as claiming
from web.credentials import nowhere


@pytest.fixture
def rack(monkeypatch: pytest.MonkeyPatch) -> JoiningRack:
    monkeypatch.setattr(claiming, "POLL_EVERY", 0.01)
    monkeypatch.setattr(claiming, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(claiming, "DOWN_SECONDS", 0.0)
    return JoiningRack()


@pytest.mark.parametrize("trouble", [DOWN, REFUSES])
def test_while_the_cluster_does_not_answer_the_machine_is_bound_and_waits_visibly(
    rack: JoiningRack, trouble: Exception
) -> None:
    rack.install()
    rack.kube.trouble = trouble
    before = rack.site.ledger.last_event()

    answers = [rack.claim() for _ in range(5)]

    assert {answer.status_code for answer in answers} == {202}
    assert all(4 <= int(answer.headers["Retry-After"]) <= 10 for answer in answers)
    assert rack.record().state is State.INSTALLED
    assert rack.machine()["message"].startswith("claimed; ")
    assert "API server" in rack.machine()["message"]
    assert rack.site.ledger.last_event() == before + 1
    assert rack.claim(csr(number=1)).status_code == 409  # bound all the same
    rack.kube.trouble = None
    assert rack.record().state is State.QUARANTINED


def test_without_credentials_the_machine_waits(rack: JoiningRack) -> None:
    rack.install()
    rack.connect = nowhere

    assert rack.claim().status_code == 202
    rack.connect = rack.kube
    assert rack.claim().status_code == 200


def test_a_cluster_that_signs_late_makes_one_certificate(rack: JoiningRack) -> None:
    rack.install()
    rack.kube.signs = False
    claiming_seconds = [rack.claim().status_code for _ in range(2)]
    assert claiming_seconds == [202, 202]
    (name,) = rack.kube.requests
    found = rack.kube.requests[name]
    rack.kube.signs = True
    rack.kube.requests[name] = claiming_replace(found, rack.kube)

    assert rack.claim().status_code == 200
    assert (rack.kube.made, rack.kube.created) == (1, 1)


def claiming_replace(found: Any, kube: FakeCluster) -> Any:
    return replace(found, certificate=kube._certificate(found))


def test_a_denied_request_has_a_successor(rack: JoiningRack) -> None:
    rack.install()
    rack.kube.signs = False
    rack.claim()
    (name,) = rack.kube.requests
    rack.kube.requests[name] = claiming_refused(rack.kube.requests[name])
    rack.kube.signs = True

    assert rack.claim().status_code == 202
    assert rack.claim().status_code == 200
    assert sorted(one.rpartition("-")[2] for one in rack.kube.requests) == ["1", "2"]


def claiming_refused(found: Any) -> Any:
    return replace(found, is_approved=False, refusal="denied: by hand")


def test_a_request_that_somebody_else_put_under_our_name_is_left_alone(rack: JoiningRack) -> None:
    rack.install()
    rack.kube.signs = False
    rack.claim()
    (name,) = rack.kube.requests
    rack.kube.signs = True
    rack.kube.requests.clear()
    other = crafted.right("w1", number=7).pem()
    rack.kube.file(name, Signer.CLIENT, other, user="mallory")

    assert rack.claim().status_code == 202
    assert rack.kube.requests[name].is_pending
    assert rack.claim().status_code == 200


def test_what_the_cluster_signs_wrongly_is_not_handed_out(rack: JoiningRack) -> None:
    rack.install()
    masters = crafted.right("w1", rdns=(((crafted.O, crafted.UTF8, b"system:masters"),),)).pem()
    real = rack.kube._certificate

    def wrong(found: Any) -> bytes:
        return real(replace(found, request=masters))

    rack.kube._certificate = wrong  # type: ignore[method-assign]  # a broken signer
    assert rack.claim().status_code == 202
    assert rack.record().state is State.INSTALLED
    rack.kube._certificate = real  # type: ignore[method-assign]
    assert rack.claim().status_code == 200


def test_a_machine_that_is_retired_while_the_cluster_signs_gets_nothing(rack: JoiningRack) -> None:
    rack.install()
    real = rack.kube._certificate

    def slow(found: Any) -> bytes:
        rack.operator("POST", "/v1/machines/w1/retire")
        return real(found)

    rack.kube._certificate = slow  # type: ignore[method-assign]  # an operator is quicker

    answer = rack.claim()

    assert answer.status_code == 409
    assert "BEGIN" not in answer.text
    assert rack.record().state is State.RETIRED


def test_a_store_that_fails_binds_nothing_and_nothing_is_filed(rack: JoiningRack) -> None:
    rack.install()
    rack.store.writes_fail = True

    assert rack.claim().status_code == 503
    assert rack.kube.requests == {}
    rack.store.writes_fail = False
    assert rack.claim().status_code == 200


def test_few_claims_at_once_wait_for_the_cluster_and_the_rest_come_again(rack: JoiningRack) -> None:
    """A cluster that is slow must not take the threads from machines that boot."""
    rack.install()
    desk = claiming.Desk(rack.site)
    for _ in range(claiming.MOST_AT_ONCE):
        assert desk._seats.acquire(blocking=False)
    asked = claiming.Claiming(mac=W1, arm=rack.record().arm or "", csr=csr())

    full = desk.answer(asked)
    desk._seats.release()

    assert (full.status, rack.kube.requests) == (202, {})
    assert desk.answer(asked).status == 200


def test_after_an_unanswered_request_the_cluster_is_left_alone_for_a_while(
    rack: JoiningRack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "DOWN_SECONDS", 60.0)
    rack.install()
    rack.kube.trouble = DOWN
    rack.claim()
    rack.kube.trouble = None

    assert rack.claim().status_code == 202
    assert rack.kube.requests == {}
