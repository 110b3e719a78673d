"""Machines with several disks, in the lab's network with the real appliance, switched on and cut by the test itself.

The lab's own verbs power a machine on with its disks in the order of the configuration; here each boot has another
order. A machine starts through its firmware and the network, or (to save the emulated firmware's time) at the kernel
that the appliance's own script names.
"""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bootstrap.artifacts import artifact_path
from bootstrap.config.loading import load
from bootstrap.lab.console import plain
from bootstrap.lab.machine import Vm, argv, disk_file, vms_from
from bootstrap.lab.power import Slot
from bootstrap.lab.requirements import find_ovmf
from bootstrap.operator import Operator
from bootstrap.processes import is_gone, wait_until
from tests.system.spine import Site, running, wait_for

MIB = 1 << 20
SECTOR = 512
BLOCK = 64 * 1024
MARKER_AT = MIB - 4096
PLATFORMS = {"bios": "pcbios", "uefi": "efi"}
READY_SECONDS = 120.0
BOOT_SECONDS = 600.0  # an emulated machine on two busy cores; alone it takes a tenth of that


def order(vm: Vm, dice: random.Random) -> Vm:
    """Return the same machine with its disks in another order, that of its firmware included."""
    return replace(vm, disks=tuple(dice.sample(vm.disks, len(vm.disks))))


@contextmanager
def appliance(site: Site, log: Path, builds: Sequence[str] = ("image", "build")) -> Iterator[Operator]:
    """Bring the lab's network and the appliance up, with every machine off; take all down afterwards.

    Without `builds` the images are what the site's cache has.
    """
    try:
        for verb in filter(None, (("render", "--output", f"{site.work}/bundle"), builds, ("lab", "up"))):
            done = site.run(*verb)
            assert done.code == 0, f"{verb}: {done.err}"
        with running(site, "serve", log=log):
            operator = Operator(site.work)
            wait_for(operator.is_ready, f"the appliance is ready: {log}", timeout=READY_SECONDS, every=0.5)
            yield operator
    finally:
        site.run("down", timeout=120)


@dataclass
class Box:
    """One machine of the rack: its hardware, its disks' files, its console since the last power-on."""

    site: Site
    operator: Operator
    vm: Vm
    shown: int = 0
    boots: int = field(default=0)

    @property
    def name(self) -> str:
        return self.vm.name

    @property
    def slot(self) -> Slot:
        return Slot(self.site.work / self.vm.folder)

    @property
    def record(self) -> dict[str, Any]:
        return self.operator.machine(self.name)

    def disk(self, serial: str) -> Path:
        """Return the file that is the disk with this serial number."""
        return self.site.work / disk_file(self.vm, next(d for d in self.vm.disks if d.serial == serial))

    def files(self) -> dict[str, Path]:
        return {disk.serial: self.disk(disk.serial) for disk in self.vm.disks}

    def power_on(self, vm: Vm, *extra: str) -> None:
        """Switch the machine on as `vm`: the same machine, perhaps with its disks in another order."""
        log = self.slot.console_log
        self.shown = log.stat().st_size if log.exists() else 0
        self.boots += 1
        command = argv(vm, accel="tcg", pid_file=self.slot.pid_file, ovmf=find_ovmf())
        self.slot.switch_on(("ip", "netns", "exec", self.site.namespace, *command, *extra), self.site.work)

    def cut(self) -> None:
        """Cut the power: SIGKILL to its QEMU."""
        pid = self.slot.pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            assert wait_until(lambda: is_gone(pid), 30)
        self.slot.sweep()

    def wait_off(self, seconds: float = BOOT_SECONDS) -> None:
        """Wait until the machine is off: a live boot restarts at its end, and QEMU was told not to."""
        wait_for(
            lambda: self.slot.pid() is None, f"{self.name} ends: {self.tail()}", timeout=seconds, every=0.2
        )
        self.slot.sweep()

    def console(self) -> str:
        """Return what the console said since the power came, as plain text.

        SeaBIOS moves the cursor in the middle of a word when the processor is busy.
        """
        with self.slot.console_log.open("rb") as log:
            log.seek(self.shown)
            return plain(log.read())

    def tail(self) -> str:
        return self.console()[-1500:]

    def says(self, pattern: str, seconds: float = BOOT_SECONDS) -> None:
        """Wait until the console shows `pattern`."""
        found = wait_until(lambda: bool(re.search(pattern, self.console())), seconds)
        assert found, f"{self.name} never said {pattern!r}: {self.tail()}"

    def script(self, mac: str = "") -> str:
        """Return the iPXE script that the appliance gives to this machine now."""
        mac = (mac or self.vm.mac).replace(":", "-")
        return fetched(self.site, f"/ipxe?mac={mac}&platform={PLATFORMS[self.vm.firmware]}")

    def live(self, initrd: Path | None = None, boot: str = "firstlight") -> tuple[str, ...]:
        """Return QEMU's arguments for a start at the installer's kernel, with exactly what the script says."""
        script = self.script()
        kernel, arguments = re.findall(r"^kernel (\S+) (.*) \|\| goto failed$", script, re.MULTILINE)[0]
        url = re.findall(r"^initrd --name initrd (\S+) ", script, re.MULTILINE)[0]
        return (
            "-no-reboot",
            *("-kernel", str(self._artifact(kernel))),
            *("-initrd", str(initrd or self._artifact(url))),
            *("-append", arguments.replace("boot=firstlight", f"boot={boot}")),
        )

    def initrd(self) -> Path:
        """Return the installer's initrd that the script names."""
        return self._artifact(re.findall(r"^initrd --name initrd (\S+) ", self.script(), re.MULTILINE)[0])

    def _artifact(self, url: str) -> Path:
        return artifact_path(self.site.cache, url.rsplit("/", 1)[1])


def fetched(site: Site, path: str) -> str:
    """Return what the appliance answers to an unknown machine on plain HTTP."""
    address = re.findall(r"listen ([0-9.:]+) backlog", (site.work / "bundle/web/nginx.conf").read_text())[0]
    command = ("curl", "--silent", "--show-error", "--fail", "--max-time", "20", f"http://{address}{path}")
    inside = ("ip", "netns", "exec", site.namespace, *command)
    return subprocess.run(inside, check=True, capture_output=True, text=True, timeout=60).stdout


def stage_a(site: Site, mac: str) -> dict[str, str]:
    """Return the files of a machine's stage A by path, as the real appliance serves them."""
    document = json.loads(fetched(site, f"/v1/ignition/{mac.replace(':', '-')}"))
    files = document["storage"]["files"]
    return {file["path"]: unquote(file["contents"]["source"].removeprefix("data:,")) for file in files}


@contextmanager
def rack(site: Site, log: Path, builds: Sequence[str] = ("image", "build")) -> Iterator[dict[str, Box]]:
    """Bring everything up and return the machines by name; each is cut at the end."""
    cluster = load([Path(path) for path in site.configs])
    with appliance(site, log, builds) as operator:
        boxes = {vm.name: Box(site, operator, vm) for vm in vms_from(cluster)}
        try:
            yield boxes
        finally:
            for box in boxes.values():
                box.cut()


# --- what is on a disk ---------------------------------------------------------------------------------------


def data_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each block of 64 KiB that is not all zeros, with its offset; holes are not read."""
    empty = bytes(BLOCK)
    size = path.stat().st_size
    with path.open("rb") as disk:
        at = 0
        while at < size:
            try:
                at = os.lseek(disk.fileno(), at, os.SEEK_DATA) // BLOCK * BLOCK
            except OSError:  # nothing but a hole is left
                return
            disk.seek(at)
            block = disk.read(BLOCK)
            if block != empty[: len(block)]:
                yield at, block
            at += BLOCK


def digest(path: Path) -> str:
    """Return a hash of a disk's whole content; zeros are zeros, whether written or never written."""
    total = hashlib.blake2b(str(path.stat().st_size).encode())
    for at, block in data_of(path):
        total.update(at.to_bytes(8) + block)
    return total.hexdigest()


# Says a word through the BIOS and stays there for ever: what a machine must not start.
DECOY_WORD = b"DECOY STARTED"
DECOY_CODE = bytes.fromhex("31c08ed8be1a7cb40ebb0700ac84c07404cd10ebf7f4ebfd9090") + DECOY_WORD + b"\r\n\0"


def fill(path: Path, size: int, dice: random.Random) -> None:
    """Fill a disk with known bytes; its first sector is a boot sector with an active partition, as on an old disk."""
    block = dice.randbytes(MIB)
    with path.open("wb") as disk:
        for number in range(-(-size // MIB)):
            disk.write((number.to_bytes(8) + block[8:])[: size - number * MIB])
        entry = bytes.fromhex("80202100830000000008000000400000")
        disk.seek(0)
        disk.write(DECOY_CODE.ljust(446, b"\0") + entry + bytes(48) + b"\x55\xaa")


def blank(path: Path, size: int) -> None:
    """Make a disk new: no byte on it was ever written."""
    path.write_bytes(b"")
    os.truncate(path, size)


def copy(source: Path, target: Path) -> None:
    """Copy a disk, holes and all."""
    shutil.copyfile(source, target)
    os.truncate(target, 0)
    os.truncate(target, source.stat().st_size)
    with target.open("r+b") as disk:
        for at, block in data_of(source):
            disk.seek(at)
            disk.write(block)


@dataclass(frozen=True)
class Look:
    """What a disk's raw file says of it: our marker's fields, and what a firmware would go by."""

    marker: dict[str, str]
    boot_signature: bool
    primary: bool
    backup: bool

    @property
    def bootable(self) -> bool:
        """Return whether a firmware may start it; a GPT without its boot sector is none (UEFI 2.10, 5.3.2)."""
        return self.boot_signature

    @property
    def complete(self) -> bool:
        return self.boot_signature and self.primary and self.backup


def look(path: Path) -> Look:
    """Read what decides whether a disk is bootable and whose it is."""
    with path.open("rb") as disk:
        head = disk.read(MIB)
        disk.seek(-SECTOR, os.SEEK_END)
        last = disk.read(SECTOR)
    line = head[MARKER_AT : MARKER_AT + SECTOR].rstrip(b"\0").decode(errors="replace")
    ours = line.startswith("firstlight-marker v1 ")
    return Look(
        marker=dict(word.split("=", 1) for word in line.split()[2:]) if ours else {},
        boot_signature=head[510:512] == b"\x55\xaa",
        primary=head[SECTOR:].startswith(b"EFI PART"),
        backup=last.startswith(b"EFI PART"),
    )
