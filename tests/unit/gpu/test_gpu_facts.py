"""The facts of the table, written down from its sources a second time: PCI ids, and the drivers of CUDA versions."""

import pytest

from bootstrap.gpu.choosing import Choice, choice
from bootstrap.gpu.machine import judged
from bootstrap.gpu.resolver import Refusal, resolve
from bootstrap.gpu.table import CUDA, PRODUCTS
from bootstrap.model import Gpu, Os
from tests.unit.gpu.machines import A100, UNKNOWN, pool

FLATCAR = Os(family="flatcar", release="4593.2.5")
# NVIDIA's README of 610.43.03 and the PCI ID Project, sorted by id.
IDS = """
101e 1020 1021 k20x; 101f 1022 1026 1028 k20; 1023 1024 1027 1029 102a 102e k40; 102d k80;
13bd m10; 13f2 m60; 1431 m4; 17fd m40;
15f7 p100-pcie-12gb; 15f8 p100-pcie; 15f9 p100-sxm2; 1b38 p40; 1bb3 p4;
1db1 1df5 v100-sxm2-16gb; 1db4 v100-pcie-16gb; 1db5 v100-sxm2-32gb; 1db6 v100-pcie-32gb; 1db8 v100-sxm3;
1df6 v100s-pcie;
1e02 titan-rtx; 1e04 1e07 rtx-2080-ti; 1e30 1e78 quadro-rtx-6000-8000; 1eb8 t4;
20b0 a100-sxm4-40gb; 20b2 a100-sxm4-80gb; 20b3 a100-sxm-64gb; 20b5 a100-pcie-80gb; 20b7 a30; 20bd a800-sxm4-40gb;
20f1 a100-pcie-40gb; 20f3 a800-sxm4-80gb; 20f5 a800-pcie-80gb;
2204 rtx-3090; 2230 rtx-a6000; 2231 rtx-a5000; 2235 a40; 2236 a10; 2237 a10g; 25b6 a2-a16;
2321 h100-nvl; 2322 h800-pcie; 2324 h800; 2329 232c h20; 2330 h100-sxm; 2331 h100-pcie; 2335 h200-sxm;
2337 h100-sxm-64gb; 2338 h100-sxm-96gb; 2339 h100-sxm-94gb; 233a h800-nvl; 233b h200-nvl; 2342 2348 gh200;
2684 rtx-4090; 26b1 rtx-6000-ada; 26b2 rtx-5000-ada; 26b5 l40; 26b8 l40g; 26b9 l40s; 26ba l20; 27b6 l2; 27b8 l4;
2901 2909 b200; 2941 gb200; 3182 b300; 31c2 31c3 gb300;
2b85 rtx-5090; 2bb1 2bb4 rtx-pro-6000; 2bb3 rtx-pro-5000; 2bb5 rtx-pro-6000-server;
2c02 rtx-5080; 2c31 rtx-pro-4500; 2c3a rtx-pro-4500-server
"""
DRIVERS = """
7.0 346.46 7.5 352.31 8.0 367.48 9.0 384.81 9.1 390.46 9.2 396.26 10.0 410.48 10.1 418.39 10.2 440.33
11.0 450.51.05 11.1 455.23 11.2 460.27.03 11.3 465.19.01 11.4 470.42.01 11.5 495.29.05 11.6 510.39.01
11.7 515.43.04 11.8 520.61.05 12.0 525.60.13 12.1 530.30.02 12.2 535.54.03 12.3 545.23.06 12.4 550.54.14
12.5 555.42.02 12.6 560.28.03 12.8 570.26 12.9 575.51.03 13.0 580.65.06 13.1 590.44.01 13.2 595.45.04
13.3 610.43.02
"""


def test_each_pci_id_is_that_of_its_product() -> None:
    rows = [row.split() for row in IDS.split(";")]

    assert {product.key: set(product.ids) for product in PRODUCTS} == {key: set(ids) for *ids, key in rows}
    assert len(rows) == len(PRODUCTS)


def test_each_cuda_version_has_the_driver_of_its_release_notes() -> None:
    words = DRIVERS.split()

    assert [(row.version, row.driver) for row in CUDA] == list(zip(words[::2], words[1::2], strict=True))


@pytest.mark.parametrize("device", ["2bb1", "2bb3", "2bb4", "2c31"])
def test_a_blackwell_workstation_gpu_gets_570_which_cannot_part_it(device: str) -> None:
    """575 is the first that can part it; it was taken for the first that drives it."""
    found = resolve([device], FLATCAR, Gpu())

    assert isinstance(found, Choice)
    assert found.source.names == ("nvidia-drivers-570-open",)
    assert "it cannot part RTX PRO " in str(found)
    assert " (MIG), which 575 can" in str(found)


def test_a_blackwell_server_gpu_of_which_no_older_driver_is_known_wants_575() -> None:
    found = resolve(["2bb5"], FLATCAR, Gpu())

    assert isinstance(found, Refusal)
    assert "wants driver 575 or later" in found.reason


def test_what_can_be_parted_by_its_driver_is_told_nothing_of_it() -> None:
    assert "MIG" not in str(resolve([A100], FLATCAR, Gpu()))


def test_a_driver_by_number_stands_for_a_gpu_that_no_row_knows() -> None:
    by_number = pool(driver=570)

    found = judged(by_number, [UNKNOWN] * 8)

    assert isinstance(found, Choice)
    assert found.source.title == "570 (open)"
    assert found.notes[-1] == (
        "10de:ffff is in no row of the table of GPUs: that it drives it is the pool's word"
    )
    refused = resolve([UNKNOWN], FLATCAR, Gpu())
    assert str(refused) == (
        "10de:ffff is in no row of the table of GPUs, and nothing is guessed; write driver: and the branch that "
        "drives it, if you know one, or write installCuda: false for no driver"
    )
    assert isinstance(judged(pool(driver=570, products=("h100-sxm",)), [UNKNOWN]), Refusal)


@pytest.mark.parametrize(
    ("release", "is_told"), [("4593.2.5", False), ("4593.9.9", False), ("4594.0.0", True), ("9999.0.0", True)]
)
def test_a_release_of_flatcar_that_nobody_looked_at_is_told(release: str, *, is_told: bool) -> None:
    found = choice((), Os(family="flatcar", release=release), None)

    assert isinstance(found, Choice)
    told = f"whether flatcar {release} still offers it was not looked up, 4593 did"
    assert (told in found.notes) is is_told
    there = judged(pool(release=release), [A100])
    assert isinstance(there, Choice)
    assert (told in there.notes) is is_told
