"""Answers which driver GPUs get in a pool: a choice, none on purpose, or a refusal with what would work: pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bootstrap.gpu.choosing import Choice, choice
from bootstrap.gpu.nearest import NONE, nearest
from bootstrap.gpu.rows import Product
from bootstrap.gpu.table import BY_ID
from bootstrap.model import Gpu, Os

VENDOR = "10de"
"""NVIDIA's PCI vendor id."""


@dataclass(frozen=True)
class NoDriver:
    """None is installed, and that is right."""

    reason: str

    def __str__(self) -> str:
        """Return it on one line."""
        return f"no driver: {self.reason}"


@dataclass(frozen=True)
class Refusal:
    """None can be: why, and the nearest thing that works."""

    reason: str
    nearest: str

    def __str__(self) -> str:
        """Return it on one line."""
        return f"{self.reason}; {self.nearest}"


Answer = Choice | NoDriver | Refusal


def resolve(devices: Sequence[str], os: Os, gpu: Gpu) -> Answer:
    """Return the driver for NVIDIA GPUs with these PCI device ids (four lower-case hex digits) in a pool."""
    if not gpu.install_cuda:
        return NoDriver("installCuda is false")
    if not devices:
        return NoDriver("no NVIDIA GPU")
    if unknown := unknown_of(devices):
        return Refusal(
            f"{unknown} is in no row of the table of GPUs, and nothing is guessed", f"write {NONE}"
        )
    return _answered(products_of(devices), os, gpu.cuda_version)


def for_any(os: Os, gpu: Gpu) -> Answer:
    """Return the answer as long as no GPU is known: a refusal if none at all could get a driver there."""
    return _answered((), os, gpu.cuda_version) if gpu.install_cuda else NoDriver("installCuda is false")


def _answered(products: Sequence[Product], os: Os, cuda: str | None) -> Answer:
    found = choice(products, os, cuda)
    return found if isinstance(found, Choice) else Refusal(found, nearest(products, os, cuda))


def products_of(devices: Iterable[str]) -> tuple[Product, ...]:
    """Return the products with these ids, each once, oldest generation first; unknown ids are left out."""
    known = {BY_ID[one].key: BY_ID[one] for one in devices if one in BY_ID}
    return tuple(sorted(known.values(), key=lambda one: (one.generation.first, one.first, one.key)))


def unknown_of(devices: Iterable[str]) -> str:
    """Return the ids that are in no row, as lspci writes them (10de:1234); empty if there are none."""
    return ", ".join(f"{VENDOR}:{one}" for one in sorted(set(devices) - BY_ID.keys()))
