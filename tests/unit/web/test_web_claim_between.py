"""What happens between two steps of one claim: the cluster is asked to sign only what still holds at that moment."""

from dataclasses import replace
from typing import Any

import pytest

from bootstrap.kubernetes.access import Signer
from bootstrap.states import State
from tests.unit.certs import crafted
from tests.unit.web.joining import JoiningRack, csr
from web import claim as claiming
from web.credentials import USER


@pytest.fixture
def rack(monkeypatch: pytest.MonkeyPatch) -> JoiningRack:
    monkeypatch.setattr(claiming, "POLL_EVERY", 0.01)
    monkeypatch.setattr(claiming, "POLL_SECONDS", 0.02)
    made = JoiningRack()
    made.install()
    return made


def meanwhile(rack: JoiningRack, happens: Any) -> None:
    """Have something happen just after the request of the next claim was filed."""
    real = rack.kube.create_signing_request

    def filed(*given: Any) -> Any:
        found = real(*given)
        rack.kube.create_signing_request = real  # type: ignore[method-assign]  # once
        happens()
        return found

    rack.kube.create_signing_request = filed  # type: ignore[method-assign,assignment]  # somebody is quicker


def test_a_second_key_that_comes_before_the_approval_keeps_the_first_from_being_approved(
    rack: JoiningRack,
) -> None:
    second: list[int] = []
    meanwhile(rack, lambda: second.append(rack.claim(csr(number=1)).status_code))

    assert rack.claim().status_code == 409
    assert second == [409]
    assert [one.is_pending for one in rack.kube.requests.values()] == [True]
    assert rack.kube.made == 0
    assert rack.record().state is State.QUARANTINED


def test_a_machine_that_is_retired_before_the_approval_is_not_approved(rack: JoiningRack) -> None:
    meanwhile(rack, lambda: rack.operator("POST", "/v1/machines/w1/retire"))

    assert rack.claim().status_code == 409
    assert rack.kube.made == 0


def test_a_request_of_ours_for_another_key_is_not_approved(rack: JoiningRack) -> None:
    rack.kube.signs = False
    rack.claim()
    ((name, found),) = rack.kube.requests.items()
    other = crafted.right("w1", number=7).pem()
    rack.kube.requests[name] = replace(found, request=other, is_approved=False)
    rack.kube.signs = True

    assert rack.kube.requests[name].user == USER
    assert rack.kube.requests[name].signer == Signer.CLIENT
    assert rack.claim().status_code == 202
    assert rack.kube.requests[name].is_pending
    assert rack.claim().status_code == 200
