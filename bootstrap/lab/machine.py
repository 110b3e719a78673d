"""What a virtual machine is, and the QEMU command that is its hardware; pure."""

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bootstrap.errors import LabError
from bootstrap.lab.nextboot import First
from bootstrap.model import Cluster, LabDisk, LabMachine
from bootstrap.model.lab import VmFirmware

Accel = Literal["tcg", "kvm"]

QEMU = "qemu-system-x86_64"
MEBIBYTE = 1024**2

LAB_UUID = uuid.UUID("6f3a3c1e-58d0-5c1b-9d0e-0f5c6d1f7a42")
"""The name space (RFC 9562, version 5) in which a machine's UUID follows from its cluster and name."""

SHORT_SERIALS = {"virtio": 20, "nvme": 20}
"""Characters of a serial number that a bus has room for (virtio 1.2, 5.2.6.2; NVMe 1.4, figure 247)."""

NAA_COMPANY = 0x525400
"""QEMU's own prefix of MAC addresses, taken for the company field of a WWN (NAA format 5, SPC-5 7.7.6)."""

RETRY_MILLISECONDS = 10_000
"""How long SeaBIOS waits after nothing was bootable until it starts over, as server firmware does."""

ACCEL_OPTIONS: dict[Accel, tuple[str, ...]] = {
    # QEMU's emulated cmpxchg16b makes Debian 13's 6.12 kernel panic in kmalloc on two processors. Without the other two
    # a system does not load KVM for itself, and does not walk five levels of page tables where four do.
    # Emulated processors take turns: with QEMU 7.2's side by side, Linux now and then panics with "int3" in code that
    # it patches while it runs (bugzilla.redhat.com 2216496).
    "tcg": ("-accel", "tcg,thread=single", "-cpu", "max,-cx16,-svm,-la57"),
    "kvm": ("-accel", "kvm", "-cpu", "host"),
}

CARD = "nic0"
"""QEMU's name of the network card."""

CARD_PLACES: dict[First, int] = {"network": 1, "disk": 99}
"""The network card's place in the boot order, by what is first; the disks have those from 2 on."""

PROCESSORS: dict[Accel, int] = {"tcg": 1, "kvm": 2}
"""How many processors a machine has that does not say."""


@dataclass(frozen=True, kw_only=True)
class Ovmf:
    """A pair of UEFI firmware files of the distribution; `variables` is copied for each machine."""

    code: Path
    variables: Path


@dataclass(frozen=True, kw_only=True)
class Vm:
    """A virtual machine: what the configuration says, and the identity that follows from it."""

    name: str
    mac: str
    uuid: str
    firmware: VmFirmware
    cpus: int | None
    memory: int
    disks: tuple[LabDisk, ...]
    boot: First = "network"

    @property
    def folder(self) -> str:
        """Return the folder of its disks and sockets, relative to the work folder."""
        return f"lab/{self.name}"

    @property
    def is_uefi(self) -> bool:
        """Return whether its firmware is OVMF, whichever way it boots from the network."""
        return self.firmware != "bios"

    @property
    def tap(self) -> str:
        """Return the network interface that is its cable: 15 characters, all that the kernel allows."""
        return "tap" + self.mac.replace(":", "")


def vms_from(cluster: Cluster) -> tuple[Vm, ...]:
    """Return the virtual machines of the `lab:` section, in its order.

    Raises:
        LabError: there is no such section, a machine has no MAC address, or a serial number does not fit.
    """
    if cluster.lab is None:
        raise LabError(f"cluster {cluster.metadata.name} has no lab: section, so there is no virtual rack")
    return tuple(_vm(cluster, machine) for machine in cluster.lab.machines)


def _vm(cluster: Cluster, machine: LabMachine) -> Vm:
    listed = cluster.machine(machine.name)
    mac = machine.mac or (listed.mac if listed else None)
    if mac is None:
        text = f"lab machine {machine.name} has no MAC address: write its mac:, or list it under machines:"
        raise LabError(text)
    for disk in machine.disks:
        _check_serial(machine.name, disk)
    return Vm(
        name=machine.name,
        mac=mac,
        uuid=str(uuid.uuid5(LAB_UUID, f"{cluster.metadata.name}/{machine.name}")),
        firmware=machine.firmware,
        cpus=machine.cpus,
        memory=machine.memory,
        disks=machine.disks,
        boot=machine.boot,
    )


def _check_serial(name: str, disk: LabDisk) -> None:
    room = SHORT_SERIALS.get(disk.bus)
    if room is not None and len(disk.serial) > room:
        text = f"lab machine {name}: disk serial {disk.serial} is longer than the {room} characters"
        raise LabError(f"{text} that {disk.bus} has room for; shorten it")


def disk_file(vm: Vm, disk: LabDisk) -> str:
    """Return the file that is `disk`, relative to the work folder."""
    return f"{vm.folder}/{disk.serial}.raw"


def wwn(vm: Vm, disk: LabDisk) -> str:
    """Return the World Wide Name of a SCSI disk (NAA format 5), the same for the same machine and serial."""
    digest = hashlib.sha256(f"{vm.uuid}/{disk.serial}".encode()).digest()
    number = 5 << 60 | NAA_COMPANY << 36 | int.from_bytes(digest[:8], "big") >> 28
    return f"0x{number:016x}"


def argv(
    vm: Vm, *, accel: Accel, pid_file: Path, ovmf: Ovmf | None, first: First | None = None
) -> tuple[str, ...]:
    """Return the command that switches `vm` on; it goes to the background once the machine runs.

    `first` is what it boots from, if not what its boot order says.
    Paths of sockets and disks are relative to the work folder, which must be the current one: a socket's
    path has room for 108 bytes (unix(7)). `pid_file` is absolute: it tells our processes from others.

    Raises:
        LabError: the firmware is UEFI and `ovmf` is None.
    """
    return (
        QEMU,
        *("-name", vm.name, "-uuid", vm.uuid),
        # Without graphics, SeaBIOS and OVMF both put their console on the first serial port.
        *("-machine", "q35,graphics=off"),
        *ACCEL_OPTIONS[accel],
        *("-smp", str(vm.cpus or PROCESSORS[accel]), "-m", f"{vm.memory // MEBIBYTE}M"),
        *("-no-user-config", "-nodefaults", "-display", "none", "-vga", "none"),
        *("-smbios", f"type=1,manufacturer=firstlight,product=lab,serial={vm.name}"),
        *("-object", "rng-builtin,id=rng0", "-device", "virtio-rng-pci,rng=rng0"),
        *_sockets(vm),
        *_firmware(vm, ovmf),
        *_network(vm, CARD_PLACES[first or vm.boot]),
        *_disks(vm),
        *("-daemonize", "-pidfile", str(pid_file)),
    )


def _sockets(vm: Vm) -> tuple[str, ...]:
    serve = "server=on,wait=off"
    log = f"logfile={vm.folder}/console.log,logappend=on"
    return (
        *("-chardev", f"socket,id=console,path={vm.folder}/console.sock,{serve},{log}"),
        *("-serial", "chardev:console"),
        *("-chardev", f"socket,id=qmp,path={vm.folder}/qmp.sock,{serve}"),
        *("-mon", "chardev=qmp,mode=control"),
    )


def variables_file(vm: Vm, ovmf: Ovmf) -> str:
    """Return the machine's own copy of the UEFI variables; its name says which firmware it belongs to."""
    return f"{vm.folder}/{ovmf.variables.name}"


def _firmware(vm: Vm, ovmf: Ovmf | None) -> tuple[str, ...]:
    if vm.firmware == "bios":
        return ("-boot", f"strict=on,reboot-timeout={RETRY_MILLISECONDS}")
    if ovmf is None:
        raise LabError(f"lab machine {vm.name} has UEFI firmware, and no OVMF was found")
    flash = "if=pflash,format=raw"
    return (
        *("-drive", f"{flash},unit=0,readonly=on,file={ovmf.code}"),
        *("-drive", f"{flash},unit=1,file={variables_file(vm, ovmf)}"),
        # The rack has IPv4 only; a firmware that tries IPv6 first waits a minute for nothing.
        *("-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"),
        *("-fw_cfg", "name=opt/org.tianocore/IPv6Support,string=n"),
        # Without PXE, HTTP boot is what is left of the network card.
        *(
            ("-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n")
            if vm.firmware == "uefi-http"
            else ()
        ),
    )


def _network(vm: Vm, place: int) -> tuple[str, ...]:
    # QEMU's network ROM is iPXE. BIOS machines need it; without it OVMF does PXE itself, as servers do.
    rom = ",romfile=" if vm.is_uefi else ""
    return (
        *("-netdev", f"tap,id=net0,ifname={vm.tap},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,id={CARD},netdev=net0,mac={vm.mac},bootindex={place}{rom}"),
    )


def _disks(vm: Vm) -> Iterator[str]:
    if any(disk.bus == "scsi" for disk in vm.disks):
        yield from ("-device", "virtio-scsi-pci,id=scsi0")
    for number, disk in enumerate(vm.disks):
        # Flushing is pointless: what a machine wrote outlives its QEMU in this computer's page cache.
        options = "format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap"
        yield from ("-drive", f"if=none,id=disk{number},file={disk_file(vm, disk)},{options}")
        yield from ("-device", f"{_disk_device(vm, disk)},drive=disk{number},bootindex={number + 2}")


def _disk_device(vm: Vm, disk: LabDisk) -> str:
    match disk.bus:
        case "virtio":
            return f"virtio-blk-pci,serial={disk.serial}"
        case "nvme":
            return f"nvme,serial={disk.serial}"
        case "scsi":
            return f"scsi-hd,bus=scsi0.0,serial={disk.serial},wwn={wwn(vm, disk)}"
