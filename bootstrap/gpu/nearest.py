"""Finds the nearest wish that can be granted: another branch or CUDA version first, then another system: pure."""

from collections.abc import Iterator, Sequence

from bootstrap.gpu.choosing import Choice, choice
from bootstrap.gpu.rows import Product, Source, numbers
from bootstrap.gpu.table import CUDA, SOURCES
from bootstrap.model import Os

NONE = "installCuda: false for no driver"
"""What always works."""


def nearest(
    products: Sequence[Product],
    os: Os,
    cuda: str | None,
    *,
    without: Source | None = None,
) -> str:
    """Return what to write instead, as an advice; what is wanted cannot be. `without` as for `choice`."""
    if isinstance(found := choice(products, os, cuda, without=without), Choice):
        return f"write driver: {found.source.branch}" + (", or leave it out" if without is None else "")
    if cuda is not None and without is None and (other := _cuda(products, os, cuda)):
        return f'write cudaVersion: "{other}", or leave it out'
    if system := _system(products, cuda, without):
        return f"write {system}, or write {NONE}"
    if cuda is not None and (system := _system(products, None, without)):
        return f"write {system} without cudaVersion, or write {NONE}"
    parted = [one for one in products if isinstance(choice((one,), os, cuda), Choice)]
    if parted and len(products) > 1:
        return f"{parted[-1].name} alone would work: give each kind a machine of its own, or write {NONE}"
    return f"write {NONE}"


def _cuda(products: Sequence[Product], os: Os, cuda: str) -> str:
    """Return the CUDA version that works on the same system: the next older one, else the next newer; or nothing."""
    older = [row.version for row in reversed(CUDA) if numbers(row.version) < numbers(cuda)]
    newer = [row.version for row in CUDA if numbers(row.version) > numbers(cuda)]
    works = (one for one in (*older, *newer) if isinstance(choice(products, os, one), Choice))
    return next(works, "")


def _system(products: Sequence[Product], cuda: str | None, without: Source | None = None) -> str:
    """Return the newest known system that has a driver for this wish, as the configuration writes it; or nothing."""
    for row in _known():
        there = Os(family=row.family, release=row.since)
        if isinstance(choice(products, there, cuda, without=without), Choice):
            release = f'"{row.since}"' if row.only else f"{row.since} or later"
            return f"os: {{family: {row.family}, release: {release}}}"
    return ""


def _known() -> Iterator[Source]:
    """Yield one row per known release: Flatcar's first, whose drivers are prebuilt, and the newest first."""
    newest = sorted(SOURCES, key=lambda row: numbers(row.since), reverse=True)
    ordered = sorted(newest, key=lambda row: row.family, reverse=True)
    yield from {(row.family, row.since): row for row in ordered}.values()
