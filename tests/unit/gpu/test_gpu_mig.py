"""Into what GPUs are parted: the rows hold together, and what is asked for fits where the hardware lets it."""

from typing import Any

import pytest

from bootstrap.gpu.machine import choices
from bootstrap.gpu.mig import (
    PROFILES,
    fitting,
    in_words,
    layout,
    profile_of,
    resources,
    strategy_for,
    unparted,
)
from bootstrap.gpu.table import BY_KEY
from bootstrap.model import Gpu
from bootstrap.model.mig import MOST, is_profile
from tests import samples
from tests.unit.gpu.machines import pool
from tests.unit.node.gpu_machine import with_gpus

# "Number of Instances Available", written down from NVIDIA's guide a second time, apart from the rows.
AVAILABLE = {
    "a30": {"1g.6gb": 4, "2g.12gb": 2, "4g.24gb": 1},
    "a100-sxm4-40gb": {"1g.5gb": 7, "1g.10gb": 4, "2g.10gb": 3, "3g.20gb": 2, "4g.20gb": 1, "7g.40gb": 1},
    "a100-sxm4-80gb": {"1g.10gb": 7, "1g.20gb": 4, "2g.20gb": 3, "3g.40gb": 2, "4g.40gb": 1, "7g.80gb": 1},
    "h100-sxm": {"1g.10gb": 7, "1g.20gb": 4, "2g.20gb": 3, "3g.40gb": 2, "4g.40gb": 1, "7g.80gb": 1},
    "h100-nvl": {"1g.12gb": 7, "1g.24gb": 4, "2g.24gb": 3, "3g.47gb": 2, "4g.47gb": 1, "7g.94gb": 1},
    "h200-sxm": {"1g.18gb": 7, "1g.35gb": 4, "2g.35gb": 3, "3g.71gb": 2, "4g.71gb": 1, "7g.141gb": 1},
    "b200": {"1g.23gb": 7, "1g.45gb": 4, "2g.45gb": 3, "3g.90gb": 2, "4g.90gb": 1, "7g.180gb": 1},
}


@pytest.mark.parametrize("key", AVAILABLE)
def test_each_product_has_the_profiles_of_the_guide(key: str) -> None:
    assert {one.name: one.most for one in PROFILES[key]} == AVAILABLE[key]


@pytest.mark.parametrize("key", PROFILES)
def test_as_many_fit_as_the_row_says_and_one_more_does_not(key: str) -> None:
    assert not unparted(key)
    for one in PROFILES[key]:
        assert is_profile(one.name)
        assert len(fitting(key, [one.name] * (one.most + 1))) == one.most <= MOST


def test_what_cannot_be_parted_says_which_of_the_two_it_is() -> None:
    assert unparted("t4") == "Tesla T4 cannot be parted (MIG)"
    assert unparted("h20") == "the MIG profiles of H20 are in no row of the table"
    for key, product in BY_KEY.items():
        assert bool(unparted(key)) is (key not in PROFILES)
        assert product.has_mig or key not in PROFILES


@pytest.mark.parametrize(
    ("names", "fits"),
    [
        (["4g.40gb", "2g.20gb", "1g.10gb"], True),  # the guide's own example
        (["3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"], True),
        (["3g.40gb", "4g.40gb"], True),
        (["3g.40gb", *["1g.10gb"] * 4], True),
        (["1g.10gb", "1g.10gb", "2g.20gb", "3g.40gb"], True),  # whatever the order
        (["1g.20gb", "2g.20gb", "2g.20gb", "2g.20gb"], True),
        (["4g.40gb", "4g.40gb"], False),  # only one start
        (["3g.40gb", "3g.40gb", "1g.10gb"], False),  # six of seven slices of compute, and no memory
        (["3g.40gb", "4g.40gb", "1g.10gb"], False),
        (["7g.80gb", "1g.10gb"], False),
    ],
)
def test_what_fits_beside_each_other_is_what_the_starts_allow(names: list[str], fits: bool) -> None:  # noqa: FBT001
    assert (fitting("h100-sxm", names) == tuple(names)) is fits


@pytest.mark.parametrize(
    ("mig", "wanted"),
    [
        ("1g.10gb", ("1g.10gb",) * 7),
        ("3g.40gb", ("3g.40gb",) * 2),
        (("1g.10gb", "3g.40gb", "2g.20gb"), ("3g.40gb", "2g.20gb", "1g.10gb")),
        (None, ()),
    ],
)
def test_one_profile_is_made_as_often_as_it_fits_and_the_largest_first(mig: Any, wanted: object) -> None:
    assert layout(Gpu(products=("h100-sxm",), mig=mig)) == wanted


def test_nothing_is_parted_without_a_driver() -> None:
    assert layout(Gpu(products=("h100-sxm",), mig="1g.10gb", install_cuda=False)) == ()
    assert layout(None) == layout(Gpu(mig="1g.10gb")) == ()


def test_kubernetes_is_to_give_out_all_instances_by_the_name_that_the_plugin_has_for_them() -> None:
    whole, one = pool(products=("h100-sxm",)), pool(products=("h100-sxm",), mig="1g.10gb")
    many = pool(products=("h100-sxm",), mig=("3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"))

    for how in ("none", "single", "mixed"):
        assert resources(whole, 8, how) == {"nvidia.com/gpu": 8}
    assert resources(one, 8, "single") == {"nvidia.com/gpu": 56}
    assert resources(one, 8, "mixed") == {"nvidia.com/mig-1g.10gb": 56}
    assert resources(many, 8, "mixed") == {
        "nvidia.com/mig-3g.40gb": 8,
        "nvidia.com/mig-2g.20gb": 8,
        "nvidia.com/mig-1g.10gb": 16,
    }


def test_one_list_in_a_cluster_has_all_instances_offered_by_profile() -> None:
    assert strategy_for([None]) == "none"
    assert strategy_for([None, "1g.10gb", "2g.20gb"]) == "single"
    assert strategy_for(["1g.10gb", ("2g.20gb",)]) == "mixed"


def test_check_and_plan_say_how_gpus_are_parted() -> None:
    gpu = {"expected": 8, "products": ["h100-sxm"], "mig": ["1g.10gb", "3g.40gb", "1g.10gb"]}
    cluster = with_gpus(samples.cluster("lab"), pool().os, gpu)

    (line,) = choices(cluster)

    assert line.startswith("pool workers, 8 x H100 80GB HBM3 on flatcar 4593.2.5: driver 570 (open)")
    assert line.endswith("; each parted into 1 x 3g.40gb, 2 x 1g.10gb (MIG)")
    found = cluster.pool("workers").gpu
    assert found is not None
    assert found.mig == ("1g.10gb", "3g.40gb", "1g.10gb")
    assert in_words(["1g.5gb"] * 7) == "7 x 1g.5gb"
    assert profile_of("h100-sxm", "1g.5gb") is None
