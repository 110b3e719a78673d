"""Amounts with a unit, kept as plain integers: bytes, seconds; and comparisons such as ">=8"."""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, PlainSerializer, StrictInt

from bootstrap.model.base import parsed, shown, text_of

_AMOUNT = re.compile(r"(?P<number>\d{1,18})\s?(?P<unit>[A-Za-z]+)")
_COMPARISON = re.compile(r"(?P<operator>>=|<=|==|=|>|<)?\s*(?P<rest>\S.*)")
_BYTES = {
    "B": 1,
    **{unit: 1000**power for power, unit in enumerate(("kB", "MB", "GB", "TB"), start=1)},
    **{unit: 1024**power for power, unit in enumerate(("KiB", "MiB", "GiB", "TiB"), start=1)},
    **{unit: 1024**power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti"), start=1)},
}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SMALLEST_SIZE = 1024**2
"""No size in the configuration is under 1 MiB: a smaller one is a forgotten unit."""
LARGEST_SIZE = 2**60
LONGEST_DURATION = 366 * 86400


def size_from(value: object) -> int:
    """Return the bytes in `value`: `400GiB`, `500GB`, Kubernetes' `400Gi`, or a whole number of bytes.

    Raises:
        ValueError: no such size, or under 1 MiB, or over 1 EiB.
    """
    found = _amount(value, _BYTES)
    if found is None:
        raise ValueError(f"{shown(value)} is not a size; write a number and a unit such as 400GiB or 500GB")
    if not SMALLEST_SIZE <= found <= LARGEST_SIZE:
        bytes_ = " bytes" if isinstance(value, int) else ""
        raise ValueError(
            f"{shown(value)}{bytes_} is out of range (1 MiB to 1 EiB); write a number and a unit such as 400GiB"
        )
    return found


def size_text(size: int) -> str:
    """Return `size` bytes in the largest unit that holds it exactly (`8GiB`), as size_from reads it."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"


def duration_from(value: object) -> int:
    """Return the seconds in `value`: `90s`, `5m`, `1h`, `2d`, or a whole number of seconds.

    Raises:
        ValueError: no such duration, or zero, or over a year.
    """
    found = _amount(value, _SECONDS)
    if found is None or not 0 < found <= LONGEST_DURATION:
        raise ValueError(f"{shown(value)} is not a duration; write a number and s, m, h or d such as 5m")
    return found


def duration_text(seconds: int) -> str:
    """Return `seconds` in the largest unit that holds them exactly (`5m`), as duration_from reads it."""
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % _SECONDS[unit] == 0)
    return f"{seconds // _SECONDS[unit]}{unit}"


def _amount(value: object, units: dict[str, int]) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _AMOUNT.fullmatch(value) if isinstance(value, str) else None
    if match is None or match["unit"] not in units:
        return None
    return int(match["number"]) * units[match["unit"]]


@dataclass(frozen=True)
class Comparison:
    """A test of an amount: `operator` is one of >= <= > < =, `number` a count or bytes."""

    operator: str
    number: int

    def holds(self, value: int) -> bool:
        """Return whether `value` passes."""
        order = (value > self.number) - (value < self.number)
        return order in {">=": (0, 1), "<=": (0, -1), ">": (1,), "<": (-1,), "=": (0,)}[self.operator]


def count_comparison_from(value: object) -> Comparison:
    """Return the comparison of a count in `value`: `">=8"`, or `8` for exactly eight.

    Raises:
        ValueError: it is no such comparison.
    """
    if isinstance(value, Comparison):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Comparison("=", value)
    match = _COMPARISON.fullmatch(text_of(value, fix='">={raw}"'))
    if match is None or not re.fullmatch(r"[0-9]{1,9}", match["rest"]):
        raise ValueError(f'{shown(value)} is not a comparison; write it in quotes such as ">=8"')
    return Comparison((match["operator"] or "=").replace("==", "="), int(match["rest"]))


def size_comparison_from(value: object) -> Comparison:
    """Return the comparison of a size in `value`: `">=512GiB"`.

    Raises:
        ValueError: it is no such comparison.
    """
    if isinstance(value, Comparison):
        return value
    match = _COMPARISON.fullmatch(text_of(value, fix='">={raw}GiB"'))
    if match is None or _amount(match["rest"], _BYTES) is None:
        raise ValueError(f'{shown(value)} is not a comparison of sizes; write it such as ">=512GiB"')
    return Comparison((match["operator"] or "=").replace("==", "="), size_from(match["rest"]))


Size = Annotated[
    int,
    *parsed(
        size_from, anyOf=[{"type": "string", "format": "size", "examples": ["400GiB"]}, {"type": "integer"}]
    ),
    PlainSerializer(size_text, return_type=str, when_used="json"),
]
"""Bytes; the dump writes them with a unit."""

Duration = Annotated[
    int,
    *parsed(
        duration_from,
        anyOf=[
            {"type": "string", "format": "duration", "examples": ["5m"]},
            {"type": "integer", "minimum": 1},
        ],
    ),
    PlainSerializer(duration_text, return_type=str, when_used="json"),
]
"""Seconds; the dump writes them with a unit."""

CountComparison = Annotated[
    Comparison,
    *parsed(
        count_comparison_from,
        anyOf=[{"type": "string", "format": "comparison", "examples": [">=8"]}, {"type": "integer"}],
    ),
    PlainSerializer(lambda c: f"{c.operator}{c.number}", return_type=str, when_used="json"),
]
SizeComparison = Annotated[
    Comparison,
    *parsed(size_comparison_from, type="string", format="comparison", examples=[">=512GiB"]),
    PlainSerializer(lambda c: f"{c.operator}{size_text(c.number)}", return_type=str, when_used="json"),
]

BlockSize = Annotated[StrictInt, Field(ge=512, le=1468)]
"""Bytes of a TFTP block (RFC 2348); the largest one fits, with its headers, into an Ethernet packet."""
