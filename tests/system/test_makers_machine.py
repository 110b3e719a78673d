"""The agent for makers' systems in a real machine: a kernel that reads partitions, real disks, a cut, a second arm.

The live system is ours, offered as if it were Flatcar's, with a flatcar-install that does what the real one does to the
disk: writes the image, has the kernel read the table, and puts the document on the partition labelled OEM. The
appliance, the mirror's folder, `image build`, the network and everything that the agent calls are real.
"""

import bz2
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootstrap.artifacts import artifact_path
from bootstrap.image import Options, build
from bootstrap.progress import silent
from tests.maker_images import MIB, RAW, SECTOR, mirrored, raw_disk
from tests.system.disk_rack import Box, digest, look, rack
from tests.system.spine import CACHE, Site
from tests.system.test_disks_refusals import cpio

pytestmark = [pytest.mark.system, pytest.mark.soak]

VERSION = "4593.2.5"
SIZE = 96 * MIB
ESP, OEM = (4096, 8192), (28672, 4096)
END_AT = SIZE - MIB
INSTALL_SECONDS = 600.0
WRITES = "write: 48%"
STAND_IN = r"""#!/bin/sh
set -eu
while getopts "d:f:i:" option; do
    case $option in d) disk=$OPTARG ;; f) image=$OPTARG ;; i) config=$OPTARG ;; *) exit 1 ;; esac
done
bzip2 -dc "$image" >/run/raw
dd if=/run/raw of="$disk" bs=1M count=9 conv=nocreat,notrunc,fsync
echo "half of it is on $disk" >/dev/console
sleep 5
dd if=/run/raw of="$disk" bs=1M skip=9 seek=9 conv=nocreat,notrunc,fsync
udevadm settle
blockdev --rereadpt "$disk"
udevadm settle
oem=$(blkid -l -t LABEL=OEM -o device "$disk"*)
mkdir -p /run/oem
mount -t ext4 "$oem" /run/oem
cp "$config" /run/oem/config.ign
umount /run/oem
"""
PROGRAMS = ("/usr/bin/bzip2", "/lib/x86_64-linux-gnu/libbz2.so.1.0")
"""What Flatcar's live system has and ours has not."""


def config(folder: Path) -> Path:
    shape = {"firmware": "bios", "cpus": 1, "memory": "1GiB"}
    disks = [{"serial": "S-TARGET", "size": "96MiB"}, {"serial": "S-OTHER", "size": "96MiB"}]
    tree: dict[str, Any] = {
        "apiVersion": "firstlight/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": "labmakers"},
        "kubernetes": {
            "version": "v1.36.4",
            "cni": {"plugin": "none"},
            "controlPlaneEndpoint": "10.75.0.10:6443",
        },
        "appliance": {
            "interface": "fl0",
            "address": "10.75.0.1/24",
            "dhcp": {"mode": "server", "range": ["10.75.0.150", "10.75.0.199"]},
        },
        "pools": [
            {
                "name": "workers",
                "os": {"family": "flatcar", "release": VERSION},
                "disk": {"select": {"serial": "S-TARGET"}},
            }
        ],
        "machines": [{"name": "w1", "mac": "52:54:00:75:00:01", "pool": "workers"}],
        "mirror": {"directory": "mirror"},
        "lab": {"accel": "tcg", "machines": [{"name": "w1", "disks": disks, **shape}]},
    }
    path = folder / "makers.yaml"
    path.write_text(json.dumps(tree))
    return path


def flatcar_disk(folder: Path) -> bytes:
    """Flatcar's partitions, with file systems in those that somebody mounts."""
    path = folder / "raw"
    path.write_bytes(raw_disk("flatcar", VERSION))
    for argv in (
        ("mkfs.vfat", "-F", "16", "-s", "1", "-n", "EFI-SYSTEM", "--offset", ESP[0], path, ESP[1] // 2),
        ("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-L", "OEM", "-E", f"offset={OEM[0] * SECTOR}", path,
         f"{OEM[1] // 2}k"),
    ):  # fmt: skip
        subprocess.run([str(word) for word in argv], check=True, capture_output=True, timeout=60)
    return path.read_bytes()


def release(folder: Path) -> dict[str, bytes]:
    """Our kernel and initrd under Flatcar's names, the latter with a flatcar-install in it."""
    ours = build(Options(kernel="cloud"), CACHE, silent)
    files: dict[str, tuple[int, bytes]] = {"usr/bin/flatcar-install": (0o755, STAND_IN.encode())}
    for program in PROGRAMS:
        files[f"usr{program.removeprefix('/usr')}"] = (0o755, Path(program).read_bytes())
    folders = {f"{parent}/" for name in files for parent in Path(name).parents if f"{parent}" != "."}
    archive = cpio({**dict.fromkeys(sorted(folders), (0o755, b"")), **files})
    initrd = artifact_path(CACHE, ours.initrd.sha256).read_bytes()
    return {
        "flatcar_production_pxe.vmlinuz": artifact_path(CACHE, ours.kernel.sha256).read_bytes(),
        "flatcar_production_pxe_image.cpio.gz": archive + initrd,
        "flatcar_production_image.bin.bz2": bz2.compress(flatcar_disk(folder)),
    }


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    folder = tmp_path_factory.mktemp("makers")
    mirrored(folder / "mirror", "flatcar", VERSION, release(folder))
    site = Site(
        deploy=folder / "deploy", cache=folder / "cache", configs=(str(config(folder)),), name="labmakers"
    )
    with rack(site, folder / "serve.log") as boxes:
        yield boxes["w1"]


def start(box: Box) -> None:
    """Start what the script names; our own live system needs to be told what Flatcar's does by itself."""
    *most, arguments = box.live()
    box.power_on(box.vm, *most, f"{arguments} boot=firstlight ip=dhcp ignition.platform.id=metal")


def install(box: Box) -> None:
    start(box)
    box.wait_off(INSTALL_SECONDS)
    assert box.record["state"] == "installed", box.tail()


def holds_the_system(box: Box, raw: bytes) -> None:
    """The image, our marker, our file for the boot loader, the machine's document: all there, and nothing else."""
    target, record = box.disk("S-TARGET"), box.record
    found = look(target)
    assert (found.boot_signature, found.primary) == (True, True), (
        "the second table is moved by its first start"
    )
    assert (found.marker["state"], found.marker["arm"]) == ("installed", record["arm"])
    content = bytearray(target.read_bytes())
    assert content[END_AT : END_AT + SECTOR] == bytes(SECTOR), "the second marker is gone"
    for first, sectors in (ESP, OEM, (2040, 1)):
        for image in (content, raw_copy := bytearray(raw)):
            image[first * SECTOR : (first + sectors) * SECTOR] = bytes(sectors * SECTOR)
        raw = bytes(raw_copy)
    assert bytes(content[:RAW]) == raw
    names = tool("mdir", "-b", "-i", f"{target}@@{ESP[0] * SECTOR}", "::/firstlight")
    assert "::/firstlight/" in names
    document = json.loads(tool("debugfs", "-R", "cat /config.ign", f"{target}?offset={OEM[0] * SECTOR}"))
    arm = next(file for file in document["storage"]["files"] if file["path"] == "/etc/firstlight/arm")
    assert arm["contents"]["source"] == f"data:,{record['arm']}%0A"


def tool(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_machine_is_installed_on_a_real_disk(box: Box, tmp_path: Path) -> None:
    before = digest(box.disk("S-OTHER"))
    install(box)

    holds_the_system(box, flatcar_disk(tmp_path))
    assert box.record["attempts"] == 1
    assert digest(box.disk("S-OTHER")) == before


def test_armed_again_it_is_cut_while_it_writes_and_the_next_boot_knows_its_disk(
    box: Box, tmp_path: Path
) -> None:
    """The kernel shows the partitions of the first install to the second, and half of them to the third."""
    box.operator.act("w1", "arm")
    start(box)
    box.says("half of it is on /dev/vda", INSTALL_SECONDS)
    box.cut()
    target = box.disk("S-TARGET").read_bytes()
    assert look(box.disk("S-TARGET")).marker == {}, "the maker's installer wrote over the first marker"
    assert b"state=installing" in target[END_AT : END_AT + SECTOR]
    assert box.record["state"] == "installing"

    install(box)
    holds_the_system(box, flatcar_disk(tmp_path))
    assert box.record["attempts"] == 2
