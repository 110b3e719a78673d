import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap.errors import ImageError
from bootstrap.image import recipe
from bootstrap.image.debian import COMPONENTS, INSTALLED, STEPS, _Steps, mmdebstrap_argv
from bootstrap.image.recipe import Driver, Options, Pair

CLOUD = Options(kernel="cloud")
DRIVER = Driver(title="535 (closed)", branch=535, source="nvidia-dkms", packages=("nvidia-smi", "libcuda1"))
WITH_DRIVER = Options(kernel="cloud", driver=DRIVER)
PAIR = Pair(kernel="6.12.117-cloud-amd64", kernel_package="6.12.117-1", driver_package="535.274.02-1")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    return Path(shutil.copytree(recipe.TEXTS, tmp_path / "image"))


def test_the_same_input_gives_the_same_key(texts: Path) -> None:
    assert recipe.key(CLOUD) == recipe.key(CLOUD, texts)


@pytest.mark.parametrize(
    "other",
    [
        Options(kernel="server"),
        Options(kernel="cloud", release="14"),
        Options(kernel="cloud", packages=("vim-tiny",)),
        Options(kernel="cloud", mirror="http://10.0.0.1/debian"),
        WITH_DRIVER,
    ],
)
def test_each_option_changes_the_key(other: Options) -> None:
    assert recipe.key(other) != recipe.key(CLOUD)


def test_every_text_changes_the_key_and_those_of_drivers_only_with_one(texts: Path) -> None:
    before, before_with = recipe.key(CLOUD), recipe.key(WITH_DRIVER)
    files = [file for file in texts.rglob("*") if file.is_file() and file.parent.name != "host"]

    for file in files:
        content = file.read_bytes()
        file.write_bytes(content + b"#\n")
        assert (recipe.key(CLOUD, texts) == before) == file.is_relative_to(texts / "driver"), file
        assert recipe.key(WITH_DRIVER, texts) != before_with, file
        file.write_bytes(content)
    assert len(files) > 8
    assert recipe.key(CLOUD, texts) == before


def test_an_image_with_a_driver_is_named_by_its_pair() -> None:
    names = {
        recipe.key(WITH_DRIVER, pair=pair)
        for pair in (
            None,
            PAIR,
            replace(PAIR, kernel="6.12.120-cloud-amd64"),
            replace(PAIR, driver_package="535.1-1"),
        )
    }

    assert len(names) == 4
    assert recipe.key(WITH_DRIVER, pair=PAIR) == recipe.key(WITH_DRIVER, pair=replace(PAIR))


@pytest.mark.parametrize(
    ("package", "driver"),
    [("535.274.02-1~deb13u1", "535.274.02"), ("1:550.163.01-2", "550.163.01"), ("570.1", "570.1")],
)
def test_the_drivers_version_is_in_its_packages(package: str, driver: str) -> None:
    assert replace(PAIR, driver_package=package).driver == driver


def test_a_drivers_packages_are_in_its_image_without_the_source_of_its_modules() -> None:
    names = recipe.packages(WITH_DRIVER)

    assert names[-2:] == ("nvidia-smi", "libcuda1")
    assert "nvidia-dkms" not in names
    argv = mmdebstrap_argv(WITH_DRIVER, "trixie", Path("root"))
    assert "--components=main,contrib,non-free,non-free-firmware" in argv


def test_a_file_that_becomes_executable_changes_the_key(texts: Path) -> None:
    (texts / "esp" / "grub.cfg").chmod(0o755)

    assert recipe.key(CLOUD, texts) != recipe.key(CLOUD)


def test_the_builder_itself_changes_the_key(tmp_path: Path) -> None:
    code = Path(shutil.copytree(recipe.CODE, tmp_path / "code", ignore=shutil.ignore_patterns("__pycache__")))
    assert recipe.key(CLOUD, code=code) == recipe.key(CLOUD)

    (code / "disk.py").write_text("")
    assert recipe.key(CLOUD, code=code) != recipe.key(CLOUD)


def test_an_image_and_the_root_of_the_labs_hosts_have_keys_of_their_own(texts: Path) -> None:
    (texts / "host" / "packages").write_text("systemd\n")
    assert recipe.key(CLOUD, texts) == recipe.key(CLOUD)
    assert recipe.host_key(None, texts) != recipe.host_key(None)

    (texts / "debian" / "packages" / "base").write_text("systemd\n")
    assert recipe.key(CLOUD, texts) != recipe.key(CLOUD)
    assert recipe.host_key(None, texts) != recipe.host_key(None)


def test_the_mirror_and_the_builder_of_the_hosts_root_change_its_key(tmp_path: Path) -> None:
    code = Path(shutil.copytree(recipe.CODE, tmp_path / "code", ignore=shutil.ignore_patterns("__pycache__")))
    assert recipe.host_key("http://10.0.0.1/debian") != recipe.host_key(None)
    assert recipe.host_key(None, code=code) == recipe.host_key(None)

    (code / "host.py").write_text("")
    assert recipe.host_key(None, code=code) != recipe.host_key(None)
    assert recipe.key(CLOUD, code=code) == recipe.key(CLOUD)

    shutil.copy(recipe.CODE / "host.py", code)
    (code / "builder.py").write_text("")
    assert recipe.host_key(None, code=code) != recipe.host_key(None), "it serves both"
    assert recipe.key(CLOUD, code=code) != recipe.key(CLOUD)


def test_packages_are_ours_then_the_kernels_then_the_configurations() -> None:
    names = recipe.packages(Options(kernel="cloud", packages=("lldpd", "systemd")))

    assert names[0] == "systemd"
    assert names[-2:] == ("linux-image-cloud-amd64", "lldpd")
    assert len(set(names)) == len(names)
    assert not any(name.startswith("#") or " " in name for name in names)


@pytest.mark.parametrize(
    "package", ["openssh-server", "containerd", "containernetworking-plugins", "ignition", "sudo"]
)
def test_what_a_node_needs_is_in_every_image(package: str) -> None:
    for kernel in recipe.FLAVOURS:
        assert package in recipe.packages(Options(kernel=kernel))


def test_an_unknown_release_or_kernel_is_refused_with_the_choices() -> None:
    with pytest.raises(ImageError, match="Debian '7' cannot be built; one of: 13"):
        recipe.suite(Options(release="7"))
    with pytest.raises(ImageError, match="kernel 'tiny' is not one of: cloud, server"):
        recipe.suite(Options(kernel="tiny"))


def test_every_kernel_has_its_components() -> None:
    assert set(COMPONENTS) == set(recipe.FLAVOURS)


def test_the_mirror_comes_last_and_only_when_given() -> None:
    plain = mmdebstrap_argv(CLOUD, "trixie", Path("root"))
    mirrored = mmdebstrap_argv(
        Options(kernel="cloud", mirror="http://10.0.0.1/debian"), "trixie", Path("root")
    )

    assert plain[-2:] == ("trixie", "root")
    assert mirrored[-3:] == ("trixie", "root", "http://10.0.0.1/debian")


def test_progress_never_goes_back_and_names_packages() -> None:
    told: list[tuple[str, int | None]] = []

    def tell(what: str, done: int | None = None, total: int | None = None) -> None:
        assert total == 100
        told.append((what, done))

    steps = _Steps(tell)
    lines = [
        "I: running apt-get update...",
        "I: installing essential packages...",
        "Setting up early (1) ...",
        "I: installing remaining packages inside the chroot...",
        "0 upgraded, 9 newly installed, 0 to remove and 0 not upgraded.",
        *(f"Get:{n} http://m/debian trixie/main amd64 package{n} amd64 1.0 [1 kB]" for n in range(9)),
        *(f"Unpacking package{n} (1.0) ..." for n in range(9)),
        *(f"Setting up package{n}:amd64 (1.0) ..." for n in range(9)),
        "firstlight-step: boot loaders",
        "firstlight-step: clearing what must differ between machines",
    ]
    for line in lines:
        steps(line)

    percents = [percent for _, percent in told if percent is not None]
    assert percents == sorted(percents)
    assert told[-3] == ("installing packages: package8", INSTALLED)
    assert [what for what, _ in told].count("installing packages: package8") == 3
    assert "installing packages: early" not in [what for what, _ in told]


def test_more_lines_than_expected_stay_below_the_next_step() -> None:
    told: list[int | None] = []
    steps = _Steps(lambda _, done=None, total=None: told.append(done if total else None))
    for line in ("I: installing remaining packages", *["Setting up libc6:amd64 (1) ..."] * 9):
        steps(line)

    assert max(percent for percent in told if percent) == INSTALLED


def test_the_steps_are_told_by_the_hook_that_makes_them() -> None:
    hook = (recipe.TEXTS / "debian" / "customize").read_text()

    for text, _, _ in STEPS:
        if text.startswith("firstlight-step: "):
            assert f'step "{text.removeprefix("firstlight-step: ")}' in hook
