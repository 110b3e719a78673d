"""The rows of the table of GPU facts hold together, and each of them decides what it says."""

import re

import pytest

from bootstrap.gpu.choosing import HOST, Choice, choice, offered
from bootstrap.gpu.resolver import resolve
from bootstrap.gpu.rows import (
    BOTH,
    ONLY_CLOSED,
    ONLY_OPEN,
    Cuda,
    Flavour,
    Generation,
    Product,
    Route,
    Source,
    numbers,
)
from bootstrap.gpu.table import BY_CUDA, BY_ID, BY_KEY, CUDA, ENDS, GENERATIONS, NO_DRIVER, PRODUCTS, SOURCES
from bootstrap.image import recipe
from bootstrap.model import Gpu, Os

# Written down from the sources a second time, apart from the table.
RANGES = {
    "Kepler": (346, 470, ONLY_CLOSED),
    "Maxwell": (346, 580, ONLY_CLOSED),
    "Pascal": (367, 580, ONLY_CLOSED),
    "Volta": (384, 580, ONLY_CLOSED),
    "Turing": (410, None, BOTH),
    "Ampere": (450, None, BOTH),
    "Ada": (520, None, BOTH),
    "Hopper": (525, None, BOTH),
    "Blackwell": (570, None, ONLY_OPEN),
}
# The MIG User Guide's table of supported GPUs; none before Ampere.
MIG = {
    **dict.fromkeys(("a100-pcie-40gb", "a100-pcie-80gb", "a100-sxm4-40gb", "a100-sxm4-80gb"), 450),
    "a30": 460,
    **dict.fromkeys(("h100-nvl", "h100-pcie", "h100-sxm", "h100-sxm-94gb", "gh200"), 525),
    "h20": 535,
    **dict.fromkeys(("h200-nvl", "h200-sxm"), 550),
    **dict.fromkeys(("b200", "gb200"), 570),
    **dict.fromkeys(("rtx-pro-4500", "rtx-pro-4500-server", "rtx-pro-5000"), 575),
    **dict.fromkeys(("rtx-pro-6000", "rtx-pro-6000-server"), 575),
    "b300": 580,
    "gb300": 595,
}
LATER = {
    "a30": 460,
    "h20": 535,
    "h200-nvl": 550,
    "h200-sxm": 550,
    "b300": 580,
    "gb300": 580,
    "rtx-pro-4500-server": 575,
    "rtx-pro-6000-server": 575,
}


def _row(product: Product, branch: int, flavour: Flavour) -> Choice | str:
    """Return what becomes of a product where one system offers just this branch in just this flavour."""
    row = Source(family="debian", since="1", only=True, branch=branch, flavour=flavour, route=Route.PACKAGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bootstrap.gpu.choosing.SOURCES", (row,))
        return choice((product,), Os(family="debian", release="1"), None)


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda one: one.name)
def test_each_generation_has_the_range_and_the_modules_of_the_sources(generation: Generation) -> None:
    assert (generation.first, generation.last, generation.flavours) == RANGES[generation.name]
    assert {generation.first_cuda, generation.last_cuda} - {None} <= BY_CUDA.keys()


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda one: one.key)
def test_each_product_gets_a_driver_of_its_range_and_flavour_and_no_other(product: Product) -> None:
    first, last = LATER.get(product.key, product.generation.first), product.generation.last
    ends = last or 999

    for flavour in Flavour:
        fits = flavour in RANGES[product.generation.name][2] and product.host == HOST
        for branch, works in (
            (first, fits),
            (ends, fits),
            (first - 1, False),
            (ends + 1, fits and last is None),
        ):
            assert isinstance(_row(product, branch, flavour), Choice) is works, (branch, flavour)


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda one: one.key)
def test_each_product_is_named_and_can_do_what_the_sources_say(product: Product) -> None:
    assert (product.has_mig, product.first_mig) == (product.key in MIG, MIG.get(product.key, 0))
    assert BY_KEY[product.key] is product
    assert re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", product.key)
    assert product.ids
    assert all(re.fullmatch(r"[0-9a-f]{4}", one) and BY_ID[one] is product for one in product.ids)
    assert numbers(product.first_cuda) >= numbers(product.generation.first_cuda)


def test_no_id_and_no_name_stands_in_two_rows() -> None:
    assert len(BY_ID) == sum(len(product.ids) for product in PRODUCTS)
    assert len(BY_KEY) == len({product.name for product in PRODUCTS}) == len(PRODUCTS)


@pytest.mark.parametrize("row", CUDA, ids=lambda one: one.version)
def test_each_cuda_version_wants_the_driver_of_its_toolkit(
    row: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        Source(
            family="debian", since="1", only=True, branch=branch, flavour=Flavour.CLOSED, route=Route.PACKAGES
        )
        for branch in (row.branch - 1, row.branch)
    ]
    there = Os(family="debian", release="1")
    monkeypatch.setattr("bootstrap.gpu.choosing.SOURCES", tuple(rows))
    enough = choice((), there, row.version)
    monkeypatch.setattr("bootstrap.gpu.choosing.SOURCES", tuple(rows[:1]))
    older = choice((), there, row.version)

    assert isinstance(enough, Choice)
    assert enough.source.branch == row.branch
    assert (
        older
        == f"CUDA {row.version} wants driver {row.branch} or later; debian 1 offers {row.branch - 1} (closed)"
    )


def test_a_newer_cuda_version_never_wants_an_older_driver() -> None:
    assert [row.version for row in CUDA] == sorted(BY_CUDA, key=numbers)
    assert [numbers(row.driver) for row in CUDA] == sorted(numbers(row.driver) for row in CUDA)


@pytest.mark.parametrize(
    "row", SOURCES, ids=lambda row: f"{row.family}-{row.since}-{row.branch}-{row.flavour}"
)
def test_each_offer_is_offered_from_its_release_on_and_names_what_to_install(row: Source) -> None:
    parts = numbers(row.since)
    before, after = (
        ".".join(map(str, (parts[0] - 1, *parts[1:]))),
        ".".join(map(str, (parts[0] + 1, *parts[1:]))),
    )

    assert row in offered(row.family, row.since)
    assert row not in offered(row.family, before)
    assert (row in offered(row.family, after)) is not row.only
    assert bool(row.names) is (row.route is not Route.SERVICE)
    assert bool(row.suite) is (row.route is Route.PACKAGES)
    assert not row.version or numbers(row.version)[0] == row.branch
    assert row.family not in NO_DRIVER
    assert not (row.built and row.broken)


@pytest.mark.parametrize(
    "row", SOURCES, ids=lambda row: f"{row.family}-{row.since}-{row.branch}-{row.flavour}"
)
def test_each_offer_is_chosen_where_nothing_better_is(row: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A GPU that both flavours can drive gets it, unless it was seen not to build.
    """
    monkeypatch.setattr("bootstrap.gpu.choosing.SOURCES", (row,))
    product = "k80" if row.branch <= 470 else "t4"

    found = choice((BY_KEY[product],), Os(family=row.family, release=row.since), None)

    if row.broken:
        assert found == row.broken
    else:
        assert isinstance(found, Choice)
        assert found.source is row
        for name in (*row.names, row.suite, row.version or str(row.branch), row.flavour):
            assert name in str(found)


def test_what_debian_is_offered_can_be_built_into_an_image() -> None:
    """Debian 12 was offered, and advised, and `image build` refused it."""
    assert {row.since for row in SOURCES if row.family == recipe.FAMILY} == set(recipe.SUITES)


def test_an_open_sysext_is_called_so() -> None:
    names = {row.names[0]: row.flavour for row in SOURCES if row.route is Route.SYSEXT}

    assert names == {
        f"nvidia-drivers-{branch}{ending}": flavour
        for branch in (535, 550, 570)
        for ending, flavour in (("", Flavour.CLOSED), ("-open", Flavour.OPEN))
    }


@pytest.mark.parametrize("branch", ENDS)
def test_each_end_is_a_month_and_is_told(branch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Source(
        family="debian", since="1", only=True, branch=branch, flavour=Flavour.OPEN, route=Route.PACKAGES
    )
    monkeypatch.setattr("bootstrap.gpu.choosing.SOURCES", (row,))

    assert re.fullmatch(r"20\d\d-(?:0\d|1[0-2])( or before)?", ENDS[branch])
    assert f"NVIDIA's updates of {branch} end {ENDS[branch]}" in str(
        choice((), Os(family="debian", release="1"), None)
    )


def test_no_branch_is_offered_without_a_word_on_how_long_it_is_mended() -> None:
    assert {row.branch for row in SOURCES} <= ENDS.keys()


@pytest.mark.parametrize("family", NO_DRIVER)
def test_a_family_without_a_driver_says_so_whatever_its_release(family: str) -> None:
    answer = str(resolve(["2330"], Os(family=family, release="42.20250803.3.0"), Gpu()))

    assert answer.startswith(
        f"{NO_DRIVER[family]}; write os: {{family: flatcar, release: 4593.0.0 or later}}"
    )


def test_thousands_of_digits_are_no_version_and_no_error_of_python() -> None:
    assert numbers("1.2.3") == (1, 2, 3)
    assert numbers("9" * 5001) == numbers("1." + "9" * 5001) == numbers("\u0661") == ()
