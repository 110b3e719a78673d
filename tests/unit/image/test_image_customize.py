"""configs/image/debian/customize, where it puts the driver in: kernel, modules and libraries are of one version."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from bootstrap.image import recipe

HOOK = recipe.TEXTS / "debian" / "customize"
KERNEL = "6.12.117+deb13-amd64"
# Answers what is asked in the root; of the packages' versions there is one file each.
CHROOT = r"""#!/bin/sh
case "$*" in
*modinfo*) cat "$FAKE/modinfo" ;;
*"showformat=\${Version} "*) for last; do :; done; cat "$FAKE/$last" ;;
*) echo "$*" >>"$FAKE/calls" ;;
esac
"""


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A root with a kernel and its modules, and a chroot that says that all is of 550.163.01."""
    (tmp_path / "root/boot").mkdir(parents=True)
    (tmp_path / f"root/boot/vmlinuz-{KERNEL}").touch()
    (tmp_path / "chroot").write_text(CHROOT)
    (tmp_path / "chroot").chmod(0o755)
    (tmp_path / "modinfo").write_text("550.163.01\n")
    (tmp_path / "nvidia-smi").write_text("550.163.01-2")
    (tmp_path / "libcuda1").write_text("550.163.01-2")
    with tarfile.open(tmp_path / "modules.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("nvidia.ko.xz"))
    return tmp_path


def put_in(fake: Path) -> subprocess.CompletedProcess[str]:
    """Run the hook's `driver` alone."""
    definitions = HOOK.read_text().partition("\nboot_loaders\n")[0]
    env = {
        "PATH": f"{fake}:{os.environ['PATH']}",
        "FAKE": f"{fake}",
        "FL_IMAGE": f"{recipe.TEXTS}",
        "FL_MODULES": f"{fake}/modules.tar",
        "FL_KERNEL": KERNEL,
        "FL_DRIVER": "550.163.01",
        "FL_PAIRED": "nvidia-smi libcuda1",
    }
    argv = ["dash", "-c", f"{definitions}\ndriver", "customize", f"{fake}/root"]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)


def test_a_driver_of_one_version_is_put_in(fake: Path) -> None:
    done = put_in(fake)

    assert done.returncode == 0, done.stdout + done.stderr
    assert (fake / "root/nvidia.ko.xz").exists()
    assert "enable nvidia-persistenced" in (fake / "calls").read_text()


@pytest.mark.parametrize("package", ["nvidia-smi", "libcuda1"])
@pytest.mark.parametrize("version", ["550.163.02-1", "550.163.012-1", "535.309.01-1~deb13u1"])
def test_a_mirror_that_moves_during_the_build_makes_no_image_of_two_versions(
    fake: Path, package: str, version: str
) -> None:
    (fake / package).write_text(version)

    done = put_in(fake)

    assert done.returncode == 1
    assert done.stdout.endswith(
        f"firstlight: {package} is {version}, and the modules are of driver 550.163.01: "
        "Debian changed it meanwhile; start image build again\n"
    )


def test_modules_of_another_version_make_no_image(fake: Path) -> None:
    (fake / "modinfo").write_text("550.163.02\n")

    done = put_in(fake)

    assert done.returncode == 1
    assert "the modules are of driver 550.163.02, which is not 550.163.01: Debian changed it" in done.stdout


def test_another_kernel_makes_no_image(fake: Path) -> None:
    (fake / f"root/boot/vmlinuz-{KERNEL}").unlink()

    done = put_in(fake)

    assert done.returncode == 1
    assert f"the image's kernel is not {KERNEL}, which the driver is for: Debian changed" in done.stdout
