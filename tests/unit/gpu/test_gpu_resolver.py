"""Which driver a machine gets, or why none: the cases that an operator meets."""

import pytest

from bootstrap.gpu.choosing import Choice, choice
from bootstrap.gpu.resolver import NoDriver, Refusal, for_any, products_of, resolve
from bootstrap.gpu.rows import Flavour, Route, Source
from bootstrap.gpu.table import BY_KEY
from bootstrap.model import Gpu, Os
from tests.unit.gpu.machines import A100, B200, H100, K80, UNKNOWN, V100

FLATCAR = Os(family="flatcar", release="4593.2.5")
OLD_FLATCAR = Os(family="flatcar", release="4081.3.6")
DEBIAN_13 = Os(family="debian", release="13")
COREOS = Os(family="fedora-coreos", release="42.20250803.3.0")


@pytest.mark.parametrize(
    ("devices", "os", "cuda", "wanted"),
    [
        ([H100] * 8, FLATCAR, "12.8", (570, Flavour.OPEN, Route.SYSEXT)),
        ([B200] * 8, FLATCAR, None, (570, Flavour.OPEN, Route.SYSEXT)),
        ([V100] * 8, FLATCAR, None, (570, Flavour.CLOSED, Route.SYSEXT)),
        ([H100] * 8, OLD_FLATCAR, None, (535, Flavour.CLOSED, Route.SERVICE)),
        ([H100] * 8, DEBIAN_13, None, (550, Flavour.CLOSED, Route.PACKAGES)),
        ([H100, A100, V100], FLATCAR, "12.4", (570, Flavour.CLOSED, Route.SYSEXT)),
    ],
)
def test_a_machine_gets_the_newest_driver_that_all_its_gpus_can_use(
    devices: list[str], os: Os, cuda: str | None, wanted: tuple[int, Flavour, Route]
) -> None:
    found = resolve(devices, os, Gpu(cuda_version=cuda))

    assert isinstance(found, Choice)
    row = found.source
    assert (row.branch, row.flavour, row.route) == wanted


@pytest.mark.parametrize(
    ("devices", "os", "cuda", "reason", "nearest"),
    [
        (
            [B200] * 8,
            DEBIAN_13,
            None,
            "B200 wants driver 570 or later; debian 13 offers 535 (closed), 550 (closed, open)",
            "write os: {family: flatcar, release: 4593.0.0 or later}, or write installCuda: false for no driver",
        ),
        (
            [A100, K80],
            DEBIAN_13,
            None,
            "Tesla K80 and A100-SXM4-80GB want a driver from 450 to 470; debian 13 offers ",
            "A100-SXM4-80GB alone would work: give each kind a machine of its own, or",
        ),
        (
            [H100, K80],
            FLATCAR,
            None,
            "no driver drives all of it: Tesla K80 has none after 470, H100 80GB HBM3 none before",
            "H100 80GB HBM3 alone would work: give each kind a machine of its own, or",
        ),
        (
            [V100, B200],
            FLATCAR,
            None,
            "no driver drives all of it: Tesla V100 SXM2 16GB wants the closed kernel modules, B200",
            "B200 alone would work: ",
        ),
        (
            [H100, UNKNOWN],
            FLATCAR,
            None,
            "10de:ffff is in no row of the table of GPUs, and nothing is guessed",
            "write driver: and the branch that drives it, if you know one, or write installCuda: false for no driver",
        ),
        (
            [H100],
            FLATCAR,
            "13.0",
            "CUDA 13.0 wants driver 580 or later; flatcar 4593.2.5 offers 535 (closed, open), 550",
            'write cudaVersion: "12.8", or leave it out',
        ),
        (
            [V100],
            FLATCAR,
            "13.0",
            "CUDA 12.9 was the last for Tesla V100 SXM2 16GB; CUDA 13.0 dropped it",
            'write cudaVersion: "12.8", or leave it out',
        ),
        (
            [H100],
            FLATCAR,
            "11.0",
            "H100 80GB HBM3 came with CUDA 11.8; CUDA 11.0 does not know it",
            'write cudaVersion: "11.8", or leave it out',
        ),
        (
            [K80],
            DEBIAN_13,
            "11.8",
            "CUDA 11.8 wants driver 520 or later, and Tesla K80 none after 470",
            "write installCuda: false for no driver",
        ),
        (
            [K80],
            FLATCAR,
            "12.8",
            "CUDA 11.8 was the last for Tesla K80",
            "write installCuda: false for no driver",
        ),
        (
            [H100],
            FLATCAR,
            "12.7",
            "CUDA 12.7 is in no row of the table of CUDA versions",
            'write cudaVersion: "12.6", or leave it out',
        ),
        (
            [H100],
            COREOS,
            None,
            "NVIDIA makes no driver for Fedora CoreOS",
            "write os: {family: flatcar, release: 4593.0.0 or later}, or",
        ),
        (
            [H100],
            Os(family="flatcar", release="stable"),
            None,
            "flatcar stable is no version",
            "write os: {family: flatcar",
        ),
        (
            [H100],
            Os(family="flatcar", release="3602.2.0"),
            None,
            "no driver is known for flatcar 3602.2.0; there are for 3637.0.0, 4344.0.0, 4593.0.0",
            "write os: ",
        ),
        (
            [H100],
            Os(family="debian", release="14"),
            None,
            "no driver is known for debian 14; there are for 13",
            "write",
        ),
        (
            [H100],
            Os(family="templeos", release="5"),
            None,
            "no driver is known for templeos",
            "write os: {family: flatcar",
        ),
        (
            ["2342"],
            FLATCAR,
            None,
            "GH200 is part of an arm64 machine, and images are for amd64",
            "write installCuda: false",
        ),
        (
            ["3182"] * 8,
            FLATCAR,
            None,
            "B300 SXM6 AC wants driver 580 or later; flatcar 4593.2.5 offers",
            "write installCuda",
        ),
    ],
)
def test_a_machine_without_a_driver_is_told_why_and_what_would_work(
    devices: list[str], os: Os, cuda: str | None, reason: str, nearest: str
) -> None:
    found = resolve(devices, os, Gpu(cuda_version=cuda))

    assert isinstance(found, Refusal)
    assert found.reason.startswith(reason)
    assert found.nearest.startswith(nearest)
    assert str(found) == f"{found.reason}; {found.nearest}"


def test_none_is_installed_where_none_is_wanted_or_there_is_nothing_to_drive() -> None:
    assert str(resolve([UNKNOWN], COREOS, Gpu(install_cuda=False))) == "no driver: installCuda is false"
    assert str(for_any(COREOS, Gpu(install_cuda=False))) == "no driver: installCuda is false"
    assert resolve([], COREOS, Gpu()) == NoDriver("no NVIDIA GPU")


def test_before_any_gpu_is_known_only_the_system_and_cuda_can_be_refused() -> None:
    assert isinstance(for_any(FLATCAR, Gpu(cuda_version="12.8")), Choice)
    assert str(for_any(DEBIAN_13, Gpu(cuda_version="12.8"))).startswith(
        "CUDA 12.8 wants driver 570 or later; debian 13 offers 535 (closed), 550 (closed, open); write cudaVersion: "
    )
    assert isinstance(for_any(COREOS, Gpu()), Refusal)


def test_a_flavour_that_nobody_offers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Source(
        family="debian", since="1", only=True, branch=570, flavour=Flavour.CLOSED, route=Route.PACKAGES
    )
    monkeypatch.setattr("bootstrap.gpu.choosing.SOURCES", (row,))

    found = choice((BY_KEY["b200"],), Os(family="debian", release="1"), None)

    assert found == "B200 wants the open kernel modules; debian 1 offers 570 (closed)"


def test_a_driver_that_was_seen_not_to_build_is_refused_with_that(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = (
        Source(
            family="debian", since="13", only=True, branch=branch, flavour=Flavour.CLOSED, route=Route.PACKAGES,
            broken=reason,
        )
        for branch, reason in ((535, ""), (550, "550 does not build for it"))
    )  # fmt: skip
    monkeypatch.setattr("bootstrap.gpu.choosing.SOURCES", (whole, broken))

    found = choice((), DEBIAN_13, None)
    assert isinstance(found, Choice)
    assert found.source == whole
    refused = resolve([H100], DEBIAN_13, Gpu(cuda_version="12.4"))
    assert str(refused) == '550 does not build for it; write cudaVersion: "12.2", or leave it out'
    refused = resolve([H100], DEBIAN_13, Gpu(driver=550))
    assert str(refused) == "550 does not build for it; write driver: 535, or leave it out"


def test_prebuilt_modules_come_before_those_that_are_compiled_at_the_first_boot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [
        Source(family="debian", since="1", branch=535, flavour=flavour, route=route, names=("n",), suite="s")
        for route in Route
        for flavour in Flavour
    ]
    monkeypatch.setattr("bootstrap.gpu.choosing.SOURCES", tuple(rows))
    found = choice((BY_KEY["h100-pcie"],), Os(family="debian", release="1"), None)

    assert isinstance(found, Choice)
    assert (found.source.route, found.source.flavour) == (Route.SYSEXT, Flavour.CLOSED)


@pytest.mark.parametrize(
    ("os", "device", "text"),
    [
        (
            FLATCAR,
            H100,
            (
                "driver 570 (open), sysext nvidia-drivers-570-open; boards of eight H100 80GB HBM3 need NVIDIA's "
                "fabric manager too, which is not offered there; NVIDIA's updates of 570 end 2026-02"
            ),
        ),
        (
            FLATCAR,
            "2331",
            "driver 570 (open), sysext nvidia-drivers-570-open; NVIDIA's updates of 570 end 2026-02",
        ),
        (
            OLD_FLATCAR,
            "2331",
            (
                "driver 535.274.02 (closed), compiled by nvidia.service at the first boot; nobody has seen its "
                "modules built for this release's kernel; its modules are not signed: Secure Boot must be off; "
                "NVIDIA's updates of 535 end 2026-06"
            ),
        ),
        (
            DEBIAN_13,
            "2331",
            (
                "driver 550.163.01 (closed), packages nvidia-kernel-dkms nvidia-smi libcuda1 of trixie/non-free; "
                "its modules are not signed: Secure Boot must be off; NVIDIA's updates of 550 end 2025-08 or before"
            ),
        ),
    ],
)
def test_a_choice_is_one_line_with_what_is_to_be_known_of_it(os: Os, device: str, text: str) -> None:
    assert str(resolve([device], os, Gpu())) == text


def test_products_stand_once_and_unknown_ids_are_none() -> None:
    assert [one.key for one in products_of([B200, K80, B200, UNKNOWN, A100])] == [
        "k80",
        "a100-sxm4-80gb",
        "b200",
    ]


@pytest.mark.parametrize(
    ("os", "branch", "said"),
    [
        (FLATCAR, 550, "driver 550 (closed), sysext nvidia-drivers-550"),
        (DEBIAN_13, 535, "driver 535.274.02 (closed)"),
        (DEBIAN_13, 550, "driver 550.163.01 (closed)"),
        (DEBIAN_13, 580, "driver 580 is wanted; debian 13 offers 535 (closed), 550 (closed, open)"),
    ],
)
def test_a_pool_may_name_the_branch(os: Os, branch: int, said: str) -> None:
    found = resolve([H100], os, Gpu(driver=branch))

    assert said in str(found)
    if isinstance(found, Refusal):
        assert found.nearest == "write driver: 550, or leave it out"


def test_a_branch_that_the_gpus_cannot_use_is_refused_by_that() -> None:
    found = resolve([B200], FLATCAR, Gpu(driver=535))

    assert str(found).endswith("; write driver: 570, or leave it out")
