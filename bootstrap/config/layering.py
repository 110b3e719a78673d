"""Lays configuration files over each other: mappings by key, named things by name, other lists whole."""

from bootstrap.config.tree import Entry, Path, Scalar, Sequence, Table, Tree, child

NAMED: frozenset[Path] = frozenset(
    {("machines",), ("pools",), ("controlPlane", "hosts"), ("lab", "machines")},
)
"""Lists whose items have a `name` by which a later file changes them."""


def merge(below: Tree, above: Tree, path: Path = ()) -> Tree:
    """Return `below` as `above` changes it; every value keeps the place it came from."""
    if isinstance(below, Table) and isinstance(above, Table):
        return _tables(below, above, path)
    if isinstance(below, Sequence) and isinstance(above, Sequence) and path in NAMED:
        return _named(below, above)
    return above


def _tables(below: Table, above: Table, path: Path) -> Table:
    entries = dict(below.entries)
    for key, entry in above.entries.items():
        old = entries.get(key)
        tree = merge(old.tree, entry.tree, (*path, key)) if old else entry.tree
        entries[key] = Entry(entry.key, tree)
    return Table(below.position, entries)


def _named(below: Sequence, above: Sequence) -> Sequence:
    items = list(below.items)
    places: dict[object, int] = {}
    for index, item in enumerate(items):
        places.setdefault(_name(item), index)
    places.pop(None, None)
    for item in above.items:
        place = places.pop(_name(item), None)
        if place is None:
            items.append(item)
        else:
            items[place] = merge(items[place], item, (0,))
    return Sequence(below.position, tuple(items))


def _name(item: Tree) -> object:
    name = child(item, "name")
    return name.value if isinstance(name, Scalar) else None
