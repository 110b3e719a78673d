"""One machine against its pool: the count, the kind, and what follows."""

from typing import Any

import pytest

from bootstrap.gpu.choosing import Choice
from bootstrap.gpu.machine import choices, declared, details_of, judged, names_of
from bootstrap.gpu.resolver import NoDriver, Refusal
from bootstrap.model import Pool
from tests import samples
from tests.unit.gpu.machines import A100, B200, H100, K80, UNKNOWN, V100, know_old_drivers, pool

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


def test_a_mixed_box_is_judged_by_what_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    know_old_drivers(monkeypatch)
    mixed = pool("debian", "12", products=("k80", "a100-sxm4-80gb"))
    assert str(judged(mixed, [A100, K80, K80])).startswith("driver 470.256.02 (closed), packages ")
    refused = judged(pool("debian", "12"), [A100, K80, K80])
    assert str(refused).endswith("; write products: [k80, a100-sxm4-80gb] in a pool for such machines")
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


def test_a_pool_that_names_no_products_is_told_its_driver_and_what_it_needs_too() -> None:
    """Nothing was said of it: neither that Secure Boot must be off, nor of a fabric manager."""
    counted, plain, nothing = _choices(
        pool(expected=8), pool("debian", "13"), pool("fedora-coreos", "42.1.1.1", install_cuda=False)
    )

    assert counted == (
        "pool gpu8, any GPU on flatcar 4593.2.5: driver 570 (open), sysext nvidia-drivers-570-open; "
        "boards of eight GPUs (SXM) need NVIDIA's fabric manager too, which is not offered there; "
        "NVIDIA's updates of 570 end 2026-02"
    )
    assert "boards of eight GPUs" in plain
    assert "Secure Boot must be off" in plain
    assert nothing == "pool gpu8, any GPU on fedora-coreos 42.1.1.1: no driver: installCuda is false"


@pytest.mark.parametrize(
    ("where", "secure_boot", "fits"),
    [
        (pool(), True, True),
        (pool("debian", "13"), True, False),
        (pool("flatcar", "3760.2.0"), True, False),
        (pool("debian", "13"), False, True),
        (pool("debian", "13"), None, True),
        (pool("debian", "13", install_cuda=False), True, True),
    ],
)
def test_modules_that_nobody_signed_are_for_no_machine_with_secure_boot(
    where: Pool, *, secure_boot: bool | None, fits: bool
) -> None:
    found = judged(where, [A100], secure_boot=secure_boot)

    assert isinstance(found, Refusal) is not fits
    if not fits:
        assert str(found).startswith(
            "its firmware has Secure Boot on, and nobody signs the modules of driver 5"
        )
        assert str(found).endswith("; switch Secure Boot off in its firmware")


def test_each_pool_that_declares_its_gpus_has_a_line() -> None:
    assert _choices(WITHOUT_SECTION) == []
    counted, uncounted = _choices(
        pool(products=("h100-pcie",), expected=4), pool("debian", "13", products=("t4", "l4"))
    )
    assert counted == (
        "pool gpu8, 4 x H100 PCIe on flatcar 4593.2.5: driver 570 (open), sysext nvidia-drivers-570-open; "
        "NVIDIA's updates of 570 end 2026-02"
    )
    assert uncounted.startswith(
        "pool gpu8, Tesla T4 and L4 on debian 13: driver 550.163.01 (closed), packages "
    )


def test_a_product_that_the_table_has_lost_keeps_nobody_from_being_told() -> None:
    lost = pool(products=("h100-sxm", "gone"))

    assert str(judged(lost, [A100])).startswith("pool gpu8 is for H100 80GB HBM3 and gone, it shows")
    assert isinstance(declared(lost), Choice)


def test_a_machine_that_its_pool_s_driver_does_not_drive_is_told_to_say_so_in_the_pool() -> None:
    """Without `products` a Flatcar pool gets the open modules, which drive no Volta; documents are made ahead."""
    refused = judged(pool(), [V100] * 8)

    assert str(refused) == (
        "nodes of pool gpu8 get driver 570 (open), and 8 x Tesla V100 SXM2 16GB (10de:1db1) wants 570 (closed); "
        "write products: [v100-sxm2-16gb] in a pool for such machines"
    )
    assert str(judged(pool(products=("v100-sxm2-16gb",)), [V100] * 8)).startswith("driver 570 (closed)")


def test_a_driver_for_two_kinds_serves_each_of_them() -> None:
    both = pool(products=("h100-sxm", "v100-sxm2-16gb"))

    assert str(judged(both, [H100] * 8)).startswith("driver 570 (closed), ")
    assert "fabric manager" in str(judged(both, [H100] * 8))
    assert "fabric manager" not in str(judged(both, [V100] * 8))
