"""Two lanes of system tests side by side, about as long as each other: most virtual machines, and the rest.

A plugin: `pytest -p tests.lanes -n 2 --dist loadscope`. Each lane is one worker's; what is in it runs in order, and
the tests of one module share their fixtures as usual.
"""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

MACHINES = frozenset(
    {
        "test_disks_kills",
        "test_disks_refusals",
        "test_fault_wire",
        "test_image_build",
        "test_interrupt",
        "test_lab_hosts",
        "test_lab_real",
        "test_spine",
        "test_waiting",
    }
)


class Lanes(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Gives whole lanes to workers."""

    def _split_scope(self, nodeid: str) -> str:
        return lane_of(nodeid)


def lane_of(nodeid: str) -> str:
    """Return the lane of a test by its module."""
    module = PurePosixPath(nodeid.partition("::")[0]).stem
    return "machines" if module in MACHINES else "rest"


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Callable[..., Any]) -> Lanes:
    """Make the lanes the scheduler of this run."""
    return Lanes(config, log)
