"""The gate: what lets a node through, and for each thing that holds it back, which it is and what to do."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootstrap.gpu import gate, images
from bootstrap.gpu.gate import Part, Verdict
from bootstrap.gpu.reported import Report
from bootstrap.gpu.smi import FIELDS, QUERY, card_from
from bootstrap.gpu.table import SOURCES
from bootstrap.gpu.taint import RESOURCE, TAINT, patch_of
from bootstrap.model import Pool
from tests.unit.gpu.machines import A100, B200, H100, K80, L40S, UNKNOWN, V100, pool
from tests.unit.gpu.reports import line, report


def verdict(pool: Pool, said: Report, gpus: int, kept: Collection[str] = ()) -> Verdict:
    """Return what the gate says where whole GPUs are given out."""
    return gate.verdict(pool, said, {RESOURCE: gpus}, kept)


GOLDEN = Path(__file__).parents[2] / "golden/gpu/verdicts.txt"
OLD = {"driver": "470.256.02", "flavour": "closed"}
POOL = pool(expected=8, products=("h100-sxm",))
MIXED = pool("debian", "13", products=("k80", "a100-sxm4-80gb"))
NUMBERS = ("temperature", "errors", "width", "use", "power")
CASES: dict[str, tuple[Pool, Report, int]] = {
    "eight H100, all well": (POOL, report(), 8),
    "eight B200, all well": (pool(products=("b200",)), report(*[B200] * 8), 8),
    "A100 and K80 with a driver that nobody offers any more": (MIXED, report(A100, K80, **OLD), 2),
    "none on PCI": (POOL, report().model_copy(update={"devices": ()}), 0),
    "none, and none is asked for": (
        pool(install_cuda=False),
        report(state="none").model_copy(update={"devices": ()}),
        0,
    ),
    "none, and the node has not heard that eight are expected": (
        POOL,
        report(state="none").model_copy(update={"devices": ()}),
        0,
    ),
    "none, and the node has not heard that none is asked for": (
        pool(install_cuda=False),
        report(state="no-device").model_copy(update={"devices": ()}),
        0,
    ),
    "counted only": (pool(install_cuda=False, expected=8), report(driver="", lines=()), 0),
    "one missing": (POOL, report(*[H100] * 7), 7),
    "one too many": (POOL, report(*[H100] * 9), 9),
    "one of another kind": (POOL, report(*[H100] * 7, A100), 8),
    "A100 and K80 on Flatcar": (pool(), report(A100, K80), 2),
    "one that no row knows": (pool(), report(UNKNOWN), 1),
    "no driver, and the node says why": (
        POOL,
        report(driver="", flavour="", lines=(), state="driver-missing", reason="it starts anew for it"),
        0,
    ),
    "no driver, and the node says nothing": (POOL, report(driver="", flavour="", lines=()), 0),
    "no driver on Debian": (pool("debian", "13"), report(H100, driver="", flavour=""), 0),
    "no driver on Flatcar of old": (pool("flatcar", "3760.2.0"), report(A100, driver="", flavour=""), 0),
    "another branch that drives them": (POOL, report(driver="550.163.01"), 8),
    "another branch, and its pool names one": (
        pool(expected=8, products=("h100-sxm",), driver=570),
        report(driver="550.163.01"),
        8,
    ),
    "another branch, and the plan would drive none of it": (
        pool(), report(*[V100] * 2, driver="535.274.02", flavour="closed"), 2,
    ),
    "another branch, and one missing": (POOL, report(*[H100] * 7, driver="550.163.01"), 7),
    "another branch, and no plugin": (POOL, report(driver="550.163.01", plugin=0), 0),
    "a branch too old for them": (POOL, report(driver="515.43.04"), 8),
    "a branch too old for the pool's CUDA": (
        pool(expected=8, products=("h100-sxm",), cuda_version="12.8"),
        report(driver="550.163.01"),
        8,
    ),
    "no version at all": (POOL, report(driver="unknown"), 8),
    "another kind of modules that drives them": (POOL, report(flavour="closed"), 8),
    "another kind of modules that does not": (pool(products=("b200",)), report(B200, flavour="closed"), 1),
    "nobody knows of which kind": (POOL, report(driver="550.163.01", flavour=""), 8),
    "nouveau has them": (POOL, report(taken="nouveau"), 8),
    "nvidia-smi fails": (POOL, report(lines=(), failure="Unable to determine the device handle"), 8),
    "nvidia-smi shows seven": (POOL, report(lines=[line(number) for number in range(7)]), 8),
    "eight H100 without a fabric manager": (POOL, report(fabric=[f"{n}, In Progress, N/A" for n in range(8)]), 8),
    "one of eight is not linked": (
        POOL,
        report(fabric=[f"{n}, Completed, {'Insufficient Resources' if n == 3 else 'Success'}" for n in range(8)]),
        8,
    ),
    "eight H100 and a driver that does not know of the fabric": (POOL, report(fabric=()), 8),
    "eight A100, of which no driver tells": (
        pool(products=("a100-sxm4-80gb",)),
        report(*[A100] * 8, fabric=[f"{n}, [N/A], [N/A]" for n in range(8)]),
        8,
    ),
    "one H100 of a board": (pool(), report(H100, fabric=["0, In Progress, N/A"]), 1),
    "eight L40S have no NVSwitch": (pool(), report(*[L40S] * 8, fabric=["0, Not Started, N/A"]), 8),
    "ECC errors": (POOL, report(lines=[line(number, errors=number // 3) for number in range(8)]), 8),
    "narrow link": (POOL, report(lines=[line(number, width=8 if number == 2 else 16) for number in range(8)]), 8),
    "slow slot": (POOL, report(lines=[line(number, generation=4 if number == 5 else 5) for number in range(8)]), 8),
    "a server of an earlier PCIe generation": (POOL, report(lines=[line(n, generation=4) for n in range(8)]), 8),
    "hot": (POOL, report(lines=[line(number, temperature=85 if number == 7 else 84) for number in range(8)]), 8),
    "hot at work": (POOL, report(lines=[line(number, temperature=88, use=97) for number in range(8)]), 8),
    "hot, and MIG hides its use": (POOL, report(lines=[line(n, temperature=88, use="[N/A]") for n in range(8)]), 8),
    "hot between two steps of a program": (
        POOL,
        report(lines=[line(number, temperature=88, memory_used=40960) for number in range(8)]),
        8,
    ),
    "no word on health": (
        POOL,
        report(
            lines=[line(number, errors="[N/A]", width="[Not Supported]", temperature="[N/A]") for number in range(8)]
        ),
        8,
    ),
    "one is lost": (
        POOL,
        report(lines=[line(number, use="[GPU is lost]" if number == 4 else 0) for number in range(8)]),
        8,
    ),
    "one requires reset": (
        POOL,
        report(lines=[*map(line, range(7)), line(7, **dict.fromkeys(NUMBERS, "[GPU requires reset]"))]),
        8,
    ),
    "no runtime": (POOL, report(runtime="", handler=""), 0),
    "a handler whose program nobody brought": (POOL, report(runtime=""), 0),
    "the same on Debian": (
        pool("debian", "13"),
        report(H100, driver="550.163.01", flavour="closed", runtime=""),
        0,
    ),
    "no plugin": (POOL, report(plugin=0), 0),
    "the plugin gives out seven": (POOL, report(), 7),
    "the plugin gives out each four times": (POOL, report(plugin=32), 32),
}  # fmt: skip


def test_the_table_of_verdicts_is_the_committed_one(*, update_golden: bool) -> None:
    text = "".join(f"{name}\n    {verdict(*case)}\n" for name, case in CASES.items())
    if update_golden:
        GOLDEN.write_text(text)

    assert text.splitlines() == GOLDEN.read_text().splitlines()


PARTS = {
    "eight H100, all well": None,
    "eight B200, all well": None,
    "A100 and K80 with a driver that nobody offers any more": None,
    "none, and none is asked for": None,
    "counted only": None,
    "none, and the node has not heard that none is asked for": None,
    "none, and the node has not heard that eight are expected": Part.DEVICE,
    "another branch that drives them": None,
    "another branch, and its pool names one": None,
    "another branch, and the plan would drive none of it": None,
    "another branch, and one missing": Part.COUNT,
    "another branch, and no plugin": Part.PLUGIN,
    "another kind of modules that drives them": None,
    "hot at work": None,
    "eight H100 and a driver that does not know of the fabric": None,
    "eight A100, of which no driver tells": None,
    "one H100 of a board": None,
    "eight L40S have no NVSwitch": None,
    "slow slot": None,
    "a server of an earlier PCIe generation": None,
    "the plugin gives out each four times": None,
    "hot, and MIG hides its use": None,
    "hot between two steps of a program": None,
    "no word on health": None,
    "none on PCI": Part.DEVICE,
    "one of another kind": Part.DEVICE,
    "one that no row knows": Part.DEVICE,
    "A100 and K80 on Flatcar": Part.DEVICE,
    "one missing": Part.COUNT,
    "one too many": Part.COUNT,
    "ECC errors": Part.HEALTH,
    "narrow link": Part.HEALTH,
    "hot": Part.HEALTH,
    "one is lost": Part.HEALTH,
    "one requires reset": Part.HEALTH,
    "no runtime": Part.RUNTIME,
    "a handler whose program nobody brought": Part.RUNTIME,
    "the same on Debian": Part.RUNTIME,
    "no plugin": Part.PLUGIN,
    "the plugin gives out seven": Part.PLUGIN,
}


@pytest.mark.parametrize("name", CASES)
def test_each_case_names_the_right_part_and_what_to_do(name: str) -> None:
    found = verdict(*CASES[name])

    assert found.part == PARTS.get(name, Part.DRIVER)
    assert found.is_passed is (found.part is None)
    assert bool(found.remedy) is not found.is_passed
    assert "\n" not in str(found)


def test_a_machine_without_a_gpu_is_told_where_to_look() -> None:
    found = verdict(*CASES["none on PCI"])

    assert found.reason == "no NVIDIA device on PCI"
    for word in ("Above 4G decoding", "riser", "power"):
        assert word in found.remedy


@pytest.mark.parametrize("name", ["no driver on Debian", "a branch too old for them"])
def test_what_is_to_be_installed_anew_is_named(name: str) -> None:
    assert "machine arm w1" in verdict(*CASES[name]).remedy


def test_what_passed_says_with_what() -> None:
    wanted = Verdict(None, "8 GPUs verified, driver 570.133.20", driver="570.133.20 (open)")
    assert verdict(*CASES["eight H100, all well"]) == wanted
    assert not verdict(*CASES["counted only"]).driver


def test_a_driver_that_a_node_keeps_is_right_and_all_else_is_looked_at_as_ever() -> None:
    """The one that its pool has named before keeps a node; one that only happens to drive its GPUs does not."""
    old = {"driver": "515.43.04", "flavour": "closed"}
    pool_ = pool(expected=8, products=("h100-sxm",), cudaVersion="12.4")
    assert verdict(pool_, report(**old), 8).part is Part.DRIVER
    for kept in (("515 (open)",), ("535 (closed)",), ("",)):
        assert verdict(pool_, report(**old), 8, kept).part is Part.DRIVER

    found = verdict(pool_, report(**old), 8, ("515 (closed)",))
    assert found == Verdict(
        None,
        "8 GPUs verified, driver 515.43.04 (closed); behind plan, its pool wants 570 (open): gpu upgrade",
        driver="515.43.04 (closed)",
    )
    assert verdict(pool_, report(), 8, ("515 (closed)",)).driver == "570.133.20 (open)"
    assert verdict(pool_, report(**old, runtime=""), 8, ("515 (closed)",)).part is Part.RUNTIME
    assert verdict(pool_, report(*[H100] * 7, **old), 7, ("515 (closed)",)).part is Part.COUNT
    none = report(driver="", flavour="", lines=())
    assert verdict(pool_, none, 8, ("515 (closed)",)).part is Part.DRIVER


def test_a_better_driver_in_the_table_holds_back_no_node_that_has_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The remedy for such a node would be to install it anew; a whole pool at once would take no work."""
    assert verdict(POOL, report(), 8).is_passed
    later = tuple(replace(row, branch=580, names=("nvidia-drivers-580-open",)) for row in SOURCES)
    monkeypatch.setattr("bootstrap.gpu.choosing.SOURCES", later)
    images.forget()
    try:
        found = verdict(POOL, report(), 8)
    finally:
        images.forget()

    assert found == Verdict(
        None, "8 GPUs verified, driver 570.133.20 (open); behind plan, its pool wants 580 (open): gpu upgrade"
    )


# --- nvidia-smi ------------------------------------------------------------------------------------------------


def test_a_line_of_nvidia_smi_is_read() -> None:
    found = card_from(line(3, errors="[N/A]", power="71.25"))

    assert found is not None
    assert (found.index, found.name, found.address) == (3, "NVIDIA H100 80GB HBM3", "0000:04:00.0")
    assert (found.errors, found.power, found.most_power, found.memory) == (None, 71, 700, 81559)
    assert QUERY.count(",") == len(FIELDS) - 1


@pytest.mark.parametrize("text", ["", "WARNING: infoROM is corrupted", line(1) + ", more"])
def test_another_number_of_columns_is_no_gpu(text: str) -> None:
    assert card_from(text) is None


@pytest.mark.parametrize(
    "text", ["[N/A]", "N/A", "[Not Supported]", "[Requested functionality has been deprecated]"]
)
def test_what_a_gpu_does_not_have_is_unknown(text: str) -> None:
    found = card_from(line(1, temperature=text))

    assert found is not None
    assert (found.temperature, found.trouble) == (None, "")


@pytest.mark.parametrize("text", ["", "-1", "²", "9" * 30, "ERR!", "[Unknown Error]", "[GPU is lost]"])
def test_a_broken_gpu_is_not_taken_for_one_of_which_nothing_is_known(text: str) -> None:
    found = card_from(line(1, temperature=text))

    assert found is not None
    assert (found.temperature, found.trouble) == (None, text or "nothing")


# --- the taint -------------------------------------------------------------------------------------------------

OTHER: dict[str, Any] = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}


def test_the_taint_is_put_beside_others_and_taken_from_among_them() -> None:
    put, taken = patch_of([OTHER], "7", is_held=True), patch_of([OTHER, TAINT], "8", is_held=False)

    assert put == {"metadata": {"resourceVersion": "7"}, "spec": {"taints": [OTHER, TAINT]}}
    assert taken == {"metadata": {"resourceVersion": "8"}, "spec": {"taints": [OTHER]}}


def test_the_last_taint_leaves_no_empty_list_and_what_is_right_is_not_touched() -> None:
    assert patch_of([TAINT], "8", is_held=False)["spec"] == {"taints": None}
    assert patch_of([OTHER, TAINT], "8", is_held=True) == {}
    assert patch_of([OTHER], "8", is_held=False) == {}
