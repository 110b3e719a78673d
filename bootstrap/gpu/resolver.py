"""Answers which driver GPUs get in a pool: a choice, none on purpose, or a refusal with what would work: pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from bootstrap.gpu.choosing import Choice, choice
from bootstrap.gpu.nearest import NONE, nearest
from bootstrap.gpu.rows import Product
from bootstrap.gpu.table import BY_ID
from bootstrap.model import Gpu, Os

VENDOR = "10de"
"""NVIDIA's PCI vendor id."""


BOARDS = "boards of eight GPUs (SXM) need NVIDIA's fabric manager too, which is not offered there"
"""What is to be known as long as nobody knows which GPUs they are."""


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
AnyAnswer = TypeVar("AnyAnswer", bound=Answer)


def resolve(devices: Sequence[str], os: Os, gpu: Gpu) -> Answer:
    """Return the driver for NVIDIA GPUs with these PCI device ids (four lower-case hex digits) in a pool."""
    if not gpu.install_cuda:
        return NoDriver("installCuda is false")
    if not devices:
        return NoDriver("no NVIDIA GPU")
    if gpu.driver is None and (unknown := unknown_of(devices)):
        return Refusal(
            f"{unknown} is in no row of the table of GPUs, and nothing is guessed",
            f"write driver: and the branch that drives it, if you know one, or write {NONE}",
        )
    return vouched(_answered(products_of(devices), os, gpu), devices)


def vouched(answer: AnyAnswer, devices: Sequence[str]) -> AnyAnswer:
    """Return `answer` with a note of GPUs that are in no row: which driver drives them is what the pool says."""
    if not isinstance(answer, Choice) or not (unknown := unknown_of(devices)):
        return answer
    note = f"{unknown} is in no row of the table of GPUs: that it drives it is the pool's word"
    return replace(answer, notes=(*answer.notes, note))


def for_any(os: Os, gpu: Gpu) -> Answer:
    """Return the answer as long as no GPU is known: a refusal if none at all could get a driver there."""
    answer = _answered((), os, gpu) if gpu.install_cuda else NoDriver("installCuda is false")
    return replace(answer, notes=(BOARDS, *answer.notes)) if isinstance(answer, Choice) else answer


def _answered(products: Sequence[Product], os: Os, gpu: Gpu) -> Answer:
    found = choice(products, os, gpu.cuda_version, gpu.driver)
    if isinstance(found, Choice):
        return found
    return Refusal(found, nearest(products, os, gpu.cuda_version))


def products_of(devices: Iterable[str]) -> tuple[Product, ...]:
    """Return the products with these ids, each once, oldest generation first; unknown ids are left out."""
    known = {BY_ID[one].key: BY_ID[one] for one in devices if one in BY_ID}
    return tuple(sorted(known.values(), key=lambda one: (one.generation.first, one.first, one.key)))


def unknown_of(devices: Iterable[str]) -> str:
    """Return the ids that are in no row, as lspci writes them (10de:1234); empty if there are none."""
    return ", ".join(f"{VENDOR}:{one}" for one in sorted(set(devices) - BY_ID.keys()))
