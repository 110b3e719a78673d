"""Pools with and without a GPU driver boot from different images of the same system."""

from dataclasses import replace
from pathlib import Path

from bootstrap import artifacts
from bootstrap.artifacts import Manifest
from bootstrap.model import Gpu, Pool
from tests.unit.gpu.machines import pool
from web.images import CachedImages

GPUS = pool("debian", "13")
PLAIN = GPUS.model_copy(update={"gpu": None})


def stored(cache: Path, key: str, driver: str = "") -> Manifest:
    source = cache.with_name("source")
    source.write_bytes(b"file")
    file = artifacts.import_file(cache, source)
    made = Manifest(
        key=key,
        family="debian",
        release="13",
        kernel_flavour="server",
        kernel_version="6.12.117",
        built="2026-11-23T13:57:11Z",
        kernel=file,
        initrd=file,
        disk=file,
        raw_size=4,
        driver=driver,
    )
    artifacts.save_manifest(cache, made)
    return made


def test_a_pool_boots_from_the_image_with_its_driver(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    plain, more, other = (
        stored(cache, "k1"),
        stored(cache, "k2", "550 (closed)"),
        stored(cache, "k3", "535 (closed)"),
    )
    found = CachedImages(cache)

    assert found(PLAIN) == plain
    assert found(GPUS) == more
    assert found(with_section(driver=535)) == other
    assert found(with_section(install_cuda=False)) == plain


def test_a_pool_waits_for_the_image_with_its_driver_and_takes_no_other(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    stored(cache, "k1")
    found = CachedImages(cache)

    assert found(GPUS) is None
    assert found.lack(GPUS) == "is not built - image build"


def test_until_the_image_with_a_later_driver_is_built_the_former_one_is_served(tmp_path: Path) -> None:
    """The table of drivers has a better one than at the time of the build; what was built then serves on."""
    cache = tmp_path / "cache"
    former = stored(cache, "k1", "535 (closed)")
    stored(cache, "k2")
    found = CachedImages(cache)
    assert found(GPUS) == former
    assert found(with_section(products=["h100-sxm"], cuda_version="12.2")) == former

    assert found(with_section(products=["h100-sxm"], cuda_version="12.4")) is None, "535 is too old for it"
    assert found(with_section(driver=550)) is None, "550 is what the pool says"

    later = stored(cache, "k3", "550 (closed)")
    assert CachedImages(cache)(GPUS) == later
    artifacts.set_aside(cache, later.disk)
    assert CachedImages(cache)(GPUS) is None, "a damaged image has no substitute"


def test_of_two_pairs_the_one_selected_last_is_served(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = stored(cache, "k1", "550 (closed)")
    second = replace(first, key="k2", kernel_version="6.12.120")
    artifacts.save_manifest(cache, second)
    assert CachedImages(cache)(GPUS) == second

    artifacts.select(cache, first)
    assert CachedImages(cache)(GPUS) == first


def with_section(**section: object) -> Pool:
    return GPUS.model_copy(update={"gpu": Gpu.model_validate(section)})
