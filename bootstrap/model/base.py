"""What every part of the model shares: frozen, no unknown key, camelCase outside and snake_case inside."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, PlainValidator, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

LONGEST_SHOWN = 60
"""Characters of a wrong value that an error repeats; the rest is in the file anyway."""


class Model(BaseModel):
    """A frozen part of the cluster; YAML spells its fields in camelCase, Python in snake_case."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        # Each command imports this room: a part is built when the whole is, not for itself too. The docstrings
        # of fields are read by those who show them (bootstrap/config/docstrings.py).
        defer_build=True,
    )


def shown(value: object) -> str:
    """Return `value` quoted for an error text, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}...{text[0]}"


def text_of(value: object, *, fix: str = '"{raw}"') -> str:
    """Return `value` if it is text.

    Raises:
        ValueError: it is a number, a boolean, a list or a mapping; `fix` says what to write, with `{raw}`
            standing for what the file holds.
    """
    if isinstance(value, str):
        return str(value)  # plain: it is no path, and may forget its file (bootstrap/model/paths.py)
    raise PydanticCustomError("not_text", "{value} is not text", {"value": shown(value), "fix": fix})


def parsed(parse: Callable[[Any], object], **schema: Any) -> tuple[PlainValidator, WithJsonSchema]:
    """Return the annotations of a type that `parse` reads and that `schema` tells editors about."""
    return PlainValidator(parse), WithJsonSchema(schema)
