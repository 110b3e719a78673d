"""How long work tells people where it is: a function it calls, so that no worker knows the screen."""

from typing import Protocol


class Progress(Protocol):
    """Receives what a long step is doing; the CLI draws it, tests collect it."""

    def __call__(self, what: str, done: int | None = None, total: int | None = None) -> None:
        """Say `what` is being done; `done` of `total` when the amount is known (any unit, the same for both)."""


def silent(what: str, done: int | None = None, total: int | None = None) -> None:
    """Swallow all progress."""
    del what, done, total
