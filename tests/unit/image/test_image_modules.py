"""NVIDIA's modules: which pair Debian offers, made once, and what is said of a pair that does not build."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap.errors import ImageError
from bootstrap.image import modules, recipe
from bootstrap.image.modules import DriverError, Modules
from bootstrap.image.recipe import Driver, Options, Pair
from bootstrap.progress import silent

DRIVER = Driver(
    title="535 (closed)",
    branch=535,
    source="nvidia-tesla-535-kernel-dkms",
    packages=("nvidia-tesla-535-smi",),
)
OPTIONS = Options(kernel="cloud", driver=DRIVER)
PAIR = Pair(
    kernel="6.12.117+deb13-cloud-amd64", kernel_package="6.12.117-1", driver_package="535.274.02-1~deb13u1"
)
OFFER = """\
Inst linux-image-6.12.117+deb13-cloud-amd64 (6.12.117-1 Debian:13.8/stable, Debian-Security:13 [amd64])
Inst nvidia-tesla-535-kernel-dkms (535.274.02-1~deb13u1 Debian:13.8/stable [amd64])
Inst linux-image-cloud-amd64 (6.12.117-1 Debian:13.8/stable [amd64])
"""
# Says what apt would install, or does what our hook does: a log, and a tar or a failure.
MMDEBSTRAP = """#!/bin/sh
printf '%s\\n' "$*" >>"$FAKE/calls"
case " $* " in *" --simulate "*) cat "$FAKE/offer"; exit 0 ;; esac
env | grep ^FL_ | sort >"$FAKE/env"
cat "$FAKE/log" >"$FL_LOG"
cat "$FAKE/log"
[ ! -e "$FAKE/fails" ] || exit 1
printf tar >"$FL_OUT"
"""
BROKEN = """\
  CC [M]  nvidia/nv-pci.o
/firstlight/package/usr/src/x/nvidia/nv-pci.c: In function 'nv_resize_pcie_bars':
/firstlight/package/usr/src/x/nvidia/nv-pci.c:237:9: error: too few arguments to function 'pci_resize_resource'
/firstlight/package/usr/src/x/nvidia/nv-pci.c:240:9: error: another
make[2]: *** [nvidia/nv-pci.o] Error 1
"""


class Fake:
    """A folder with a mmdebstrap in it, and a cache."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache, self.work = folder, folder / "cache", folder / "work"
        self.work.mkdir()
        (folder / "mmdebstrap").write_text(MMDEBSTRAP)
        (folder / "mmdebstrap").chmod(0o755)
        (folder / "offer").write_text(OFFER)
        (folder / "log").write_text("  CC [M]  nvidia/nv-pci.o\n")

    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def build(self, pair: Pair = PAIR) -> Modules:
        return modules.build(OPTIONS, pair, self.cache, self.work, silent)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", f"{tmp_path}")
    monkeypatch.setattr(modules, "APART", ())
    return Fake(tmp_path)


def test_the_pair_is_what_apt_would_install(fake: Fake) -> None:
    assert modules.offered(OPTIONS, fake.work) == PAIR
    (call,) = fake.calls()
    assert "--include=linux-image-cloud-amd64,nvidia-tesla-535-kernel-dkms" in call
    assert "--components=main,contrib,non-free,non-free-firmware" in call
    assert PAIR.driver == "535.274.02"


@pytest.mark.parametrize(
    ("offer", "said"),
    [
        (OFFER.replace("535.274.02", "550.163.01"), "is 550.163.01 now, which is not 535 (closed)"),
        (
            OFFER.replace("Inst nvidia", "Conf nvidia"),
            "offers 1 kernels and nvidia-tesla-535-kernel-dkms (none)",
        ),
        (OFFER.replace("linux-image-6", "linux-perf-6"), "offers 0 kernels"),
    ],
)
def test_what_is_no_pair_is_refused(fake: Fake, offer: str, said: str) -> None:
    (fake.folder / "offer").write_text(offer)

    with pytest.raises(ImageError) as refused:
        modules.offered(OPTIONS, fake.work)
    assert said in str(refused.value)


def test_modules_are_made_once_for_a_pair(fake: Fake) -> None:
    made = fake.build()

    assert modules.archive(fake.cache, made).read_text() == "tar"
    assert (made.size, made.cause) == (3, "")
    assert fake.build() == made
    (call,) = fake.calls()
    assert "linux-headers-6.12.117+deb13-cloud-amd64=6.12.117-1" in call
    told = (fake.folder / "env").read_text()
    assert "FL_SOURCE=nvidia-tesla-535-kernel-dkms=535.274.02-1~deb13u1\n" in told
    assert "FL_KERNEL=6.12.117+deb13-cloud-amd64\n" in told

    other = fake.build(replace(PAIR, kernel="6.12.120+deb13-cloud-amd64"))
    assert other.key != made.key
    assert len(fake.calls()) == 2


def test_what_does_not_build_is_one_line_with_pair_cause_and_log(fake: Fake) -> None:
    (fake.folder / "fails").touch()
    (fake.folder / "log").write_text(BROKEN)

    with pytest.raises(DriverError) as refused:
        fake.build()

    text = str(refused.value)
    assert "\n" not in text
    assert text.startswith(
        "NVIDIA driver 535.274.02 does not build for kernel 6.12.117+deb13-cloud-amd64: "
        "nv-pci.c:237: too few arguments to function 'pci_resize_resource' (log: "
    )
    log, _, again = text.partition("(log: ")[2].rstrip(")").partition("; ")
    assert Path(log).read_text() == BROKEN
    assert again == f"to try it again remove {Path(log).with_suffix('.json')}"
    assert refused.value.pair == PAIR


def test_what_did_not_build_is_not_tried_again_before_its_record_goes(fake: Fake) -> None:
    (fake.folder / "fails").touch()
    (fake.folder / "log").write_text(BROKEN)
    for _ in range(2):
        with pytest.raises(DriverError) as refused:
            fake.build()
    assert len(fake.calls()) == 1

    Path(str(refused.value).partition("remove ")[2].rstrip(")")).unlink()
    (fake.folder / "fails").unlink()
    assert fake.build().size == 3


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (
            "ERROR: modpost: GPL-incompatible module nvidia.ko uses GPL-only symbol '__rcu_read_lock'\n",
            "modpost: GPL-incompatible module nvidia.ko uses GPL-only symbol '__rcu_read_lock'",
        ),
        (
            'ERROR: modpost: "drm_gem_object_free" [/x/nvidia-drm.ko] undefined!\nmake: *** Error 1\n',
            'modpost: "drm_gem_object_free" [/x/nvidia-drm.ko] undefined!',
        ),
        (
            "/x/common/inc/nv-linux.h:21:10: fatal error: linux/gone.h: No such file or directory\n",
            "nv-linux.h:21: linux/gone.h: No such file or directory",
        ),
    ],
)
def test_modules_that_a_kernel_does_not_link_or_has_no_header_for_do_not_build(
    fake: Fake, log: str, cause: str
) -> None:
    """They were no "does not build": no advice was given, and they were compiled again at each `up`."""
    (fake.folder / "fails").touch()
    (fake.folder / "log").write_text(f"  CC [M]  nvidia/nv.o\n{log}")

    for _ in range(2):
        with pytest.raises(DriverError) as refused:
            fake.build()
        assert f"does not build for kernel {PAIR.kernel}: {cause} (log: " in str(refused.value)
    assert len(fake.calls()) == 1


@pytest.mark.parametrize(
    "said",
    [
        "E: Version '6.12.117-1' for 'linux-headers-6.12.117+deb13-cloud-amd64' was not found",
        "E: Unable to locate package linux-headers-6.12.117+deb13-cloud-amd64",
        "E: Version '535.274.02-1~deb13u1' for 'nvidia-tesla-535-kernel-dkms' was not found",
    ],
)
def test_a_mirror_that_moves_between_the_pair_and_its_modules_is_one_line(fake: Fake, said: str) -> None:
    (fake.folder / "fails").touch()
    (fake.folder / "log").write_text(f"Reading package lists...\n{said}\nE: apt-get failed\n")

    with pytest.raises(ImageError) as refused:
        fake.build()

    assert not isinstance(refused.value, DriverError)
    assert str(refused.value) == f"Debian changed meanwhile: {said[3:]}; start it again"


def test_a_build_that_was_stopped_by_something_else_is_tried_again(fake: Fake) -> None:
    (fake.folder / "fails").touch()
    (fake.folder / "log").write_text(
        "cc1: fatal error: error writing to /tmp/x.s: No space left on device\n"
        "gcc: fatal error: Killed signal terminated program cc1\n"
    )
    with pytest.raises(ImageError) as refused:
        fake.build()
    assert not isinstance(refused.value, DriverError)
    assert "No space left on device" in str(refused.value)

    (fake.folder / "fails").unlink()
    assert fake.build().size == 3


@pytest.mark.parametrize("damage", ["tar", "record", "gone"])
def test_damaged_modules_are_made_again(fake: Fake, damage: str) -> None:
    made = fake.build()
    record = modules.folder(fake.cache) / f"{made.key}.json"
    if damage == "tar":
        modules.archive(fake.cache, made).write_text("tbr")
    elif damage == "record":
        record.write_text(record.read_text().replace("size", "sise"))
    else:
        modules.archive(fake.cache, made).unlink()

    assert modules.find(fake.cache, made.key) is None
    assert fake.build().sha256 == made.sha256
    assert len(fake.calls()) == 2


def test_the_record_says_what_was_built(fake: Fake) -> None:
    made = fake.build()

    values = json.loads((modules.folder(fake.cache) / f"{made.key}.json").read_text())
    assert values["pair"]["driver_package"] == "535.274.02-1~deb13u1"
    assert modules.find(fake.cache, made.key) == made


def test_modules_keep_their_key_while_the_rest_of_the_image_changes(tmp_path: Path) -> None:
    key = recipe.modules_key(OPTIONS, PAIR)

    assert recipe.modules_key(replace(OPTIONS, packages=("less",)), PAIR) == key
    for field in ("kernel", "kernel_package", "driver_package"):
        assert recipe.modules_key(OPTIONS, replace(PAIR, **{field: "x"})) != key
    for name in ("build", "compile"):
        texts = tmp_path / name
        (texts / "driver").mkdir(parents=True)
        for file in ("build", "compile"):
            content = (recipe.TEXTS / "driver" / file).read_bytes()
            (texts / "driver" / file).write_bytes(content)
            (texts / "driver" / file).chmod(0o755)
        assert recipe.modules_key(OPTIONS, PAIR, texts) == key
        with (texts / "driver" / name).open("a") as hook:
            hook.write("#\n")
        assert recipe.modules_key(OPTIONS, PAIR, texts) != key


def test_an_image_without_a_driver_has_no_modules(fake: Fake) -> None:
    with pytest.raises(ImageError, match="has no modules"):
        modules.offered(Options(), fake.work)
