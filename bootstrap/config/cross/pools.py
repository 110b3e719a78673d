"""Rules of pools and disks."""

import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path as FolderPath

from bootstrap.config.cross.view import View
from bootstrap.config.suggest import choice
from bootstrap.config.tree import Path
from bootstrap.errors import Problem
from bootstrap.model.amounts import size_from
from bootstrap.model.base import shown

FAMILIES = FolderPath(__file__).parents[2] / "families"
OWN_ARGUMENTS = frozenset(
    {"BOOTIF", "boot", "initrd", "ignition.config.url", "ignition.platform.id", "ignition.firstboot"},
)
"""Kernel arguments that netboot itself depends on."""


@cache
def families() -> tuple[str, ...]:
    """Return the names of the OS families: one per file in bootstrap/families."""
    found = (module.name.replace("_", "-") for module in pkgutil.iter_modules([str(FAMILIES)]))
    return tuple(sorted(found))


def known_family(view: View) -> Iterator[Problem]:
    """A family is a file in bootstrap/families."""
    for pool in view.each("pools"):
        family = view.text(*pool, "os", "family")
        if family is not None and family not in families():
            advice = choice(family, families())
            yield view.problem((*pool, "os", "family"), f"{shown(family)} is no OS family; {advice}")
        if family in families() and family != "debian" and view.has(*pool, "os", "kernel"):
            yield view.key_problem((*pool, "os", "kernel"), f"{family} has one kernel only; remove this key")


def disk_rules(view: View) -> Iterator[Problem]:
    """A disk rule selects by something, or every disk of the machine would match."""
    for item in (*view.each("pools"), *view.each("machines")):
        path = (*item, "disk", "select")
        if view.has(*path) and view.read(lambda value: value == {}, *path):
            yield view.problem(path, "selects by nothing; write such as {type: nvme, minSize: 400GiB}")
        yield from _sizes(view, path)


def _sizes(view: View, path: Path) -> Iterator[Problem]:
    least, most = view.read(size_from, *path, "minSize"), view.read(size_from, *path, "maxSize")
    if least and most and least > most:
        small, large = view.raw(*path, "maxSize"), view.raw(*path, "minSize")
        yield view.problem((*path, "maxSize"), f"{small} is under minSize; write more than {large}")


def own_arguments(view: View) -> Iterator[Problem]:
    """Some kernel arguments are ours."""
    for pool in view.each("pools"):
        for path, argument in view.texts(*pool, "kernelArgs"):
            key = argument.partition("=")[0]
            if key in OWN_ARGUMENTS or key.startswith("firstlight."):
                yield view.problem(path, f"{shown(argument)} is set by firstlight itself; remove it")


def acceptance(view: View) -> Iterator[Problem]:
    """Only a pool that describes machines can accept them by itself."""
    for pool in view.each("pools"):
        automatic = view.read(lambda value: value is True, *pool, "autoAccept")
        if automatic and not view.keys(*pool, "match"):
            yield view.key_problem(
                (*pool, "autoAccept"), 'would accept every machine; add match: such as {gpus: ">=8"}'
            )
        if view.read(lambda value: value == {}, *pool, "match"):
            yield view.problem((*pool, "match"), 'matches every machine; write such as {gpus: ">=8"}')


RULES: tuple[Callable[[View], Iterator[Problem]], ...] = (known_family, disk_rules, own_arguments, acceptance)
