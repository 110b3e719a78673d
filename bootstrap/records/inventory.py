"""What a machine found in itself: typed, bounded, and only what is listed here is kept.

All of it is said by a machine that nobody knows (DESIGN.md, D11).
"""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from bootstrap.model import mac_from
from bootstrap.records.said import Bytes, Count, Said, Word

NVIDIA = "10de"  # PCI vendor id
USB = "usb"  # the bus of a BMC's virtual card, whose MAC address may be the same in every server


HexId = Annotated[str, Field(pattern=r"^[0-9a-f]{4}$")]


def _mac_or_nothing(value: object) -> str:
    """Return the MAC address in `value`; a card with a strange one must not cost the machine its whole report."""
    try:
        return mac_from(value)
    except ValueError:
        return ""


class Node(Said):
    """A NUMA node; `cpus` as the kernel writes lists ("0-31,64-95"), `memory` in bytes."""

    id: Count
    cpus: Word = ""
    memory: Bytes | None = None


class Disk(Said):
    """A disk; `size` in bytes, `signatures` are the kinds of what is on it and its partitions.

    `system` is what our own marker says, if there is one: whose system the disk holds.
    """

    path: Word = ""
    serial: Word = ""
    wwn: Word = ""
    model: Word = ""
    type: Word = ""
    size: Bytes = 0
    removable: bool | None = None
    signatures: Annotated[tuple[Word, ...], Field(max_length=32)] = ()
    system: Word = ""


class Card(Said):
    """A network card; `speed` in Mbit/s where there is a link."""

    mac: Annotated[str, BeforeValidator(_mac_or_nothing)] = ""
    name: Word = ""
    driver: Word = ""
    bus: Word = ""
    speed: Count | None = None
    link: bool | None = None


def own_cards(cards: Iterable[Card]) -> tuple[str, ...]:
    """Return the MAC addresses of `cards` that are the machine's own; those of a BMC's virtual card are not."""
    return tuple(sorted({card.mac for card in cards if card.mac and card.bus != USB}))


class Gpu(Said):
    """A display or 3D controller; ids in hex as PCI writes them, `address` as `0000:41:00.0`."""

    address: Word = ""
    vendor: HexId
    device: HexId


def nvidia_devices(gpus: Iterable[Gpu]) -> tuple[str, ...]:
    """Return the device id of each GPU that is NVIDIA's; a BMC's own screen is none."""
    return tuple(gpu.device for gpu in gpus if gpu.vendor == NVIDIA)


class Bmc(Said):
    """The management controller, as far as the machine can see it."""

    present: bool = False
    address: Word = ""


class Firmware(Said):
    """What starts the machine."""

    kind: Literal["bios", "uefi"] | None = None
    vendor: Word = ""
    version: Word = ""
    date: Word = ""
    secure_boot: bool | None = None


class Inventory(Said):
    """What a machine found in itself; `memory` in bytes, `tpm` is its major version ("2")."""

    firmware: Firmware = Firmware()
    serial: Word = ""
    uuid: Word = ""
    vendor: Word = ""
    product: Word = ""
    kernel: Word = ""
    cpu: Word = ""
    cpus: Count | None = None
    sockets: Count | None = None
    memory: Bytes | None = None
    nodes: Annotated[tuple[Node, ...], Field(max_length=64)] = ()
    disks: Annotated[tuple[Disk, ...], Field(max_length=128)] = ()
    cards: Annotated[tuple[Card, ...], Field(max_length=64)] = ()
    gpus: Annotated[tuple[Gpu, ...], Field(max_length=64)] = ()
    bmc: Bmc = Bmc()
    tpm: Word = ""

    @property
    def nvidia_gpus(self) -> int:
        """Return how many of the GPUs are NVIDIA's; a BMC's own screen is none."""
        return len(self.nvidia_devices)

    @property
    def nvidia_devices(self) -> tuple[str, ...]:
        """Return the device id of each GPU that is NVIDIA's."""
        return nvidia_devices(self.gpus)

    @property
    def is_in_use(self) -> bool:
        """Return whether a disk that stays in the machine holds anything: it may be at work for somebody."""
        return any(disk.signatures or disk.system for disk in self.disks if not disk.removable)

    @property
    def own_cards(self) -> tuple[str, ...]:
        """Return the MAC addresses that are the machine's own."""
        return own_cards(self.cards)


def brief(found: Inventory) -> str:
    """Return an inventory in a few words."""
    disks = ", ".join(f"{disk.size / 2**30:.4g} GiB {disk.type}".rstrip() for disk in found.disks[:4])
    more = f" and {len(found.disks) - 4} more" if len(found.disks) > 4 else ""  # noqa: PLR2004  # as above
    parts = (
        f"{found.vendor} {found.product}".strip(),
        f"{found.cpus} cpus" if found.cpus else "",
        f"{found.memory / 2**30:.4g} GiB" if found.memory else "",
        f"{found.nvidia_gpus} GPUs" if found.nvidia_gpus else "",
        f"disks: {disks}{more}" if disks else "no disk",
    )
    return ", ".join(part for part in parts if part)
