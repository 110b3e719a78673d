"""Pools and machines that tests ask about, by the ids that their GPUs have on PCI."""

from typing import Any

from bootstrap.model import Disk, DiskSelect, Gpu, Os, Pool

H100, B200, A100, K80, V100, UNKNOWN = "2330", "2901", "20b2", "102d", "1db1", "ffff"


def pool(family: str = "flatcar", release: str = "4593.2.5", **gpu: Any) -> Pool:
    """Return a pool called gpu8 with this operating system and `gpu:` section."""
    return Pool(
        name="gpu8",
        os=Os(family=family, release=release),
        disk=Disk(select=DiskSelect(type="nvme")),
        gpu=Gpu(**gpu),
    )
