"""GPUs that do not fit a pool stop its machines before a disk is written, and the operator is told which and why."""

from collections.abc import Sequence
from typing import Any

import pytest

from bootstrap.errors import Conflict
from bootstrap.model import Cluster
from bootstrap.state import Write
from bootstrap.states import State
from bootstrap.status import stranger
from tests.unit.web.fakes import W1, W3, cluster
from tests.unit.web.looking import BMC_SCREEN, LookingRack
from web.limits import MACHINE_BURST

MISSING = (
    "pool workers expects 8 GPUs, it shows 7: 7 x H100 80GB HBM3 (10de:2330); look for its seating, riser"
)


def gpus(*devices: str) -> list[dict[str, str]]:
    """Return GPUs as a machine tells of them, and the screen of its BMC."""
    found = [
        {"address": f"0000:{number:02x}:00.0", "vendor": "10de", "device": device}
        for number, device in enumerate(devices, start=0x10)
    ]
    return [*found, BMC_SCREEN]


def flatcar(gpu: dict[str, Any] | None, **pool: Any) -> LookingRack:
    """Return a rack whose pool `workers` runs Flatcar with this `gpu:` section."""
    plain = cluster().model_dump(mode="json", by_alias=True, exclude_none=True)
    os = {"family": "flatcar", "release": "4593.2.5"}
    plain["pools"][0] |= {"os": os} | ({"gpu": gpu} if gpu is not None else {}) | pool
    return LookingRack(cluster=Cluster.model_validate(plain))


def begin(rack: LookingRack, *devices: str, **facts: Any) -> Any:
    return rack.begin(W1, facts={"cpus": 8, "gpus": gpus(*devices)} | facts)


# --- accept ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "devices", "says"),
    [
        ({"expected": 8}, ["2330"] * 7, MISSING),
        ({"expected": 8}, [], "pool workers expects 8 GPUs, it shows none"),
        (
            {},
            ["2330", "102d"],
            "no driver drives all of it: Tesla K80 has none after 470, H100 80GB HBM3 none before 525",
        ),
        (
            {},
            ["20b2", "102d"],
            "Tesla K80 and A100-SXM4-80GB want a driver from 450 to 470; flatcar 4593.2.5 offers",
        ),
        ({}, ["2330", "ffff"], "10de:ffff is in no row of the table of GPUs, and nothing is guessed"),
        (
            {"products": ["h100-sxm"]},
            ["20b2"],
            "pool workers is for H100 80GB HBM3, it shows 1 x A100-SXM4-80GB",
        ),
    ],
)
def test_a_machine_whose_gpus_do_not_fit_is_not_accepted(
    gpu: dict[str, Any], devices: list[str], says: str
) -> None:
    rack = flatcar(gpu)
    rack.found(gpus=gpus(*devices))

    refused = rack.accept(pool="workers", name="w7")

    assert refused.status_code == 409
    reason = (refused.json or {})["reason"]
    assert reason.startswith(f"{W3}: {says}")
    assert reason.endswith(f"machine accept {W3} --pool workers --recheck")
    assert (rack.site.accepted(), rack.site.ledger.machine(W3)) == ([], None)
    assert rack.next()["next"] == "wait"


@pytest.mark.parametrize(
    ("gpu", "devices"),
    [
        ({"expected": 8}, ["2330"] * 8),
        ({"expected": 8, "products": ["b200"]}, ["2901"] * 8),
        ({"expected": 2, "installCuda": False}, ["ffff"] * 2),
        ({}, []),
        (None, ["ffff", "102d"]),
    ],
)
def test_one_whose_gpus_fit_is(gpu: dict[str, Any] | None, devices: list[str]) -> None:
    rack = flatcar(gpu)
    rack.found(gpus=gpus(*devices))

    assert rack.accept(pool="workers", name="w7").status_code == 200
    assert rack.next()["next"] == "install"


def test_a_repaired_machine_is_accepted_after_its_next_look_or_at_once_with_recheck() -> None:
    rack = flatcar({"expected": 8})
    rack.found(gpus=gpus(*["2330"] * 7))
    assert rack.accept(pool="workers").status_code == 409

    rack.found(gpus=gpus(*["2330"] * 8))
    assert rack.accept(pool="workers").status_code == 200

    stale = flatcar({"expected": 8})
    stale.found(gpus=gpus(*["2330"] * 7))
    assert stale.accept(pool="workers", recheck=True).status_code == 200


def test_a_pool_that_accepts_by_itself_does_not_accept_what_does_not_fit() -> None:
    rack = flatcar({"expected": 8}, match={"gpus": ">=6"}, autoAccept=True)

    told = rack.found(gpus=gpus(*["2330"] * 7)).json or {}
    assert (told["next"], told["reason"].partition("; ")[2].startswith(MISSING)) == ("wait", True)
    assert stranger(rack.strangers()[0])["message"].startswith(
        f"Maker, 64 cpus, 7 GPUs, no disk; not taken by pool workers: {MISSING}"
    )
    assert (rack.found(gpus=gpus(*["2330"] * 8)).json or {})["next"] == "install"


# --- install ---------------------------------------------------------------------------------------------------


def test_an_install_ends_before_the_disk_is_written_and_says_why() -> None:
    rack = flatcar({"expected": 8})
    rack.boot(W1)

    refused = begin(rack, *["2330"] * 7)

    record = rack.record(W1)
    assert refused.status_code == 409
    assert (refused.json or {})["reason"] == record.reason
    assert record.reason.startswith(MISSING)
    assert record.reason.endswith("; nothing was touched")
    assert (record.state, record.attempts) == (State.FAILED, 0)
    assert begin(rack, *["2330"] * 8).status_code == 409, "the arm is over"
    diagnosis = (rack.operator("GET", "/v1/machines/w1/story").json or {})["diagnosis"]
    assert (diagnosis["name"], diagnosis["isWell"]) == ("install-failed", False)
    assert MISSING in diagnosis["cause"]
    assert "pool workers expects 8 GPUs" in rack.boot(W1)


def test_an_install_whose_gpus_fit_begins() -> None:
    rack = flatcar({"expected": 8})
    rack.boot(W1)

    assert begin(rack, *["2330"] * 8).status_code == 200
    assert rack.record(W1).state is State.INSTALLING


def test_an_install_that_loses_races_to_other_appliances_is_not_told_that_it_reports_too_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rack = flatcar({"expected": 8})
    for _ in range(int(MACHINE_BURST) - 1):
        assert rack.site.machine_buckets.take(W1)
    real, lost = rack.store.commit, list[int]()

    def raced(writes: Sequence[Write]) -> int:
        if len(lost) < 5:
            lost.append(1)
            raise Conflict("another appliance was first")
        return real(writes)

    monkeypatch.setattr(rack.store, "commit", raced)

    assert begin(rack, *["2330"] * 8).status_code == 200
    assert len(lost) == 5
    assert begin(rack, *["2330"] * 8).status_code == 429


def test_an_installer_that_did_not_look_is_not_refused() -> None:
    rack = flatcar({"expected": 8})
    rack.boot(W1)

    assert rack.begin(W1, facts={"cpus": 8}).status_code == 200


def test_a_disk_with_a_system_of_ours_starts_it_whatever_its_gpus_are() -> None:
    rack = flatcar({"expected": 8})
    rack.boot(W1)
    system = {"cluster": "lab", "machine": "w1", "arm": "x", "state": "installed"}

    rack.begin(W1, facts={"gpus": gpus("2330")}, system=system)

    assert rack.record(W1).keeps_system


# --- arm -------------------------------------------------------------------------------------------------------


def test_a_machine_whose_gpus_did_not_fit_is_armed_only_to_look_again() -> None:
    rack = flatcar({"expected": 8})
    rack.boot(W1)
    begin(rack, *["2330"] * 7)

    refused = rack.operator("POST", "/v1/machines/w1/arm")

    assert refused.status_code == 409
    reason = (refused.json or {})["reason"]
    assert reason.startswith(f"w1: {MISSING}")
    assert reason.endswith("machine arm w1 --recheck")
    assert rack.record(W1).state is State.FAILED
    assert rack.operator("POST", "/v1/machines/w1/arm?recheck=true").status_code == 200
    assert begin(rack, *["2330"] * 7).status_code == 409, "the same machine is refused again"
    rack.operator("POST", "/v1/machines/w1/arm?recheck=true")
    assert begin(rack, *["2330"] * 8).status_code == 200
    assert rack.operator("POST", "/v1/machines/w1/arm").status_code == 200, "and then fits"


def test_a_machine_of_which_nothing_is_known_is_armed() -> None:
    rack = flatcar({"expected": 8})

    assert rack.operator("POST", "/v1/machines/w1/arm").status_code == 200


# --- show ------------------------------------------------------------------------------------------------------


def test_an_unknown_machine_shows_its_gpus_and_what_each_pool_would_make_of_them() -> None:
    rack = flatcar({"expected": 8})
    rack.found(gpus=gpus(*["2330"] * 8))

    shown = rack.machine(W3)

    assert shown["gpus"] == "8 x H100 80GB HBM3 (10de:2330, Hopper, MIG-capable)"
    assert shown["gpuDecision"].startswith("pool workers: driver 570 (open), sysext nvidia-drivers-570-open")
    assert "pool spare" not in shown["gpuDecision"]


def test_of_pools_that_describe_a_machine_only_those_decide() -> None:
    rack = flatcar({"expected": 8}, match={"gpus": ">=8"})
    rack.found(gpus=gpus(*["2330"] * 7))
    assert rack.machine(W3)["gpuDecision"].startswith("pool workers: pool workers expects 8 GPUs, it shows 7")

    rack.found(gpus=gpus(*["2901"] * 8))
    assert rack.machine(W3)["gpuDecision"].startswith("pool workers: driver 570 (open)")


def test_a_machine_of_the_cluster_shows_them_as_its_installer_or_its_inventory_told() -> None:
    rack = flatcar({"expected": 8})
    assert "gpus" not in rack.machine("w1")
    rack.boot(W1)
    begin(rack, *["2330"] * 7)
    assert rack.machine("w1")["gpus"] == "7 x H100 80GB HBM3 (10de:2330, Hopper, MIG-capable)"
    assert rack.machine("w1")["gpuDecision"].startswith(f"pool workers: {MISSING}")

    rack.found(gpus=gpus(*["2330"] * 8))
    rack.accept(pool="workers", name="w7")
    assert rack.machine("w7")["gpus"].startswith("8 x H100")


def test_a_machine_without_gpus_in_a_pool_without_a_section_shows_none_and_no_decision() -> None:
    rack = flatcar(None)
    rack.found(gpus=[BMC_SCREEN])

    shown = rack.machine(W3)
    assert (shown["gpus"], shown["gpuDecision"]) == ("none", None)
    rack.boot(W3)
    assert rack.machine(W3)["gpus"] == "none"


def test_a_machine_that_only_asked_for_a_boot_has_told_nothing_of_gpus() -> None:
    rack = flatcar({"expected": 8})
    rack.boot(W3)

    assert "gpus" not in rack.machine(W3)


@pytest.mark.parametrize(
    "gpu", [{"vendor": "10DE", "device": "2330"}, {"vendor": "10de"}, {"vendor": 1, "device": 2}, 7]
)
def test_gpus_that_make_no_sense_are_refused_as_such(gpu: Any) -> None:
    rack = flatcar({"expected": 8})
    rack.boot(W1)

    assert rack.begin(W1, facts={"gpus": [gpu]}).status_code == 400
    assert rack.record(W1).attempts == 0
