"""The virtual rack: machines in QEMU, and hosts in containers, on a private network of this computer."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, StrictInt

from bootstrap.model.amounts import Size
from bootstrap.model.base import Model
from bootstrap.model.types import DiskId, Mac, Name

VmFirmware: TypeAlias = Literal["bios", "uefi", "uefi-http"]
"""The firmware of a virtual machine: SeaBIOS, or OVMF that boots from the network by PXE or by HTTP."""


LONGEST_BMC_USER, LONGEST_BMC_PASSWORD = 16, 20
"""Bytes that IPMI 2.0 has room for (22.28, 22.30)."""


def bmc_takes(text: str, longest: int) -> bool:
    """Return whether `text` can be user or password of a lab's BMC: ipmi_sim reads both between double quotes."""
    return len(text) <= longest and text.isascii() and text.isprintable() and not set(text) & set('"\\')


class LabDisk(Model):
    """An empty disk of a virtual machine."""

    serial: DiskId
    """Its serial number; at most 20 characters on virtio and nvme."""
    size: Size
    """Its size."""
    bus: Literal["virtio", "scsi", "nvme"] = "virtio"
    """How it is attached."""


class LabMachine(Model):
    """A virtual machine."""

    name: Name
    """Its name; that of the machine it stands for."""
    mac: Mac | None = None
    """Its MAC address; without it, that of the machine of the same name."""
    firmware: VmFirmware
    """Which firmware it has; uefi-http boots by HTTP where uefi does PXE."""
    cpus: Annotated[StrictInt, Field(ge=1, le=64)] | None = None
    """How many processors; without it, 2 with KVM and 1 with TCG, where more of them take turns."""
    memory: Size = 2 * 1024**3
    """How much memory."""
    disks: tuple[LabDisk, ...] = Field(min_length=1)
    """Its disks."""
    boot: Literal["network", "disk"] = "network"
    """What is first in its boot order, for ever; the other comes after it."""


class LabHost(Model):
    """A control-plane host of the rack: a container with its own systemd and SSH server."""

    name: Name
    """Its name; that of the control-plane host it stands for, whose address, port and user it has."""


class Lab(Model):
    """The virtual rack on this computer; the only difference from a real one."""

    machines: tuple[LabMachine, ...] = Field(min_length=1)
    """The virtual machines."""
    hosts: tuple[LabHost, ...] = ()
    """The control-plane hosts that this computer runs too; the others are real ones."""
    bmc: Literal["none", "ipmi"] = "none"
    """ipmi: each virtual machine whose power driver is ipmi has that BMC, on the rack's network."""
    accel: Literal["auto", "tcg", "kvm"] = "auto"
    """auto: KVM when a probe boot works with it, else TCG."""
