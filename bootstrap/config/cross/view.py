"""A forgiving look at the tree: what is there and readable, None for all else."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from bootstrap.config.problems import at
from bootstrap.config.tree import Path, Scalar, Sequence, Table, Tree, find, key_position, nearest, plain
from bootstrap.errors import Problem

T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """The tree under check; what is malformed is already reported elsewhere, and looks absent here."""

    tree: Tree
    found: dict[str, object] = field(default_factory=dict, compare=False)
    """What rules have read and others want too, by a name of theirs."""

    def read(self, parse: Callable[[object], T], *path: str | int) -> T | None:
        """Return what `parse` makes of the value at `path`, or None if it is absent or refused."""
        node = find(self.tree, path)
        if node is None:
            return None
        try:
            return parse(plain(node))
        except ValueError:
            return None

    def text(self, *path: str | int) -> str | None:
        """Return the text at `path`, or None if there is none."""
        node = find(self.tree, path)
        return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else None

    def each(self, *path: str | int) -> Iterator[Path]:
        """Yield the path of every item of the list at `path`."""
        node = find(self.tree, path)
        if isinstance(node, Sequence):
            for index in range(len(node.items)):
                yield (*path, index)

    def keys(self, *path: str | int) -> tuple[str, ...]:
        """Return the keys of the mapping at `path`; none if it is no mapping."""
        node = find(self.tree, path)
        return tuple(node.entries) if isinstance(node, Table) else ()

    def has(self, *path: str | int) -> bool:
        """Return whether something other than null is at `path`."""
        node = find(self.tree, path)
        return node is not None and not (isinstance(node, Scalar) and node.value is None)

    def raw(self, *path: str | int) -> str:
        """Return what the file holds at `path`; empty if it is no single value."""
        node = find(self.tree, path)
        return node.raw if isinstance(node, Scalar) else ""

    def open(self, *path: str | int) -> bool:
        """Return whether keys could stand in the mapping at `path`: it is absent, or a mapping."""
        parent, node = find(self.tree, path[:-1]), find(self.tree, path)
        return isinstance(node, Table) or (node is None and isinstance(parent, Table))

    def texts(self, *path: str | int) -> Iterator[tuple[Path, str]]:
        """Yield path and text of every text in the list at `path`."""
        for item in self.each(*path):
            if (text := self.text(*item)) is not None:
                yield item, text

    def problem(self, path: Path, message: str) -> Problem:
        """Return the problem with the value at `path`, or with what is nearest to it."""
        return at(nearest(self.tree, path).position, path, message)

    def key_problem(self, path: Path, message: str) -> Problem:
        """Return the problem with the key at the end of `path`."""
        return at(key_position(self.tree, path), path, message)

    def where(self, path: Path) -> str:
        """Return `path` as people read it, with its line."""
        return f"{'.'.join(map(str, path))}, line {nearest(self.tree, path).position.line}"
