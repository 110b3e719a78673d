"""THE CONFIGURATION: YAML files in, a Cluster or every Problem out; no other room sees YAML."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bootstrap.config.anchoring import base_of
from bootstrap.config.dumping import dump, dump_values, parse_dump, plain_values, to_yaml
from bootstrap.config.loading import from_yaml, load

__all__ = [
    "base_of",
    "dump",
    "dump_values",
    "explain",
    "from_yaml",
    "load",
    "parse_dump",
    "plain_values",
    "reference",
    "schema",
    "schema_text",
    "to_yaml",
]


def explain(paths: Sequence[Path], key: str) -> str:
    """Return one line `key = value  (file:line:column)` for each value at or below the dotted `key`.

    Raises:
        ConfigError: the configuration is wrong.
        UsageError: there is no such key.
    """
    from bootstrap.config import explaining  # noqa: PLC0415  # most commands do not need it

    return explaining.explain(paths, key)


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a configuration file."""
    from bootstrap.config import exporting  # noqa: PLC0415  # most commands do not need it

    return exporting.schema()


def schema_text() -> str:
    """Return the text of configs/config.schema.json."""
    from bootstrap.config import exporting  # noqa: PLC0415  # most commands do not need it

    return exporting.schema_text()


def reference() -> str:
    """Return the Markdown tables of all keys, as docs/config.md holds them."""
    from bootstrap.config import documenting  # noqa: PLC0415  # only the documentation needs it

    return documenting.reference()
