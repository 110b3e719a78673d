"""Secure Boot, and a driver that nobody signs: such a machine is stopped at each of the three doors."""

from typing import Any

import pytest

from bootstrap.model import Cluster
from bootstrap.states import State
from bootstrap.status import stranger
from tests.unit.web.fakes import W1, W3, cluster
from tests.unit.web.looking import GPU, LookingRack

SECURE = {"kind": "uefi", "secureBoot": True}
SAYS = (
    "its firmware has Secure Boot on, and nobody signs the modules of driver 550 (closed) for debian; "
    "switch Secure Boot off in its firmware"
)


def rack(family: str = "debian", release: str = "13", **pool: Any) -> LookingRack:
    """Return a rack whose pool `workers` gets a driver on this system."""
    plain = cluster().model_dump(mode="json", by_alias=True, exclude_none=True)
    plain["pools"][0] |= {"os": {"family": family, "release": release}, "gpu": {}} | pool
    return LookingRack(cluster=Cluster.model_validate(plain))


def begin(there: LookingRack, **facts: Any) -> Any:
    return there.begin(W1, facts={"firmware": "uefi", "gpus": [GPU]} | facts)


def test_a_machine_with_secure_boot_is_not_accepted() -> None:
    there = rack(match={"gpus": ">=1"})
    there.found(firmware=SECURE)

    refused = there.accept(pool="workers", name="w7")

    assert refused.status_code == 409
    assert (refused.json or {})["reason"].startswith(f"{W3}: {SAYS}; if that has changed")
    assert SAYS in stranger(there.strangers()[0])["message"]
    there.found(firmware=SECURE | {"secureBoot": False})
    assert there.accept(pool="workers", name="w7").status_code == 200


def test_nothing_is_written_to_a_machine_with_secure_boot() -> None:
    there = rack()
    there.boot(W1)

    refused = begin(there, secureBoot=True)

    assert refused.status_code == 409
    assert there.record(W1).reason == f"{SAYS}; nothing was touched"
    assert there.record(W1).state is State.FAILED


@pytest.mark.parametrize("said", [{"secureBoot": False}, {}])
def test_one_without_it_or_of_which_nobody_knows_is_written(said: dict[str, Any]) -> None:
    there = rack()
    there.boot(W1)

    assert begin(there, **said).status_code == 200


def test_a_machine_with_secure_boot_is_armed_only_to_look_again() -> None:
    there = rack()
    there.boot(W1)
    begin(there, secureBoot=True)

    refused = there.operator("POST", "/v1/machines/w1/arm")

    assert refused.status_code == 409
    assert (refused.json or {})["reason"].startswith(f"w1: {SAYS}")
    assert there.operator("POST", "/v1/machines/w1/arm?recheck=true").status_code == 200
    assert SAYS in there.machine("w1")["gpuDecision"]


def test_what_it_told_before_it_was_accepted_counts_when_it_is_armed() -> None:
    there = rack()
    there.found(firmware=SECURE)
    assert there.accept(pool="workers", name="w7", recheck=True).status_code == 200

    refused = there.operator("POST", "/v1/machines/w7/arm")

    assert refused.status_code == 409
    assert SAYS in (refused.json or {})["reason"]


def test_flatcar_s_signed_drivers_are_for_machines_with_secure_boot() -> None:
    there = rack("flatcar", "4593.2.5")
    there.found(firmware=SECURE)

    assert there.accept(pool="workers", name="w7").status_code == 200
