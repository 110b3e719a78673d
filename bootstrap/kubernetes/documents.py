"""Texts of files: JSON, which every reader of YAML takes; command lines of units."""

import json
import re
from collections.abc import Iterable, Mapping

from bootstrap.errors import RenderError

_ARGUMENT = re.compile(r"[A-Za-z0-9_./:=,@*+\[\]-]+")
"""What systemd passes on as it stands: no blank, quote, %, $ or backslash (systemd.service(5))."""


def json_text(value: object) -> bytes:
    """Return `value` as JSON with sorted keys and a last newline: the same input, the same bytes."""
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def flags(values: Mapping[str, object]) -> tuple[str, ...]:
    """Return `values` as arguments `--name=value`, in their order; booleans in lower case, lists with commas.

    Raises:
        RenderError: a value holds what systemd would interpret.
    """
    return arguments(f"--{name}={_text(value)}" for name, value in values.items())


def arguments(words: Iterable[str]) -> tuple[str, ...]:
    """Return `words` if systemd passes each on as it stands.

    Raises:
        RenderError: one holds what systemd would interpret.
    """
    found = tuple(words)
    for word in found:
        if not _ARGUMENT.fullmatch(word):
            raise RenderError(f"{word!r} cannot stand in a unit's command line")
    return found


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(str(item) for item in value)
    return str(value)
