"""What a node says of its GPUs, typed and bounded: all of it is said by a machine (DESIGN.md, D11)."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from bootstrap.gpu.smi import Card, card_from
from bootstrap.records.said import Count, Line, Said, Word

MOST_DEVICES = 64
MOST_PARTS = 64


class NodeState(StrEnum):
    """What a node is in as far as its GPUs are concerned: the first of these, in this order, that holds."""

    NONE = "none"
    NO_DEVICE = "no-device"
    DRIVER_MISSING = "driver-missing"
    DRIVER_MISMATCH = "driver-mismatch"
    MIG_MISMATCH = "mig-mismatch"
    RUNTIME_MISSING = "runtime-missing"
    PLUGIN_MISSING = "plugin-missing"
    READY = "ready"


class Device(Said):
    """An NVIDIA display or 3D controller on PCI (class 03); `driver` is the kernel driver that has it, if any."""

    address: Annotated[str, Field(pattern=r"^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")]
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{4}$")]
    driver: Word = ""


class Parted(Said):
    """How a GPU is parted (MIG): the mode in nvidia-smi's words, now and after its next reset, and what there is.

    `profiles` are those of the instances that programs can use, `instances` is how many GPU instances there are.
    """

    index: Count
    current: Word
    pending: Word
    profiles: Annotated[tuple[Word, ...], Field(max_length=MOST_PARTS)] = ()
    instances: Count = 0


class Report(Said):
    """What a node found at `at` (seconds since 1970, by its own clock), under the arm `arm`.

    `driver` is the version of the loaded kernel modules, `flavour` their kind; empty if none are. `handler` is
    the program that containerd's handler `nvidia` is to run, empty if it has none; `runtime` is the same if it is there
    to be run. `plugin` is how many GPUs, or instances of them, a device plugin has offered to kubelet. `lines` are
    nvidia-smi's (bootstrap/gpu/smi.py), `fabric` too (bootstrap/gpu/fabric.py), `failure` what it said instead.
    `mig` is empty where nobody wants GPUs parted; `mig_failure` says why they are not as they should be.
    """

    node: Word
    arm: Word
    at: Annotated[int, Field(ge=0, le=2**40)]
    state: NodeState
    reason: Line = ""
    devices: Annotated[tuple[Device, ...], Field(max_length=MOST_DEVICES)] = ()
    driver: Word = ""
    flavour: Literal["open", "closed", ""] = ""
    handler: Word = ""
    runtime: Word = ""
    plugin: Count = 0
    lines: Annotated[tuple[Line, ...], Field(max_length=MOST_DEVICES)] = ()
    fabric: Annotated[tuple[Line, ...], Field(max_length=MOST_DEVICES)] = ()
    mig: Annotated[tuple[Parted, ...], Field(max_length=MOST_DEVICES)] = ()
    mig_failure: Line = ""
    failure: Line = ""

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the PCI device id of each GPU."""
        return tuple(device.id for device in self.devices)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return where on PCI the GPUs are."""
        return tuple(sorted(device.address for device in self.devices))

    @property
    def branch(self) -> int:
        """Return the branch of the loaded driver: 570 of 570.133.20; 0 if there is none."""
        first = self.driver.partition(".")[0]
        return int(first) if first.isascii() and first.isdigit() else 0

    @property
    def loaded(self) -> str:
        """Return the loaded driver with its kind, `570.133.20 (open)`; empty if there is none."""
        return f"{self.driver} ({self.flavour})" if self.driver and self.flavour else ""

    @property
    def cards(self) -> tuple[Card, ...]:
        """Return the GPUs as the driver sees them."""
        return tuple(card for line in self.lines if (card := card_from(line)))


def kept_report(text: str) -> Report | None:
    """Return a report that was taken and kept; None if it is of a version that knew other reports."""
    try:
        return Report.model_validate_json(text)
    except ValidationError:
        return None
