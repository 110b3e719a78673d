"""How the installer starts the system on the disk itself; tests/system/test_spine.py does it on both firmwares."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
START_DISK = ROOT / "configs" / "image" / "initramfs" / "start-disk"
INSTALLER = ROOT / "configs" / "installer" / "install"
GRUB_CFG = ROOT / "configs" / "image" / "overlay" / "boot" / "grub" / "grub.cfg"
PARTUUID = "844ed798-5fb1-48a7-8f7f-c19875e8ca93"

LSBLK = """\
#!/bin/sh
printf '/dev/vdb\\n/dev/vdb1 firstlight-bios\\n/dev/vdb2 firstlight-esp\\n/dev/vdb3 firstlight-root\\n'
"""
SAYS = '#!/bin/sh\necho "${0##*/} $*" >>"$FAKE/said"\n'


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """Tools that write down how they were called, and the boot loader's files of an installed system."""
    for name, text in {"lsblk": LSBLK, "mount": SAYS, "umount": SAYS, "sync": SAYS, "kexec": SAYS}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    grub = tmp_path / "root" / "boot" / "grub"
    grub.mkdir(parents=True)
    (grub / "grub.cfg").write_text(GRUB_CFG.read_text())
    (grub / "root.cfg").write_text(f"set root_partuuid={PARTUUID}\n")
    return tmp_path


def run(fake: Path, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": f"{fake}:{os.environ['PATH']}", "FAKE": str(fake), **more}
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)


def said(fake: Path) -> list[str]:
    file = fake / "said"
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.parametrize(
    ("arguments", "end"),
    [(None, "panic=30 "), ('set arguments="nomodeset iommu=pt"\n', "panic=30 nomodeset iommu=pt")],
)
def test_the_kernel_gets_what_the_disks_own_boot_loader_would_give(
    fake: Path, arguments: str | None, end: str
) -> None:
    if arguments:
        (fake / "root" / "boot" / "grub" / "arguments.cfg").write_text(arguments)
    done = run(fake, str(START_DISK), "/dev/vdb", str(fake / "root"))

    root = fake / "root"
    assert 0 == done.returncode, done.stderr
    load = said(fake)[1]
    assert load.startswith(
        f"kexec --load {root}/vmlinuz --initrd={root}/initrd.img --command-line=root=PARTUUID={PARTUUID} rw "
    )
    assert load.endswith(f"console=ttyS0,115200 {end} --kexec-syscall-auto")
    assert "$" not in load
    assert said(fake)[-1] == "kexec --exec"


def test_the_disk_is_never_written(fake: Path) -> None:
    run(fake, str(START_DISK), "/dev/vdb", str(fake / "root"))

    mounts = [line for line in said(fake) if line.startswith("mount ")]
    assert [f"mount -t ext4 -o ro,noload /dev/vdb3 {fake}/root"] == mounts


@pytest.mark.parametrize("cut", ["grub.cfg", "root.cfg"])
def test_a_boot_loader_that_is_not_ours_is_not_imitated(fake: Path, cut: str) -> None:
    (fake / "root" / "boot" / "grub" / cut).write_text("")
    done = run(fake, str(START_DISK), "/dev/vdb", str(fake / "root"))

    assert 1 == done.returncode
    assert "is not ours" in done.stderr
    assert not [line for line in said(fake) if line.startswith("kexec")]


def test_a_disk_without_our_root_is_left_alone(fake: Path) -> None:
    (fake / "lsblk").write_text("#!/bin/sh\nprintf '/dev/vdb\\n/dev/vdb1 data\\n'\n")
    done = run(fake, str(START_DISK), "/dev/vdb", str(fake / "root"))

    assert 1 == done.returncode
    assert "no root file system of ours" in done.stderr
    assert [] == said(fake)


@pytest.mark.parametrize(("answer", "starts"), [("1", False), ("2", True)], ids=["refused", "no answer"])
def test_only_a_server_that_says_nothing_is_passed_by(fake: Path, answer: str, starts: bool) -> None:  # noqa: FBT001  # a table's column
    script = f". {INSTALLER}; disk=/dev/vdb; start_unheard {answer}"
    more = {"FL_SOURCE_ONLY": "1", "FL_RUN": str(fake), "FL_START_DISK": str(fake / "kexec")}
    done = run(fake, "sh", "-c", script, **more)

    assert (["kexec /dev/vdb"] if starts else []) == said(fake)
    assert ("refuses the report" in done.stderr) is not starts
