"""A pool: machines that share operating system, disk rule and kind of GPU."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictInt

from bootstrap.model.amounts import BlockSize, CountComparison, Duration, Size, SizeComparison
from bootstrap.model.base import Model
from bootstrap.model.mig import MigProfiles
from bootstrap.model.types import (
    ByPath,
    CudaVersion,
    DiskId,
    GpuProduct,
    KernelArgument,
    LabelKey,
    LabelValue,
    Name,
    Pattern,
    Release,
)

BRANCHES = (300, 999)
"""The least and the largest number that may be meant for a branch of NVIDIA's driver."""
BootFromDisk = Literal["localboot", "ipxe-exit", "ipxe-sanboot", "http-404"]
"""How a machine that booted from the network goes on to its disk; three of the words are Sidero Metal's."""


class MachineTftp(Model):
    """How TFTP is spoken with machines whose firmware cannot do what is usual (docs/dhcp.md)."""

    options: Literal["all", "none"] = "all"
    """none: the options that it asks for are left unanswered, and data comes at once, in blocks of 512 bytes."""
    max_block_size: BlockSize | None = None
    """Bytes of a block at most, instead of appliance.pxe.tftp.maxBlockSize; with 512 no block size is agreed on."""
    single_port: StrictBool = False
    """Whether all of a transfer comes from port 69, for firmware or firewalls that take no other port."""


class Os(Model):
    """The operating system of a pool."""

    family: str
    """The name of a family: flatcar, fedora-coreos or debian."""
    release: Release
    """The version of the image: 4593.2.5, 42.20250803.3.0, "13"."""
    kernel: Literal["server", "cloud"] = "server"
    """debian only: server has the drivers of real hardware, cloud is small and for virtual machines."""


class DiskSelect(Model):
    """Which disk to install to; every rule given must hold, and exactly one disk may match."""

    serial: DiskId | None = None
    """Its serial number."""
    wwn: DiskId | None = None
    """Its World Wide Name."""
    by_path: ByPath | None = None
    """Its name in /dev/disk/by-path."""
    type: Literal["nvme", "ssd", "hdd", "virtio"] | None = None
    """Its kind."""
    min_size: Size | None = None
    """At least this large."""
    max_size: Size | None = None
    """At most this large."""


class Disk(Model):
    """The disk to install to."""

    select: DiskSelect
    """Which disk; exactly one may match."""
    wipe: tuple[DiskId, ...] = ()
    """Serial numbers of disks whose contents (LVM, md, ZFS, Ceph, LUKS, a filesystem) may be erased."""


class Match(Model):
    """Which unlisted machines a pool describes; every rule given must hold."""

    gpus: CountComparison | None = None
    """How many GPUs, such as ">=8"."""
    cpus: CountComparison | None = None
    """How many processor threads, such as ">=64"."""
    memory: SizeComparison | None = None
    """How much memory, such as ">=512GiB"."""
    manufacturer: Pattern | None = None
    """The maker in its firmware; * stands for anything."""
    product: Pattern | None = None
    """The product name in its firmware; * stands for anything."""
    serial: Pattern | None = None
    """The serial number in its firmware; * stands for anything."""


class Taint(Model):
    """A Kubernetes taint that a node carries."""

    key: LabelKey
    """Its key."""
    value: LabelValue = ""
    """Its value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    """What it does to pods that do not tolerate it."""


class Gpu(Model):
    """The NVIDIA GPUs of a pool."""

    install_cuda: StrictBool = True
    """Whether the driver and CUDA are installed."""
    cuda_version: CudaVersion | None = None
    """The CUDA version that must run, in quotes: "12.8"; it decides the driver."""
    driver: Annotated[StrictInt, Field(ge=BRANCHES[0], le=BRANCHES[1])] | None = None
    """The driver's branch, such as 535; without it, the newest that the GPUs can use."""
    expected: Annotated[StrictInt, Field(ge=1, le=64)] | None = None
    """How many GPUs each node has; a machine that shows another number is not installed."""
    products: Annotated[tuple[GpuProduct, ...], Field(max_length=8)] = ()
    """Which GPUs each node has, such as [h100-sxm]; then the driver is decided before a machine is seen."""
    mig: MigProfiles | None = None
    """How each GPU is parted: 1g.10gb for as many as fit, or a list such as [3g.40gb, 2g.20gb, 1g.10gb]."""
    check_interval: Duration = 300
    """How often a node looks at its GPUs again."""


class Pool(Model):
    """Machines that share operating system, disk rule and kind of GPU."""

    name: Name
    """The pool's name."""
    os: Os
    """Its operating system."""
    disk: Disk
    """The disk to install to."""
    boot_from_disk_method: BootFromDisk = "localboot"
    """How an installed machine goes on from its network boot to its disk; docs/booting.md says what needs which."""
    tftp: MachineTftp | None = None
    """How TFTP is spoken with its listed machines; without it as usual, or as was learned of a machine."""
    arm: Literal["auto", "manual"] = "auto"
    """auto: a listed machine is installed when it is first seen, once. manual: after `machine arm`."""
    match: Match | None = None
    """Which unlisted machines belong here."""
    auto_accept: StrictBool = False
    """Whether machines that match are accepted without an operator."""
    labels: Mapping[LabelKey, LabelValue] = Field(default_factory=dict)
    """Kubernetes labels of its nodes."""
    taints: tuple[Taint, ...] = ()
    """Kubernetes taints of its nodes."""
    gpu: Gpu | None = None
    """Its NVIDIA GPUs."""
    kernel_args: tuple[KernelArgument, ...] = ()
    """More kernel arguments."""
