"""A disk with a system of this cluster is erased only after `machine arm`, whatever the state says (ADR 0023)."""

from typing import Any

import pytest

from bootstrap.records.model import MachineRecord
from bootstrap.states import State
from tests.unit.web.conftest import Rack
from tests.unit.web.fakes import W1, W3
from tests.unit.web.looking import LookingRack

EARLIER = "3b1f0c6e-8a51-4a0e-9f6e-0d3c1d2e4f50"
OURS = {"cluster": "lab", "machine": "w1", "arm": EARLIER, "state": "installed"}


def test_what_a_pool_arms_by_itself_erases_no_system_of_ours(rack: Rack) -> None:
    refused = rack.begin(system=OURS)

    assert refused.status_code == 409
    assert "the system that this cluster has installed on w1" in (refused.json or {})["reason"]
    record = rack.record()
    assert (record.state, record.attempts) == (State.FAILED, 0)
    assert "machine arm w1" in rack.machine()["reason"]


def test_it_starts_the_system_that_it_kept_until_an_operator_gives_that_up(rack: Rack) -> None:
    rack.begin(system=OURS)
    rack.tell("failed", message="the server does not grant this install")

    assert "w1 keeps its system - machine arm w1 erases it" in rack.boot()
    assert "sanboot" in rack.boot()
    rack.operator("POST", "/v1/machines/w1/arm")
    assert "installing w1" in rack.boot()
    assert rack.begin(system=OURS).status_code == 200


@pytest.mark.parametrize(
    "system",
    [
        {},
        OURS | {"state": "installing"},
        OURS | {"cluster": "other"},
        {"cluster": "", "machine": "", "arm": "", "state": ""},
    ],
)
def test_what_is_no_finished_system_of_ours_is_no_reason(rack: Rack, system: dict[str, Any]) -> None:
    assert rack.begin(system=system).status_code == 200


def test_the_system_of_this_very_arm_is_no_reason(rack: Rack) -> None:
    assert rack.begin(system=OURS | {"arm": rack.record().arm}).status_code == 200


def test_a_second_attempt_is_looked_at_too(rack: Rack) -> None:
    assert rack.begin(nonce="a").status_code == 200
    assert rack.begin(nonce="b", system=OURS).status_code == 409
    assert rack.record().state is State.FAILED


def test_accepting_is_no_word_that_erases() -> None:
    rack = LookingRack()
    rack.found()
    rack.accept(pool="workers", name="w7")

    assert rack.begin(W3, system=OURS).status_code == 409
    assert rack.next()["next"] == "restart"


def test_an_arm_of_an_earlier_version_may_erase_as_it_could_then() -> None:
    text = b'{"mac":"52:54:00:aa:00:01","name":"w1","state":"armed","since":"2026-01-01T00:00:00Z","arm":"a"}'

    assert MachineRecord.from_bytes(text).erases_system
    assert W1 in text.decode()
