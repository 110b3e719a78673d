"""When Debian is asked for its kernel and driver, and which image is taken then."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap import artifacts
from bootstrap.artifacts import Manifest
from bootstrap.image import builder, debian, modules, recipe
from bootstrap.image.modules import DriverError, Modules
from bootstrap.image.recipe import Driver, Options, Pair
from bootstrap.progress import Progress, silent

OPTIONS = Options(
    kernel="cloud",
    driver=Driver(title="550 (closed)", branch=550, source="nvidia-dkms", packages=("nvidia-smi",)),
)
OLD = Pair(kernel="6.12.107", kernel_package="6.12.107-1", driver_package="550.163.01-2")
NEW = replace(OLD, kernel="6.12.117", kernel_package="6.12.117-1")


class Debian:
    """Offers a pair, and builds images of nothing."""

    def __init__(self, cache: Path) -> None:
        self.cache, self.pair, self.asked, self.built = cache, OLD, 0, 0
        self.breaks = False

    def offered(self, options: Options, work: Path) -> Pair:
        del options, work
        self.asked += 1
        return self.pair

    def modules(self, options: Options, pair: Pair, cache: Path, work: Path, progress: Progress) -> Modules:
        del cache, work, progress
        if self.breaks:
            raise DriverError(f"does not build for {pair.kernel}", pair)
        return Modules(key=recipe.modules_key(options, pair), pair=pair)

    def finish(self, job: debian.Build) -> Manifest:
        assert job.modules is not None
        self.built += 1
        source = self.cache.with_name("source")
        source.write_text(job.key)
        file = artifacts.import_file(self.cache, source)
        made = Manifest(
            key=job.key,
            family="debian",
            release="13",
            kernel_flavour="cloud",
            kernel_version=job.modules.pair.kernel,
            built="2026-11-23T13:57:11Z",
            kernel=file,
            initrd=file,
            disk=file,
            raw_size=1,
            driver="550 (closed)",
            driver_version=job.modules.pair.driver,
            recipe=recipe.key(job.options),
        )
        artifacts.save_manifest(self.cache, made)
        return made


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Debian:
    found = Debian(tmp_path / "cache")
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731
    monkeypatch.setattr(builder, "check", nothing)
    monkeypatch.setattr(modules, "offered", found.offered)
    monkeypatch.setattr(modules, "build", found.modules)
    monkeypatch.setattr(debian, "bootstrap_root", nothing)
    monkeypatch.setattr(debian, "finish", found.finish)
    return found


def build(there: Debian, *, update: bool = False) -> Manifest:
    return debian.build(OPTIONS, there.cache, silent, update=update)


def test_a_second_build_takes_the_pair_that_is_there_and_asks_nobody(there: Debian) -> None:
    first = build(there)
    there.pair = NEW

    assert build(there) == first
    assert (there.asked, there.built) == (1, 1)
    assert first.key == recipe.key(OPTIONS, pair=OLD)


def test_an_update_without_news_builds_nothing(there: Debian) -> None:
    first = build(there)

    assert build(there, update=True) == first
    assert (there.asked, there.built) == (2, 1)


def test_an_update_builds_the_pair_that_debian_has_now_and_it_stays(there: Debian) -> None:
    first = build(there)
    there.pair = NEW

    second = build(there, update=True)

    assert (second.kernel_version, there.built) == ("6.12.117", 2)
    assert second.key != first.key
    assert build(there) == second
    assert artifacts.find_manifest(there.cache, "debian", "13", "cloud", "550 (closed)") == second


def test_an_update_that_does_not_build_leaves_the_last_good_pair(there: Debian) -> None:
    first = build(there)
    there.pair, there.breaks = NEW, True

    with pytest.raises(DriverError, match=r"6\.12\.117"):
        build(there, update=True)

    assert build(there) == first
    assert artifacts.find_manifest(there.cache, "debian", "13", "cloud", "550 (closed)") == first
    assert not list((there.cache / "building").glob("debian-*"))


def test_an_image_without_a_driver_is_never_asked_about(there: Debian) -> None:
    plain = replace(OPTIONS, driver=None)
    made = replace(build(there), key=recipe.key(plain), driver="", recipe=recipe.key(plain))
    artifacts.save_manifest(there.cache, made)
    there.asked = 0

    assert debian.build(plain, there.cache, silent, update=True) == made
    assert there.asked == 0


def test_the_hook_is_told_of_the_version_that_modules_and_libraries_must_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, str] = {}
    assert OPTIONS.driver is not None
    options = replace(OPTIONS, driver=replace(OPTIONS.driver, paired=("nvidia-smi", "libcuda1")))
    job = debian.Build(
        options=options, key="k", cache=tmp_path, work=tmp_path, epoch=0, progress=silent,
        modules=Modules(key="m", pair=OLD),
    )  # fmt: skip
    (job.tree / "firstlight").mkdir(parents=True)
    monkeypatch.setattr(debian, "run", lambda *_, env, **__: told.update(env))

    debian.bootstrap_root(job, "trixie")

    assert (told["FL_DRIVER"], told["FL_PAIRED"]) == ("550.163.01", "nvidia-smi libcuda1")


def test_the_cards_of_the_computer_that_builds_an_image_do_not_matter(tmp_path: Path) -> None:
    """A legacy card there ended the build: nvidia-legacy-check asks, and takes no answer for a refusal."""
    argv = debian.mmdebstrap_argv(OPTIONS, "trixie", tmp_path)

    (hook,) = (word for word in argv if word.startswith("--essential-hook="))
    assert hook == (
        "--essential-hook=echo nvidia-legacy-check nvidia-driver/check-for-unsupported-gpu boolean false"
        ' | chroot "$1" debconf-set-selections'
    )
    plain = debian.mmdebstrap_argv(replace(OPTIONS, driver=None), "trixie", tmp_path)
    assert not any("essential-hook" in word for word in plain)
