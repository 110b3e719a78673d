"""The image as built: what is in it, what is not, and what a cut build leaves."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap import artifacts, image
from bootstrap.artifacts import Manifest
from bootstrap.errors import ImageError
from bootstrap.image import Options, builder, disk
from bootstrap.progress import silent
from tests.system.image_archive import list_ext4, names_in_initrd, read_ext4
from tests.system.spine import CACHE, HEARS_CTRL_C

pytestmark = pytest.mark.system

REPO = Path(__file__).parents[2]
ROOT_OFFSET = disk.ROOT_AT * 512
ESP_OFFSET = disk.ESP_AT * 512


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return image.build(Options(kernel="cloud"), CACHE, silent)


@pytest.fixture(scope="module")
def raw(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "disk.raw"
    source = artifacts.artifact_path(CACHE, manifest.disk.sha256)
    subprocess.run(["zstd", "--quiet", "--decompress", "--sparse", str(source), "-o", str(path)], check=True)
    return path


def test_the_store_holds_what_the_manifest_says(manifest: Manifest, raw: Path) -> None:
    for artifact in manifest.artifacts:
        artifacts.verify(CACHE, artifact)
    assert raw.stat().st_size == manifest.raw_size
    assert artifacts.find_manifest(CACHE, "debian", "13", "cloud") == manifest
    assert manifest.kernel_version.endswith("-cloud-amd64")


def test_a_second_build_returns_at_once(manifest: Manifest) -> None:
    began = time.monotonic()

    assert image.build(Options(kernel="cloud"), CACHE, silent) == manifest
    assert time.monotonic() - began < 2


def test_the_table_and_the_file_systems_are_sound(raw: Path, tmp_path: Path) -> None:
    verified = subprocess.run(["sfdisk", "--verify", str(raw)], check=True, capture_output=True, text=True)
    assert "No errors detected" in verified.stdout
    for name, offset, argv in (
        ("root", ROOT_OFFSET, ["e2fsck", "-f", "-n"]),
        ("esp", ESP_OFFSET, ["fsck.vfat", "-n"]),
    ):
        part = tmp_path / name
        with raw.open("rb") as source, part.open("wb") as target:
            source.seek(offset)
            length = disk.ESP_SECTORS * 512 if name == "esp" else raw.stat().st_size - offset - (1 << 20)
            while length > 0 and (block := source.read(min(length, 1 << 22))):
                target.write(block)
                length -= len(block)
        subprocess.run([*argv, str(part)], check=True, capture_output=True)


def test_firmware_finds_the_signed_loaders(raw: Path) -> None:
    listing = subprocess.run(
        ["mdir", "-b", "-/", "-i", f"{raw}@@{ESP_OFFSET}", "::/"], check=True, capture_output=True, text=True
    ).stdout

    assert {"::/EFI/BOOT/BOOTX64.EFI", "::/EFI/BOOT/grubx64.efi", "::/EFI/debian/grub.cfg"} <= set(
        listing.split()
    )


def test_nobody_can_log_in_with_a_password(raw: Path) -> None:
    shadow = read_ext4(raw, ROOT_OFFSET, "/etc/shadow")

    fields = {line.split(":")[0]: line.split(":")[1] for line in shadow.splitlines()}
    assert fields["root"] == "*"
    assert all(value.startswith(("*", "!")) for value in fields.values()), fields


def test_nothing_in_it_is_the_same_on_two_machines(raw: Path) -> None:
    assert "ssh_host_" not in list_ext4(raw, ROOT_OFFSET, "/etc/ssh")
    assert "sshd_config" in list_ext4(raw, ROOT_OFFSET, "/etc/ssh")
    assert read_ext4(raw, ROOT_OFFSET, "/etc/machine-id") == ""
    assert "hostname" not in list_ext4(raw, ROOT_OFFSET, "/etc").split()
    assert "random-seed" not in list_ext4(raw, ROOT_OFFSET, "/var/lib/systemd")


def test_the_builders_leftovers_are_not_in_it(raw: Path) -> None:
    names = list_ext4(raw, ROOT_OFFSET, "/").split()

    assert "firstlight" not in names
    assert {"vmlinuz", "initrd.img", "etc"} <= set(names)
    assert ".deb" not in list_ext4(raw, ROOT_OFFSET, "/var/cache/apt/archives")
    assert "core.img" not in list_ext4(raw, ROOT_OFFSET, "/boot/grub")


def test_the_installer_is_small_and_has_its_tools(manifest: Manifest) -> None:
    names = names_in_initrd(artifacts.artifact_path(CACHE, manifest.initrd.sha256))

    assert manifest.initrd.size < 60 << 20
    tools = ("curl", "jq", "zstd", "dd", "sha256sum", "dash", "ignition", "losetup", "lsblk", "mount")
    assert {f"usr/bin/{tool}" for tool in tools if tool != "losetup"} <= names
    for tool in ("blkid", "e2fsck", "losetup", "resize2fs", "sfdisk", "useradd", "wipefs"):
        assert f"usr/sbin/{tool}" in names
    for driver in ("loop", "virtio_blk", "virtio_net", "virtio_scsi"):
        assert any(f"/{driver}.ko" in name for name in names), driver


CUT_BUILD = """\
import sys
from pathlib import Path
from bootstrap.image import Options, build
build(Options(kernel="cloud", packages=("less",)), Path(sys.argv[1]), lambda *told: print(*told, flush=True))
"""


def group_of(pid: int) -> list[int]:
    """Return the processes that descend from `pid`."""
    done = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], check=True, capture_output=True, text=True)
    rows = (line.split() for line in done.stdout.splitlines())
    parents = {int(pid): int(parent) for pid, parent in rows}
    found, fresh = set[int](), {pid}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return sorted(found)


@pytest.fixture
def cut(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*HEARS_CTRL_C, sys.executable, "-c", CUT_BUILD, str(tmp_path / "cache")],
        cwd=REPO,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("at", "sign"), [("unpacking packages", signal.SIGTERM), ("installing packages: libc", signal.SIGINT)]
)
def test_a_cut_build_leaves_nothing(
    cut: subprocess.Popen[str], tmp_path: Path, at: str, sign: signal.Signals
) -> None:
    assert cut.stdout is not None
    for line in cut.stdout:
        if at in line:
            break
    children = group_of(cut.pid)
    assert children
    cut.send_signal(sign)
    assert cut.wait(timeout=60) != 0

    left = [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert left == []
    assert [path.name for path in (tmp_path / "cache" / "building").iterdir()] == ["lock"]
    assert not (tmp_path / "cache" / "images").exists()
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def test_a_killed_build_leaves_no_process_and_the_next_clears_up(
    cut: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert cut.stdout is not None
    for line in cut.stdout:
        if "installing packages: libc" in line:
            break
    children = group_of(cut.pid)
    cut.kill()
    cut.wait()

    end = time.monotonic() + 20
    while time.monotonic() < end and any(Path(f"/proc/{pid}").exists() for pid in children):
        time.sleep(0.1)
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    with builder.work_folder(tmp_path / "cache") as work:
        assert {path.name for path in work.parent.iterdir()} == {"lock", work.name}


def test_a_mirror_that_is_not_there_is_an_error_with_its_lines(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"(?s)mmdebstrap failed.*127\.0\.0\.1"):
        image.build(Options(kernel="cloud", mirror="http://127.0.0.1:1/debian"), tmp_path, silent)
    assert [path.name for path in (tmp_path / "building").iterdir()] == ["lock"]
