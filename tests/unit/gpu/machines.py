"""Pools and machines that tests ask about, by the ids that their GPUs have on PCI."""

from typing import Any

import pytest

from bootstrap.gpu import images
from bootstrap.gpu.rows import Flavour, Route, Source
from bootstrap.gpu.table import SOURCES
from bootstrap.model import Disk, DiskSelect, Gpu, Os, Pool

H100, B200, A100, K80, V100, UNKNOWN = "2330", "2901", "20b2", "102d", "1db1", "ffff"
L40S = "26b9"


def pool(family: str = "flatcar", release: str = "4593.2.5", **gpu: Any) -> Pool:
    """Return a pool called gpu8 with this operating system and `gpu:` section."""
    return Pool(
        name="gpu8",
        os=Os(family=family, release=release),
        disk=Disk(select=DiskSelect(type="nvme")),
        gpu=Gpu(**gpu),
    )


def know_old_drivers(patch: pytest.MonkeyPatch) -> None:
    """Have Debian 12 in the table, with 470 (the last for Kepler) and 535, both closed; no image of it is built."""
    rows = (
        Source(
            family="debian", since="12", only=True, branch=branch, flavour=Flavour.CLOSED, route=Route.PACKAGES,
            names=(f"nvidia-{branch}-dkms",), suite="bookworm", version=version,
        )
        for branch, version in ((470, "470.256.02"), (535, "535.309.01"))
    )  # fmt: skip
    patch.setattr("bootstrap.gpu.choosing.SOURCES", (*SOURCES, *rows))
    images.forget()
