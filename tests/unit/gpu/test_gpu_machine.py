"""One machine against its pool: the count, the kind, and what follows."""

from typing import Any

import pytest

from bootstrap.gpu.choosing import Choice
from bootstrap.gpu.machine import choices, declared, details_of, judged, names_of
from bootstrap.gpu.resolver import NoDriver, Refusal
from bootstrap.model import Pool
from tests import samples
from tests.unit.gpu.machines import A100, B200, H100, K80, UNKNOWN, pool

WITHOUT_SECTION = pool().model_copy(update={"gpu": None})


def test_a_pool_without_a_section_says_nothing_of_gpus() -> None:
    assert judged(WITHOUT_SECTION, [H100] * 8) is None
    assert declared(WITHOUT_SECTION) is None


def test_a_machine_as_its_pool_wants_it_gets_its_driver() -> None:
    found = judged(pool(expected=8, products=("h100-sxm",)), [H100] * 8)

    assert isinstance(found, Choice)
    assert found.source.names == ("nvidia-drivers-570-open",)


@pytest.mark.parametrize("wants", [{}, {"install_cuda": False}, {"products": ("h100-sxm",)}])
def test_one_that_is_missing_is_told_with_what_to_look_for(wants: dict[str, Any]) -> None:
    found = judged(pool(expected=8, **wants), [H100] * 7)

    assert isinstance(found, Refusal)
    assert found.reason == "pool gpu8 expects 8 GPUs, it shows 7: 7 x H100 80GB HBM3 (10de:2330)"
    assert "seating, riser and power" in found.nearest
    assert "Above 4G decoding" in found.nearest


def test_all_missing_and_more_than_expected_are_told_too() -> None:
    none, more = judged(pool(expected=8), []), judged(pool(expected=8), [H100] * 9)

    assert str(none).startswith("pool gpu8 expects 8 GPUs, it shows none; look for its seating")
    assert str(more).endswith("(10de:2330); write the number that it has, or change expected")


def test_a_pool_that_expects_no_number_takes_a_machine_without_gpus() -> None:
    assert judged(pool(), []) == NoDriver("no NVIDIA GPU")
    assert judged(pool(products=("h100-sxm",)), []) == NoDriver("no NVIDIA GPU")


@pytest.mark.parametrize("devices", [[A100] * 2, [H100, A100], [H100, UNKNOWN]])
def test_another_gpu_than_the_pool_declares_is_told(devices: list[str]) -> None:
    found = judged(pool(products=("h100-sxm", "b200")), devices)

    assert isinstance(found, Refusal)
    assert found.reason.startswith("pool gpu8 is for H100 80GB HBM3 and B200, it shows ")
    assert f"10de:{devices[-1]}" in found.reason


def test_of_declared_products_some_are_enough() -> None:
    assert isinstance(judged(pool(products=("h100-sxm", "a100-sxm4-80gb")), [A100]), Choice)


def test_a_mixed_box_is_judged_by_what_is_in_it() -> None:
    assert str(judged(pool("debian", "12"), [A100, K80, K80])).startswith(
        "driver 470.256.02 (closed), packages "
    )
    assert isinstance(judged(pool("debian", "13"), [A100, K80, K80]), Refusal)
    assert isinstance(judged(pool(), [B200, K80]), Refusal)


def test_what_a_pool_declares_is_decided_before_a_machine_is_seen() -> None:
    assert isinstance(declared(pool(products=("b200",))), Choice)
    assert isinstance(declared(pool("debian", "13", products=("b200",))), Refusal)
    assert isinstance(declared(pool()), Choice)
    assert isinstance(declared(pool("fedora-coreos", "42.1.2.3")), Refusal)


def test_gpus_are_named_and_counted() -> None:
    assert names_of([H100, B200, H100, UNKNOWN]) == (
        "2 x H100 80GB HBM3 (10de:2330), 1 x B200 (10de:2901), 1 x unknown GPU (10de:ffff)"
    )
    assert details_of([K80, K80, H100, UNKNOWN]) == (
        "2 x Tesla K80 (10de:102d, Kepler), 1 x H100 80GB HBM3 (10de:2330, Hopper, MIG-capable), "
        "1 x unknown GPU (10de:ffff)"
    )
    assert names_of([]) == ""


def _choices(*pools: Pool) -> list[str]:
    return list(choices(samples.cluster("example").model_copy(update={"pools": pools})))


def test_each_pool_that_declares_its_gpus_has_a_line() -> None:
    assert _choices(pool(), WITHOUT_SECTION) == []
    counted, uncounted = _choices(
        pool(products=("h100-pcie",), expected=4), pool("debian", "13", products=("t4", "l4"))
    )
    assert (
        counted
        == "pool gpu8, 4 x H100 PCIe on flatcar 4593.2.5: driver 570 (open), sysext nvidia-drivers-570-open"
    )
    assert uncounted.startswith(
        "pool gpu8, Tesla T4 and L4 on debian 13: driver 535.274.02 (closed), packages "
    )


def test_a_product_that_the_table_has_lost_keeps_nobody_from_being_told() -> None:
    lost = pool(products=("h100-sxm", "gone"))

    assert str(judged(lost, [A100])).startswith("pool gpu8 is for H100 80GB HBM3 and gone, it shows")
    assert isinstance(declared(lost), Choice)
