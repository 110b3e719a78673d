"""Texts of files: JSON, which every reader of YAML takes; command lines of units."""

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from bootstrap.errors import RenderError
from certs.secret import Secret

_ARGUMENT = re.compile(r"[A-Za-z0-9_./:=,@*+\[\]-]+")
"""What systemd passes on as it stands: no blank, quote, %, $ or backslash (systemd.service(5))."""


OWN = "@OWN@"
"""Stands in a document for what is another on each node."""


def json_text(value: object) -> bytes:
    """Return `value` as JSON with sorted keys and a last newline: the same input, the same bytes."""
    # Thousands of nodes have the same: it is indented once, which takes ten times as long as all else.
    return _indented(json.dumps(value, sort_keys=True))


def secret_json(value: object) -> Secret:
    """Return `value`, which holds secrets, as JSON; nothing of it is remembered."""
    return Secret((json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def own_json_text(value: object, own: str) -> bytes:
    """Return what `json_text` returns, with `own` for OWN; `own` holds nothing that JSON would escape."""
    return json_text(value).replace(OWN.encode(), own.encode())


@lru_cache(128)
def _indented(text: str) -> bytes:
    return (json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n").encode()


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
