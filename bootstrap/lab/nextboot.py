"""What a virtual machine boots from at its next start, and only then, if somebody chose that: a file in its folder."""

from pathlib import Path
from typing import Literal, TypeAlias, get_args

First: TypeAlias = Literal["network", "disk"]
"""What is first in a machine's boot order."""


def _file(folder: Path) -> Path:
    return folder / "next-boot"


def chosen(folder: Path) -> First | None:
    """Return what was chosen for the machine in `folder`, or None."""
    try:
        word = _file(folder).read_text().strip()
    except FileNotFoundError:
        return None
    return next((first for first in get_args(First) if first == word), None)


def choose(folder: Path, first: First | None) -> None:
    """Remember what its next start is from; None for its own boot order."""
    if first is None:
        _file(folder).unlink(missing_ok=True)
    else:
        _file(folder).write_text(f"{first}\n")
