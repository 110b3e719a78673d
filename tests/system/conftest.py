"""Three lanes that run side by side: two with virtual machines, which wait half of their time, and one for the rest.

Each lane is one worker's; what is in it runs in order, and the tests of one module share their fixtures as usual.
"""

from pathlib import Path

import pytest

RACKS = frozenset({"test_spine", "test_fault_wire", "test_waiting", "test_interrupt"})
DISKS = frozenset(
    {
        "test_disks_choice",
        "test_disks_kills",
        "test_disks_refusals",
        "test_fault_power",
        "test_image_boot",
        "test_image_build",
        "test_lab_real",
    }
)
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put each system test into its lane (`-n 3 --dist loadgroup`)."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.xdist_group(lane_of(item.path.stem)))


def lane_of(module: str) -> str:
    """Return the lane of a module."""
    if module in RACKS:
        return "racks"
    return "disks" if module in DISKS else "rest"
