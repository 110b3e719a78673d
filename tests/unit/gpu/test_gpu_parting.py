"""The gate and MIG: what lets a node of parted GPUs through, and for each mismatch, what it is and what to do."""

from pathlib import Path
from typing import Any

import pytest

from bootstrap.gpu.gate import Part, verdict
from bootstrap.gpu.parting import in_short
from bootstrap.gpu.reported import Parted, Report
from bootstrap.gpu.smi import FIELDS
from bootstrap.model import Pool
from tests.unit.gpu.machines import pool
from tests.unit.gpu.reports import line, report

GOLDEN = Path(__file__).parents[2] / "golden/gpu/mig_verdicts.txt"
ONE = pool(expected=8, products=("h100-sxm",), mig="1g.10gb")
MANY = pool(expected=8, products=("h100-sxm",), mig=("1g.10gb", "3g.40gb", "2g.20gb"))
WHOLE = pool(expected=8, products=("h100-sxm",))
SEVEN, THREE = ("1g.10gb",) * 7, ("2g.20gb", "3g.40gb", "1g.10gb")
GIVEN_ONE, GIVEN_ALL = {"nvidia.com/gpu": 56}, {"nvidia.com/mig-1g.10gb": 56}
GIVEN_MANY = {f"nvidia.com/mig-{name}": 8 for name in THREE}


def part(index: int, *names: str, **told: Any) -> dict[str, Any]:
    on = {
        "index": index,
        "current": "Enabled",
        "pending": "Enabled",
        "profiles": names,
        "instances": len(names),
    }
    return on | told


def parted(*names: str, failure: str = "", **odd: Any) -> Report:
    """Return the report of eight GPUs that are parted so; GPU 3 tells `odd` instead."""
    mig = [part(index, *names, **(odd if index == 3 else {})) for index in range(8)]
    lines = [line(number, use="[N/A]", memory_used=87) for number in range(8)]
    return report(mig=mig, migFailure=failure, lines=lines, plugin=8 * len(names))


OFF: dict[str, Any] = {"current": "Disabled", "pending": "Disabled", "profiles": (), "instances": 0}
CASES: dict[str, tuple[Pool, Report, dict[str, int], str]] = {
    "seven each, offered as GPUs": (ONE, parted(*SEVEN), GIVEN_ONE, "single"),
    "seven each, offered by profile": (ONE, parted(*SEVEN), GIVEN_ALL, "mixed"),
    "three kinds": (MANY, parted(*THREE), GIVEN_MANY, "mixed"),
    "whole ones in a cluster with parted ones": (WHOLE, report(), {"nvidia.com/gpu": 8}, "mixed"),
    "instances offered as whole GPUs only": (ONE, parted(*SEVEN), {"nvidia.com/gpu": 8}, "single"),
    "one kind is lacking": (MANY, parted(*THREE), GIVEN_MANY | {"nvidia.com/mig-3g.40gb": 7}, "mixed"),
    "names of the other strategy": (ONE, parted(*SEVEN), GIVEN_ALL, "single"),
    "the node has not told yet": (ONE, report(), {"nvidia.com/gpu": 8}, "single"),
    "the node could not look": (ONE, report(migFailure="nvidia-smi -L: no answer"), {"nvidia.com/gpu": 8}, "single"),
    "one is parted otherwise, and in use": (
        ONE,
        parted(*SEVEN, failure="pod 7f uses GPUs: drain this node", profiles=("7g.80gb",), instances=1),
        GIVEN_ONE,
        "single",
    ),
    "one waits for a reset": (ONE, parted(*SEVEN, **(OFF | {"pending": "Enabled"})), GIVEN_ONE, "single"),
    "one is to go off at its next reset": (ONE, parted(*SEVEN, pending="Disabled"), GIVEN_ONE, "single"),
    "one is whole": (ONE, parted(*SEVEN, **OFF), GIVEN_ONE, "single"),
    "one knows no MIG": (ONE, parted(*SEVEN, **(OFF | {"current": "[N/A]"})), GIVEN_ONE, "single"),
    "one has no instances": (ONE, parted(*SEVEN, profiles=(), instances=0), GIVEN_ONE, "single"),
    "one lacks a compute instance": (ONE, parted(*SEVEN, profiles=SEVEN[1:]), GIVEN_ONE, "single"),
    "its pool wants whole ones by now": (WHOLE, parted(*SEVEN), {"nvidia.com/gpu": 8}, "none"),
    "its pool wants whole ones, and a mode lasts": (
        WHOLE,
        parted(failure="MIG mode of GPU 0 is pending"),
        {"nvidia.com/gpu": 8},
        "none",
    ),
    "an uncorrected error on parted ones": (
        ONE,
        parted(*SEVEN).model_copy(update={"lines": tuple(line(n, errors=n // 7) for n in range(8))}),
        GIVEN_ONE,
        "single",
    ),
}  # fmt: skip
PARTS = {
    "seven each, offered as GPUs": None,
    "seven each, offered by profile": None,
    "three kinds": None,
    "whole ones in a cluster with parted ones": None,
    "instances offered as whole GPUs only": Part.PLUGIN,
    "one kind is lacking": Part.PLUGIN,
    "names of the other strategy": Part.PLUGIN,
    "an uncorrected error on parted ones": Part.HEALTH,
}


def said(name: str) -> str:
    pool_, told, given, how = CASES[name]
    return str(verdict(pool_, told, given, strategy=how))


def test_the_table_of_verdicts_is_the_committed_one(*, update_golden: bool) -> None:
    text = "".join(f"{name}\n    {said(name)}\n" for name in CASES)
    if update_golden:
        GOLDEN.write_text(text)

    assert text.splitlines() == GOLDEN.read_text().splitlines()


@pytest.mark.parametrize("name", CASES)
def test_each_case_names_the_right_part_and_what_to_do(name: str) -> None:
    pool_, told, given, how = CASES[name]
    found = verdict(pool_, told, given, strategy=how)

    assert found.part == PARTS.get(name, Part.MIG)
    assert bool(found.remedy) is not found.is_passed
    if found.part is Part.MIG:
        assert found.reason.startswith("mig-mismatch, ")
        assert "w1" in found.remedy


def test_a_mode_that_waits_asks_for_a_restart_and_all_else_for_an_empty_node() -> None:
    assert "drain w1 and start it anew" in said("one waits for a reset")
    assert "once nothing uses its GPUs" in said("one is parted otherwise, and in use")
    assert "(pod 7f uses GPUs: drain this node)" in said("one is parted otherwise, and in use")


def test_a_gpu_is_told_in_few_words() -> None:
    def words(*names: str, **told: Any) -> str:
        return in_short(Parted.model_validate(part(0, *names, **told)))

    assert words(*THREE) == "1 x 3g.40gb, 1 x 2g.20gb, 1 x 1g.10gb"
    assert words(**OFF) == "whole"
    assert words("1g.10gb", instances=3) == "1 x 1g.10gb, 2 without a compute instance"
    assert words(current="Disabled") == "MIG mode is Disabled, and Enabled is pending"


def test_what_a_node_tells_of_parts_is_bounded() -> None:
    for odd in ({"profiles": ["x"] * 65}, {"index": -1}, {"instances": "many"}):
        with pytest.raises(ValueError, match="mig"):
            report(mig=[part(0) | odd])
    assert len(FIELDS) == line(0).count(",") + 1
