"""What nvidia-smi says of each GPU, as CSV: which fields it is asked for, and what a line of them means: pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FIELDS: Mapping[str, str] = {
    "index": "index",
    "name": "name",
    "uuid": "uuid",
    "address": "pci.bus_id",
    "driver": "driver_version",
    "temperature": "temperature.gpu",
    "errors": "ecc.errors.uncorrected.volatile.total",
    "generation": "pcie.link.gen.max",
    "best_generation": "pcie.link.gen.gpumax",
    "width": "pcie.link.width.current",
    "best_width": "pcie.link.width.max",
    "memory_used": "memory.used",
    "memory": "memory.total",
    "use": "utilization.gpu",
    "power": "power.draw",
    "most_power": "power.limit",
}
"""Our names for the fields of `nvidia-smi --help-query-gpu`, in the order of the columns.

The generation that a link runs at now is no sign of trouble: a GPU that rests goes down to the first. So it is the
best one that GPU and slot can have together (`gen.max`) that is told, against the best of the GPU alone (`gpumax`).
"""
QUERY = ",".join(FIELDS.values())
"""As `--query-gpu` takes it, with `--format=csv,noheader,nounits`."""
WORDS = ("name", "uuid", "driver", "address")
UNKNOWN = frozenset({"n/a", "not supported", "requested functionality has been deprecated"})
"""What it says of a number that this GPU or driver does not have; whatever else is no number is trouble."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A GPU as the driver sees it; a number that it does not know is None.

    `trouble` is what it says in the place of a number, `[GPU requires reset]`; empty if nothing is wrong.

    Memory is in MiB, power in watts, temperature in degrees Celsius, use in percent. `errors` counts the uncorrected
    ECC errors since the driver was loaded. `address` is as sysfs writes it: 0000:41:00.0.
    """

    index: int | None
    name: str
    uuid: str
    address: str
    driver: str
    temperature: int | None
    errors: int | None
    generation: int | None
    best_generation: int | None
    width: int | None
    best_width: int | None
    memory_used: int | None
    memory: int | None
    use: int | None
    power: int | None
    most_power: int | None
    trouble: str = ""


def card_from(line: str) -> Card | None:
    """Return the GPU that a line of CSV describes; None if it has another number of columns."""
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != len(FIELDS):
        return None
    said = dict(zip(FIELDS, cells, strict=True))
    words = {name: said.pop(name) for name in WORDS}
    numbers = {name: _number(text) for name, text in said.items()}
    troubles = [text for name, text in said.items() if numbers[name] is None and not is_unknown(text)]
    values: dict[str, Any] = {**words, **numbers, "address": _address(words["address"])}
    return Card(**values, trouble=(troubles[0] or "nothing") if troubles else "")


def _address(text: str) -> str:
    """Return an address as sysfs writes it; nvidia-smi writes 00000000:41:00.0, in capitals."""
    domain, _, rest = text.lower().partition(":")
    return f"{domain[-4:]}:{rest}"


def _number(text: str) -> int | None:
    """Return a number without its fraction; None for what is none."""
    whole = text.partition(".")[0]
    return int(whole) if whole.isascii() and whole.isdigit() and len(whole) < 10 else None  # noqa: PLR2004


def is_unknown(text: str) -> bool:
    """Return whether `text` says that this GPU or driver does not have the value."""
    return text.strip("[]").lower() in UNKNOWN
