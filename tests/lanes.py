"""Three lanes of system tests side by side: two with virtual machines, which wait half of their time, and the rest.

A plugin: `pytest -p tests.lanes -n 3 --dist loadscope`. Each lane is one worker's; what is in it runs in order, and
the tests of one module share their fixtures as usual.
"""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

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


class Lanes(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Gives whole lanes to workers."""

    def _split_scope(self, nodeid: str) -> str:
        return lane_of(nodeid)


def lane_of(nodeid: str) -> str:
    """Return the lane of a test by its module."""
    module = PurePosixPath(nodeid.partition("::")[0]).stem
    if module in RACKS:
        return "racks"
    return "disks" if module in DISKS else "rest"


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Callable[..., Any]) -> Lanes:
    """Make the lanes the scheduler of this run."""
    return Lanes(config, log)
