"""A configuration file as a tree in which every value knows the place it came from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Position:
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        """Return the place as compilers write it."""
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Scalar:
    """A single value; `raw` is its text before YAML's rules made a number or a boolean of it."""

    position: Position
    value: str | int | float | bool | None
    raw: str


@dataclass(frozen=True)
class Sequence:
    """A list."""

    position: Position
    items: tuple["Tree", ...]


@dataclass(frozen=True)
class Entry:
    """A key of a mapping and what it holds."""

    key: Position
    tree: "Tree"


@dataclass(frozen=True)
class Table:
    """A mapping; its keys are always text."""

    position: Position
    entries: Mapping[str, Entry]


Tree = Scalar | Sequence | Table


def plain(tree: Tree) -> object:
    """Return `tree` as the plain values that it holds."""
    match tree:
        case Scalar():
            return tree.value
        case Sequence():
            return [plain(item) for item in tree.items]
        case Table():
            return {key: plain(entry.tree) for key, entry in tree.entries.items()}


def child(tree: Tree, step: str | int) -> Tree | None:
    """Return what is at `step` right under `tree`, or None."""
    if isinstance(tree, Table):
        entry = tree.entries.get(str(step))
        return entry.tree if entry else None
    if isinstance(tree, Sequence) and isinstance(step, int) and step < len(tree.items):
        return tree.items[step]
    return None


def find(tree: Tree, path: Path) -> Tree | None:
    """Return what is at `path` under `tree`, or None."""
    found: Tree | None = tree
    for step in path:
        found = child(found, step) if found else None
    return found


def nearest(tree: Tree, path: Path) -> Tree:
    """Return what is at `path`, or else at the longest beginning of it that exists."""
    for step in path:
        below = child(tree, step)
        if below is None:
            return tree
        tree = below
    return tree


def key_position(tree: Tree, path: Path) -> Position:
    """Return where the last key of `path` is written, or else the place of what is nearest to it."""
    parent = find(tree, path[:-1])
    if isinstance(parent, Table) and path and (entry := parent.entries.get(str(path[-1]))):
        return entry.key
    return nearest(tree, path).position


def leaves(tree: Tree, path: Path = ()) -> Iterator[tuple[Path, Tree]]:
    """Yield every scalar, and every empty list or mapping, under `tree` with its path."""
    match tree:
        case Table(entries=entries) if entries:
            for key, entry in entries.items():
                yield from leaves(entry.tree, (*path, key))
        case Sequence(items=items) if items:
            for index, item in enumerate(items):
                yield from leaves(item, (*path, index))
        case _:
            yield path, tree
