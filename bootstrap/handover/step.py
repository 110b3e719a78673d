"""A step of a handover or of the way back: shown, and a place to be cut off before it and after it."""

from collections.abc import Iterator
from contextlib import contextmanager

from bootstrap import failpoints
from bootstrap.progress import Reporter


@contextmanager
def step(reporter: Reporter, name: str) -> Iterator[None]:
    """Do the step `name`; it ends with the context, well or with the error that passes through."""
    failpoints.reached("handover.step.before")
    with reporter.step(name):
        yield
    failpoints.reached("handover.step.after")
