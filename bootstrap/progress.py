"""How long work tells people where it is: it calls what it was given, so that no worker knows the screen."""

from contextlib import AbstractContextManager
from typing import Protocol


class Progress(Protocol):
    """Receives what a long step is doing; the CLI draws it, tests collect it."""

    def __call__(self, what: str, done: int | None = None, total: int | None = None) -> None:
        """Say `what` is being done; `done` of `total` when the amount is known (any unit, the same for both)."""


class Reporter(Protocol):
    """Receives the steps of a run, in order, and lines worth keeping."""

    def step(self, name: str) -> AbstractContextManager[Progress]:
        """Begin the step `name`; it ends with the context, well or with the error that passes through."""

    def say(self, text: str) -> None:
        """Show a line that stays on the screen."""


def silent(what: str, done: int | None = None, total: int | None = None) -> None:
    """Swallow all progress."""
    del what, done, total
