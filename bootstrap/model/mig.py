"""How the GPUs of a pool are parted (MIG): one profile, or a list of them for each GPU."""

import re
from typing import Annotated

from pydantic import PlainSerializer

from bootstrap.model.base import parsed, shown, text_of

_PROFILE = re.compile(r"[1-9]g\.[1-9][0-9]{0,2}gb(?:[+-][a-z.]{1,8})?")
EXAMPLE = "1g.10gb"
MOST = 7
"""No GPU can be parted into more."""


def is_profile(text: str) -> bool:
    """Return whether `text` is written as the name of a profile is."""
    return _PROFILE.fullmatch(text) is not None


def profile_from(value: object) -> str:
    """Return `value` if it is the name of a profile: slices of compute and GB of memory, `1g.10gb`.

    Raises:
        ValueError: it is not.
    """
    text = text_of(value, fix=f"a profile such as {EXAMPLE}")
    if is_profile(text):
        return text
    raise ValueError(f"{shown(text)} is not a MIG profile; write slices and memory such as {EXAMPLE}")


def mig_from(value: object) -> str | tuple[str, ...]:
    """Return one profile, or a list of 1 to 7 of them as a tuple.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, list | tuple):
        return profile_from(value)
    if not 1 <= len(value) <= MOST:
        raise ValueError(f"holds {len(value)} profiles; write 1 to {MOST}, or one without brackets for all")
    return tuple(map(profile_from, value))


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


_SCHEMA = {"type": "string", "pattern": f"^{_PROFILE.pattern}$", "examples": [EXAMPLE]}
MigProfiles = Annotated[
    str | tuple[str, ...],
    *parsed(mig_from, anyOf=[_SCHEMA, {"type": "array", "items": _SCHEMA, "minItems": 1, "maxItems": MOST}]),
    PlainSerializer(_listed, when_used="json"),
]
"""One profile, for as many as fit; or those that each GPU is parted into."""
