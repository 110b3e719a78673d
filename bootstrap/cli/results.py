"""Results on stdout: a table for people, JSON or YAML for programs."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

UNCUT = 10_000  # a pipe has no width: never wrap or cut what a program may read

STATE_STYLES = {
    "installed": "green",
    "ready": "green",
    "gpu-ready": "green",
    "installing": "cyan",
    "armed": "cyan",
    "failed": "bold red",
    "quarantined": "bold red",
    "conflict": "bold red",
}


def stdout() -> Console:
    """Return a console for results."""
    return Console(width=None if sys.stdout.isatty() else UNCUT, highlight=False, soft_wrap=True)


def stderr() -> Console:
    """Return a console for progress; brackets in file names are no markup, and long lines stay one line."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table as kubectl prints one: upper-case headings, no lines; states in their colours."""
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        result.add_column(heading, no_wrap=True)
    for row in rows:
        result.add_row(*(Text(cell, style=STATE_STYLES.get(cell, "")) for cell in row))
    return result


def show(result: Table) -> None:
    """Print a table; into a pipe without the blanks that pad its last column."""
    console = stdout()
    if console.is_terminal:
        console.print(result, crop=False)
        return
    with console.capture() as captured:
        console.print(result, crop=False)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def emit(output: str, data: Any, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print `data` as JSON or YAML, or `rows` as a table, on stdout."""
    if output == "table":
        show(table(headings, rows))
        return
    if output == "yaml":
        from bootstrap.config import to_yaml  # noqa: PLC0415  # only this form needs it

        sys.stdout.write(to_yaml(data))
    else:
        sys.stdout.write(json.dumps(data, indent=2, sort_keys=True, default=str) + "\n")
