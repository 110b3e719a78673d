"""Which driver a pool's image and nodes get, and what is offered in place of one that does not build."""

import dataclasses
from collections.abc import Iterator

import pytest

from bootstrap.gpu import images
from bootstrap.gpu.rows import Route, Source
from bootstrap.gpu.table import SOURCES
from bootstrap.model import Pool
from tests.unit.gpu.machines import pool


@pytest.fixture
def hopeful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A table in which 550 was not tried yet on Debian 13."""
    whole = tuple(
        dataclasses.replace(row, broken="", built="") if row.branch == 550 else row for row in SOURCES
    )
    monkeypatch.setattr("bootstrap.gpu.choosing.SOURCES", whole)
    images.forget()
    yield
    images.forget()


def driver(found: Pool) -> Source:
    source = images.driver_of(found)
    assert source is not None
    return source


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (pool("debian", "13"), "550 (closed)"),
        (pool("debian", "13", products=("h100-sxm",), expected=8), "550 (closed)"),
        (pool("debian", "13", driver=535), "535 (closed)"),
        (pool("debian", "13", install_cuda=False), ""),
        (pool("debian", "13", products=("b200",)), ""),
        (pool("flatcar", "4593.2.5"), ""),
        (pool("fedora-coreos", "42.1.1"), ""),
        (pool("debian", "13").model_copy(update={"gpu": None}), ""),
    ],
)
def test_the_image_holds_a_driver_where_it_is_built_here(found: Pool, wanted: str) -> None:
    assert images.image_driver(found) == wanted
    assert (images.in_image(found) is not None) == bool(wanted)


def test_flatcar_brings_its_driver_by_itself() -> None:
    assert driver(pool("flatcar", "4593.2.5")).route is Route.SYSEXT
    assert images.in_image(pool("flatcar", "4593.2.5")) is None


def test_debian_s_packages_are_the_modules_source_first_and_all_of_one_branch() -> None:
    source = driver(pool("debian", "13"))

    assert source.names[0].endswith("-dkms")
    assert "nvidia-persistenced" in source.more
    assert [name for name in (*source.names[1:], *source.more) if name.endswith("-dkms")] == []


def test_without_another_driver_another_system_is_offered() -> None:
    found = pool("debian", "13", products=("h100-sxm",), cuda_version="12.4")

    assert images.instead(found, driver(found)) == (
        "write os: {family: flatcar, release: 4593.0.0 or later}, or write installCuda: false for no driver"
    )


@pytest.mark.usefixtures("hopeful")
def test_another_driver_of_the_release_is_offered_with_the_kernel_it_was_seen_to_build_for() -> None:
    found = pool("debian", "13")
    assert driver(found).branch == 550

    said = images.instead(found, driver(found))

    built = next(row.built for row in SOURCES if row.since == "13" and row.branch == 535)
    assert said == f"write driver: 535: 535.274.02 was seen to build for {built}"
    assert driver(pool("debian", "13", driver=535)).branch == 535


@pytest.mark.usefixtures("hopeful")
def test_a_driver_that_nobody_saw_build_is_offered_without_that() -> None:
    found = pool("debian", "13", driver=535)

    assert images.instead(found, driver(found)) == "write driver: 550"


@pytest.mark.usefixtures("hopeful")
def test_the_same_branch_in_the_other_flavour_is_no_way_out() -> None:
    closed = next(row for row in SOURCES if row.flavour == "closed" and row.branch == 550 and row.suite)

    assert images.instead(pool("debian", "13"), closed).startswith("write driver: 535")
