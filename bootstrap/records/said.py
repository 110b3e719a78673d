"""What machines say, made harmless: one line of bounded length, numbers in bounds, and only keys that are listed."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

LONGEST_TEXT = 500  # characters of free text that are kept
LONGEST_WORD = 128


def clean(value: object, longest: int = LONGEST_TEXT) -> str:
    """Return `value` as one line without control characters; what is longer than `longest` is cut off.

    Raises:
        ValueError: it is neither text nor nothing.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004  # pydantic collects ValueError
    text = value[: 4 * longest]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())[:longest]


def short(value: object) -> str:
    """Return `value` as one line of at most 128 characters."""
    return clean(value, LONGEST_WORD)


Line = Annotated[str, BeforeValidator(clean)]
Word = Annotated[str, BeforeValidator(short)]
Count = Annotated[int, Field(ge=0, le=2**20)]
Bytes = Annotated[int, Field(ge=0, lt=2**63)]


class Said(BaseModel):
    """Base of all that is said to us: keys that are not listed are dropped."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")
