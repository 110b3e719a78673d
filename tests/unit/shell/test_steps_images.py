"""`image build` where the driver of a pool does not build: what is said, and what stays."""

from pathlib import Path

import pytest

from bootstrap import artifacts, packages, steps
from bootstrap.artifacts import Artifact, Manifest
from bootstrap.image import host
from bootstrap.image.modules import DriverError
from bootstrap.image.recipe import Options, Pair
from bootstrap.pool_images import image_for
from bootstrap.progress import Progress
from bootstrap.workplace import Workplace
from tests.system import gpu_pool
from tests.system.maker_rack import Said

PAIR = Pair(kernel="6.12.120", kernel_package="6.12.120-1", driver_package="550.163.01-2")
SAID = "NVIDIA driver 550.163.01 does not build for kernel 6.12.120: nv.c:1: no (log: /c/modules/k.log)"
OFFER = "write driver: 535: 535.274.02 was seen to build for 6.12.107"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> steps.Run:
    monkeypatch.setattr(packages, "ensure", lambda *_: ())
    monkeypatch.delenv("FIRSTLIGHT_CACHE", raising=False)
    place = Workplace(tmp_path, "gpus")
    cluster = gpu_pool.cluster()
    return steps.Run(configs=(tmp_path / "rack.yaml",), place=place, cluster=cluster, reporter=Said())


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(options: Options, cache: Path, progress: Progress, *, update: bool) -> Manifest:
        del options, cache, progress, update
        raise DriverError(SAID, PAIR)

    monkeypatch.setattr(steps, "build", build)


def stored(run: steps.Run, driver: str = "550 (closed)", kernel: str = "6.12.117") -> Manifest:
    source = run.place.deploy / "file"
    source.write_bytes(b"file")
    file: Artifact = artifacts.import_file(run.place.cache, source)
    made = Manifest(
        key="k1",
        family="debian",
        release="13",
        kernel_flavour="cloud",
        kernel_version=kernel,
        built="2026-11-22T02:32:05Z",
        kernel=file,
        initrd=file,
        disk=file,
        raw_size=1,
        driver=driver,
        driver_version="550.163.01" if driver else "",
    )
    artifacts.save_manifest(run.place.cache, made)
    return made


@pytest.mark.usefixtures("failing")
def test_what_works_instead_is_offered_on_the_same_line(run: steps.Run) -> None:
    with pytest.raises(DriverError) as refused:
        steps.build_images(run)

    assert str(refused.value) == f"{SAID}; {OFFER}"
    assert refused.value.exit_code == 1


STAYS = f"{SAID}; the image of 2026-11-22T02:32:05Z with 550.163.01 for 6.12.117 stays; {OFFER}"


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("update", [False, True])
def test_a_driver_that_does_not_build_ends_nothing_where_a_good_image_is_there(
    run: steps.Run, monkeypatch: pytest.MonkeyPatch, *, update: bool
) -> None:
    """After an upgrade of firstlight the key is another one, so that what is there is built anew."""
    good, later = stored(run), []
    before = sorted(path.name for path in run.place.cache.rglob("*"))
    monkeypatch.setattr(host, "for_lab", lambda *_: later.append("lab"))

    made = steps.build_images(run, update=update)

    assert made == steps.Built(stays=("debian 13 (cloud kernel), driver 550 (closed)",))
    assert later == ["lab"]
    assert STAYS in run.reporter.lines  # type: ignore[attr-defined]
    assert artifacts.find_manifest(run.place.cache, "debian", "13", "cloud", "550 (closed)") == good
    assert sorted(path.name for path in run.place.cache.rglob("*")) == before


@pytest.mark.usefixtures("failing")
def test_up_goes_on_to_serve_where_a_good_image_is_there(
    run: steps.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At the top it would hide `bootstrap.cli.run`, the function, from the modules that are collected later.
    from bootstrap.cli.run import EXIT_PARTLY, bring_up  # noqa: PLC0415

    stored(run)
    served: list[str] = []
    monkeypatch.setattr(host, "for_lab", lambda *_: None)

    def serve(*_: object, **__: object) -> tuple[str, ...]:
        served.append("served")
        return ()

    monkeypatch.setattr(steps, "serve", serve)

    assert bring_up(run, steps.Undo([])) == ((), EXIT_PARTLY)
    assert served == ["served"]
    assert not any("nothing changed" in line for line in run.reporter.lines)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("failing")
def test_a_table_with_a_later_driver_leaves_the_image_with_the_former_one(
    run: steps.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = stored(run, driver="535 (closed)")
    monkeypatch.setattr(host, "for_lab", lambda *_: None)

    assert steps.build_images(run).stays == ("debian 13 (cloud kernel), driver 550 (closed)",)
    assert STAYS in run.reporter.lines  # type: ignore[attr-defined]
    assert image_for(run.place.cache, run.cluster.pool("gpus")) == good


@pytest.mark.usefixtures("failing")
def test_an_image_without_a_driver_is_no_last_good_one(run: steps.Run) -> None:
    stored(run, driver="")

    with pytest.raises(DriverError) as refused:
        steps.build_images(run)
    assert "stays" not in str(refused.value)


def test_an_image_with_a_driver_is_told_with_its_pair(
    run: steps.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Options, bool]] = []

    def build(options: Options, cache: Path, progress: Progress, *, update: bool) -> Manifest:
        del cache, progress
        asked.append((options, update))
        return stored(run)

    monkeypatch.setattr(steps, "build", build)
    monkeypatch.setattr("bootstrap.image.host.for_lab", lambda *_: {})

    assert steps.build_images(run, update=True) == steps.Built(
        ("debian 13 (cloud kernel), driver 550 (closed)",)
    )
    assert run.reporter.lines[-1] == (  # type: ignore[attr-defined]
        "debian 13 (cloud kernel), driver 550 (closed): k1, NVIDIA 550.163.01 for 6.12.117"
    )
    ((options, update),) = asked
    assert update
    assert options.driver is not None
    assert options.driver.source == "nvidia-kernel-dkms"
