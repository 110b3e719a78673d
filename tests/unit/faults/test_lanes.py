"""The lanes of the system tests begin in the order in which their first modules are collected."""

from pathlib import Path

from tests.lanes import LATER, MACHINES, WAITING, lane_of

SYSTEM = Path(__file__).resolve().parents[2] / "system"


def test_the_lane_that_is_begun_later_comes_last() -> None:
    modules = sorted(path.stem for path in SYSTEM.glob("test_*.py"))
    lanes = list(dict.fromkeys(lane_of(f"tests/system/{module}.py::test_it") for module in modules))
    assert sorted(lanes[:3]) == ["machines", "rest", "waiting"]
    assert lanes[3:] == ["later"]


def test_each_module_of_a_lane_is_there_and_in_one_lane() -> None:
    modules = {path.stem for path in SYSTEM.rglob("test_*.py")}
    assert modules >= MACHINES | WAITING | LATER
    assert len(MACHINES) + len(WAITING) + len(LATER) == len(MACHINES | WAITING | LATER)
