"""What people see while work goes on: steps with their time, bars on a terminal, lines in a log. All on stderr."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from bootstrap import progress

LOG_EVERY_PERCENT = 10  # without a terminal, a bar becomes a line every so many percent
INDENT = " " * 4


class Screen:
    """Shows the `total` steps of a run and their progress on `console`."""

    def __init__(self, console: Console, *, total: int) -> None:
        self._console = console
        self._total = total
        self._number = 0

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self._console.print(Text(f"{INDENT}{text}"), soft_wrap=True)

    @contextmanager
    def step(self, name: str) -> Iterator[progress.Progress]:
        """Show the step `name` with its number, what it does meanwhile, and the time it took."""
        self._number += 1
        began = time.monotonic()
        self._console.print(Text.assemble((f"{self._number}/{self._total} ", "dim"), (name, "bold cyan")))
        try:
            with self._meter() as meter:
                yield meter
        except BaseException:
            self._console.print(
                Text(f"{INDENT}{name}: stopped after {time.monotonic() - began:.1f}s", style="red")
            )
            raise
        self._console.print(Text(f"{INDENT}done in {time.monotonic() - began:.1f}s", style="dim"))

    @contextmanager
    def _meter(self) -> Iterator[progress.Progress]:
        if not self._console.is_terminal:
            yield _Lines(self._console)
            return
        columns = (
            TextColumn("   "),
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as bars:
            yield _Bar(bars)


class _Bar:
    """One live bar that follows whatever the step says last."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task = bars.add_task("", total=None, visible=False)

    def __call__(self, what: str, done: int | None = None, total: int | None = None) -> None:
        self._bars.update(self._task, description=what, completed=done or 0, total=total, visible=True)


class _Lines:
    """A line for each new thing, and one every LOG_EVERY_PERCENT of a long one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: tuple[str, int] = ("", -1)

    def __call__(self, what: str, done: int | None = None, total: int | None = None) -> None:
        percent = 100 * (done or 0) // total if total else 0
        mark = (what, percent // LOG_EVERY_PERCENT)
        if mark == self._shown:
            return
        self._shown = mark
        amount = f" {percent} %" if total else ""
        self._console.print(Text(f"{INDENT}{what}{amount}"), soft_wrap=True)
