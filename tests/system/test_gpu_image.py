"""The image of a pool with GPUs: NVIDIA's modules for its very kernel, and what is said of those that do not build.

No GPU is here: that the modules drive one is not seen.
"""

import dataclasses
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap import artifacts, image, steps
from bootstrap.artifacts import Manifest
from bootstrap.gpu import images
from bootstrap.gpu.rows import Flavour
from bootstrap.gpu.table import SOURCES
from bootstrap.image.modules import folder
from bootstrap.progress import silent
from bootstrap.workplace import Workplace
from tests.system import gpu_pool
from tests.system.image_archive import names_in_initrd
from tests.system.image_root import unpacked, within
from tests.system.maker_rack import Said
from tests.system.spine import CACHE

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return image.build(gpu_pool.options(), CACHE, silent)


@pytest.fixture(scope="module")
def root(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with unpacked(manifest, tmp_path_factory.mktemp("image")) as found:
        yield found


def test_the_image_is_another_one_than_that_without_a_driver(manifest: Manifest) -> None:
    title = gpu_pool.source().title
    assert (manifest.driver, manifest.driver_version) == (title, gpu_pool.source().version)
    assert artifacts.find_manifest(CACHE, "debian", "13", "cloud", title) == manifest
    assert artifacts.find_manifest(CACHE, "debian", "13", "cloud") != manifest


@pytest.mark.parametrize("module", gpu_pool.MODULES)
def test_modinfo_shows_the_drivers_version_for_the_images_kernel(
    manifest: Manifest, root: Path, module: str
) -> None:
    kernel = manifest.kernel_version

    assert [path.name for path in (root / "usr/lib/modules").iterdir()] == [kernel]
    version = within(root, "modinfo", "-k", kernel, "-F", "version", module).strip()
    assert version in (
        {manifest.driver_version} if module != "nvidia-peermem" else {manifest.driver_version, ""}
    )
    assert within(root, "modinfo", "-k", kernel, "-F", "vermagic", module).startswith(f"{kernel} ")


def test_modprobe_finds_them_and_what_they_depend_on(manifest: Manifest, root: Path) -> None:
    found = within(root, "modprobe", "-S", manifest.kernel_version, "--show-depends", "nvidia-uvm")

    names = [Path(line.split()[1]).name for line in found.splitlines()]
    assert names[-2:] == ["nvidia.ko.xz", "nvidia-uvm.ko.xz"]
    loaded = (root / "etc/modules-load.d/firstlight-nvidia.conf").read_text().splitlines()
    assert loaded[-2:] == ["nvidia", "nvidia-uvm"]


def test_nouveau_is_blacklisted_in_the_system_and_in_its_initrd(manifest: Manifest, root: Path) -> None:
    shown = within(root, "modprobe", "-S", manifest.kernel_version, "--showconfig").splitlines()

    assert "blacklist nouveau" in shown
    assert "options nouveau modeset=0" in shown
    initrd = names_in_initrd(root / f"boot/initrd.img-{manifest.kernel_version}")
    assert "etc/modprobe.d/firstlight-nvidia.conf" in {name.removeprefix("usr/") for name in initrd}


def test_nvidia_smi_is_there_and_is_of_the_drivers_version(manifest: Manifest, root: Path) -> None:
    assert f"v{manifest.driver_version}" in within(root, "nvidia-smi", "--help")
    assert "couldn't communicate with the NVIDIA driver" in within(root, "nvidia-smi", check=False)
    libraries = {path.name for path in root.glob("usr/lib/x86_64-linux-gnu/**/libcuda.so.*")}
    assert f"libcuda.so.{manifest.driver_version}" in libraries
    assert list(root.glob(f"usr/lib/firmware/nvidia/{manifest.driver_version}/gsp_*.bin"))


def test_the_persistence_daemon_starts_where_the_driver_is(root: Path) -> None:
    assert within(root, "systemctl", "is-enabled", "nvidia-persistenced").strip() == "enabled"
    more = root / "etc/systemd/system/nvidia-persistenced.service.d/10-firstlight.conf"
    assert "ConditionPathExists=/proc/driver/nvidia/version\n" in more.read_text()


def test_kernel_and_driver_stay_a_pair(manifest: Manifest, root: Path) -> None:
    held = set(within(root, "apt-mark", "showhold").split())

    assert {"linux-image-cloud-amd64", f"linux-image-{manifest.kernel_version}"} <= held
    assert {*gpu_pool.source().names[1:], "nvidia-persistenced"} <= held


def test_nothing_that_built_it_is_left(root: Path) -> None:
    installed = within(root, "dpkg-query", "--show", "--showformat=${Package}\n").split()

    assert not [name for name in installed if re.fullmatch(r"gcc|make|linux-headers-.*|.*dkms", name)]
    assert not list(root.glob("usr/src/*"))


def test_a_second_build_and_an_update_without_news_return_the_same(manifest: Manifest) -> None:
    began = time.monotonic()
    assert image.build(gpu_pool.options(), CACHE, silent) == manifest
    assert time.monotonic() - began < 10

    assert image.build(gpu_pool.options(), CACHE, silent, update=True) == manifest


@pytest.fixture
def hopeful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A table where 550 has open modules only, and nobody knows yet that they do not build."""
    rows = tuple(
        dataclasses.replace(row, broken="")
        for row in SOURCES
        if (row.since, row.branch, row.flavour) != ("13", 550, Flavour.CLOSED)
    )
    monkeypatch.setattr("bootstrap.gpu.choosing.SOURCES", rows)
    images.forget()
    yield
    images.forget()


@pytest.mark.usefixtures("hopeful")
def test_a_driver_that_does_not_build_is_one_line_that_offers_the_one_that_does(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRSTLIGHT_CACHE", str(CACHE))
    place = Workplace(tmp_path, "gpus")
    said = Said()
    run = steps.Run(configs=(tmp_path / "rack.yaml",), place=place, cluster=gpu_pool.cluster(), reporter=said)
    before = {path.name for path in (CACHE / "images").iterdir()}

    assert steps.build_images(run).stays == ("debian 13 (cloud kernel), driver 550 (open)",)

    (text,) = (line for line in said.lines if line.startswith("NVIDIA driver"))
    assert "\n" not in text
    assert re.match(
        rf"NVIDIA driver 550\S+ does not build for kernel {re.escape(manifest.kernel_version)}: nv-pci\.c:\d+: ",
        text,
    )
    assert f"; the image of {manifest.built} with {manifest.driver_version} for " in text
    assert "; write driver: 535: 535.274.02 was seen to build for " in text
    log = Path(text.partition("(log: ")[2].partition(";")[0])
    assert "pci_resize_resource" in log.read_text()
    assert log.parent == folder(place.cache)
    assert {path.name for path in (CACHE / "images").iterdir()} == before
    assert artifacts.find_manifest(CACHE, "debian", "13", "cloud", manifest.driver) == manifest
