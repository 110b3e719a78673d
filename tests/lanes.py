"""Lanes of system tests side by side: most virtual machines, the rest as long as those, and what mostly waits.

A plugin: `pytest -p tests.lanes -n 3 --dist loadscope`. Each lane is one worker's; what is in it runs in order, and
the tests of one module share their fixtures as usual. The fourth lane is the worker's that ends first.
"""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

MACHINES = frozenset(
    {
        "test_discovery",
        "test_disks_refusals",
        "test_fault_wire",
        "test_image_build",
        "test_lab_bmc",
        "test_lab_boots",
        "test_lab_hosts",
        "test_lab_real",
        "test_leaving",
        "test_makers_machine",
        "test_spine",
        "test_waiting",
    }
)

WAITING = frozenset(
    {
        "test_addons",
        "test_containers",
        "test_containers_accept",
        "test_containers_moved",
        "test_containers_rights",
        "test_etcd_store",
        "test_etcd_up",
        "test_explain",
        "test_fault_etcd",
        "test_gpu_sample",
        "test_gpu_upgrade_served",
        "test_mirror_attacks",
        "test_mirror_faults",
        "test_mirror_offline",
        "test_node_hosts",
        "test_power_drivers",
        "test_power_machine",
        "test_power_wake",
        "test_pxe_beside",
        "test_pxe_refusals",
        "test_pxe_relay",
        "test_pxe_rogue",
        "test_pxe_serving",
        "test_pxe_site_server",
        "test_pxe_table",
        "test_pxe_tftp",
        "test_pxe_tftp_ways",
    }
)
"""Their time is spent waiting for answers that do not come: two processors have room for them."""

LATER = frozenset({"test_disks_choice", "test_disks_kills", "test_mutants"})
"""Begun when the waiting is over. Lanes begin in the order of their first modules: no name here may be an early one."""


class Lanes(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Gives whole lanes to workers."""

    def _split_scope(self, nodeid: str) -> str:
        return lane_of(nodeid)


def lane_of(nodeid: str) -> str:
    """Return the lane of a test by its module."""
    module = PurePosixPath(nodeid.partition("::")[0]).stem
    if module in MACHINES:
        return "machines"
    if module in WAITING:
        return "waiting"
    return "later" if module in LATER else "rest"


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Callable[..., Any]) -> Lanes:
    """Make the lanes the scheduler of this run."""
    return Lanes(config, log)
