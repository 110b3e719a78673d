"""One virtual machine through the installer and from its disk, with the power cut and the network torn on the way."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap import image
from bootstrap.artifacts import Manifest
from bootstrap.image import Options
from bootstrap.progress import silent
from tests.system.image_bench import ARM, MAC, SERIAL, Appliance, Bench, Disk, empty_disk, make_keys, sh

pytestmark = pytest.mark.system

CACHE = Path(os.environ.get("FIRSTLIGHT_CACHE", Path(__file__).parents[2] / "deploy" / "cache"))
MIB = 1 << 20
GIB = 1 << 30
# On two busy cores without KVM a boot takes two minutes; alone it takes twenty seconds.
BOOT = 600
INSTALL = 1200


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return image.build(Options(kernel="cloud"), CACHE, silent)


@pytest.fixture
def appliance(tmp_path: Path, manifest: Manifest) -> Appliance:
    make_keys(tmp_path)
    return Appliance(manifest, CACHE, tmp_path, {"serial": SERIAL})


@pytest.fixture
def bench(tmp_path: Path, appliance: Appliance) -> Iterator[Bench]:
    with Bench(tmp_path, appliance) as bench:
        yield bench


def start(disk: Disk) -> bytes:
    """Return the first MiB: the boot sector, the table, the boot loader and our marker."""
    with disk.path.open("rb") as content:
        return content.read(MIB)


def marker(disk: Disk) -> str:
    return start(disk)[MIB - 4096 : MIB - 3584].rstrip(b"\0").decode()


def digest(disk: Disk) -> str:
    with disk.path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def canary(path: Path) -> Path:
    path.write_bytes(os.urandom(MIB) * 64)
    return path


@pytest.fixture
def disks(tmp_path: Path) -> tuple[Disk, ...]:
    """The right disk between two that must not be touched, on three kinds of bus."""
    return (
        Disk(canary(tmp_path / "decoy0"), "decoy0", "nvme"),
        Disk(empty_disk(tmp_path / "target", 8 * GIB), SERIAL, "scsi"),
        Disk(canary(tmp_path / "decoy1"), "decoy1", "virtio"),
    )


def test_a_machine_gets_to_its_disk_through_every_fault(bench: Bench, disks: tuple[Disk, ...]) -> None:
    appliance, target = bench.appliance, disks[1]
    before = [digest(disks[0]), digest(disks[2])]

    # The power goes while the image is written.
    bench.power_on(disks, "cut.log", live=True)
    appliance.wait_for("progress", INSTALL, count=5)
    bench.power_off()
    assert start(target)[: MIB - 4096] == bytes(MIB - 4096)
    assert marker(target).endswith("state=installing\n")
    assert f"arm={ARM}" in marker(target)

    # The next try loses a connection, and then nobody hears that it is complete.
    appliance.cut_after = 64 * MIB
    appliance.deaf_to = {"complete"}
    bench.power_on(disks, "again.log", live=True)
    bench.wait_off(INSTALL)
    assert marker(target).endswith("state=installed\n"), bench.console("again.log")[-3000:]
    assert appliance.cut_after is None
    assert len(appliance.begins) == 2
    assert appliance.begins[0]["nonce"] != appliance.begins[1]["nonce"]
    assert "No errors detected" in sh("sfdisk", "--verify", str(target.path))

    # Sent to the installer once more, it writes nothing and says that it is done.
    written = target.path.stat().st_mtime_ns
    bench.power_on(disks, "marker.log", live=True)
    assert appliance.wait_for("already-installed", BOOT)["arm"] == ARM
    bench.wait_off(BOOT)
    assert len(appliance.begins) == 2
    assert target.path.stat().st_mtime_ns == written

    for count, (name, uefi) in enumerate((("bios", False), ("uefi", True)), start=1):
        # Both firmwares boot the first disk in their order; the lab orders by bootindex.
        bench.power_on((target,), f"{name}.log", uefi=uefi)
        booted = appliance.wait_for("booted", BOOT, count=count)
        assert (booted["firmware"], booted["mac"], booted["arm"]) == (name, MAC, ARM)
        check_installed(bench, booted["sshHostKeys"])
        bench.power_off()
    assert [digest(disks[0]), digest(disks[2])] == before


def check_installed(bench: Bench, host_keys: list[str]) -> None:
    """Look around in the installed system."""
    assert bench.ssh("hostname").strip() == "w1"
    assert bench.ssh("cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub").strip() in host_keys
    assert (
        bench.ssh("systemctl is-active containerd systemd-networkd systemd-timesyncd").split()
        == ["active"] * 3
    )
    assert bench.ssh("systemctl is-enabled sleep.target || true").strip() == "masked"
    assert bench.ssh("systemctl --failed --quiet --no-legend").strip() == ""
    assert int(bench.ssh("df --output=size -B1 / | tail -n 1")) > 7 * GIB
    assert (
        bench.ssh("ls /usr/lib/cni/bridge /etc/selinux 2>/dev/null || true").strip() == "/usr/lib/cni/bridge"
    )


@pytest.mark.parametrize(
    ("rule", "reason"),
    [({"serial": SERIAL}, "holds data that is not ours"), ({"type": "nvme"}, "2 disks match the rule")],
    ids=["foreign", "ambiguous"],
)
def test_what_is_not_surely_ours_is_left_alone(bench: Bench, rule: dict[str, str], reason: str) -> None:
    folder, appliance = bench.folder, bench.appliance
    appliance.disk_rule = rule
    disks = (
        Disk(empty_disk(folder / "target", GIB), SERIAL),
        Disk(empty_disk(folder / "n0", GIB), "n0", "nvme"),
        Disk(empty_disk(folder / "n1", GIB), "n1", "nvme"),
    )
    sh("mke2fs", "-q", "-F", "-t", "ext4", str(disks[0].path))
    before = [digest(disk) for disk in disks]
    bench.power_on(disks, "live.log", live=True)
    failed = appliance.wait_for("failed", BOOT)

    assert reason in failed["message"]
    assert {disk["serial"] for disk in failed["facts"]["disks"]} == {SERIAL, "n0", "n1"}
    assert appliance.begins == []
    bench.wait_off(BOOT)
    assert [digest(disk) for disk in disks] == before
    assert "NOT INSTALLED" in bench.console("live.log")
