"""Says where each value of the configuration came from."""

from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath

from bootstrap.config.loading import layered, load
from bootstrap.config.suggest import choice
from bootstrap.config.tree import Path, Tree, find
from bootstrap.errors import ConfigError, UsageError


def explain(paths: Sequence[FilePath], key: str) -> str:
    """Return one line `key = value  (file:line:column)` for each value at or below `key`.

    `key` is dotted as in error texts (`machines.0.mac`); items with a name may be called by it
    (`machines.w1.mac`); an empty key means everything. Values no file holds are marked `(default)`.

    Raises:
        ConfigError: the configuration is wrong.
        UsageError: there is no such key.
    """
    values = load(paths).model_dump(mode="json", by_alias=True)
    tree, wrong = layered(paths)
    if tree is None:
        raise ConfigError(wrong)
    path, found = _descend(values, key)
    rows = list(_rows(path, found)) or [(path, found)]
    return "\n".join(f"{_dotted(row)} = {_text(value)}  ({_origin(tree, row)})" for row, value in rows)


def _descend(values: object, key: str) -> tuple[Path, object]:
    """Return the path that `key` means, and what is there."""
    path: Path = ()
    for word in key.split(".") if key else ():
        known = _steps(values)
        if word not in known:
            raise UsageError(f"{key}: {_dotted((*path, word))} is no key; {choice(word, map(str, known))}")
        step = known[word]
        values = values[step]  # type: ignore[index]  # _steps knows it
        path = (*path, step)
    return path, values


def _steps(values: object) -> dict[str, str | int]:
    steps: dict[str, str | int] = {}
    if isinstance(values, dict):
        steps.update({str(key): key for key in values})
    if isinstance(values, list):
        steps.update({str(index): index for index in range(len(values))})
        named = ((item.get("name"), index) for index, item in enumerate(values) if isinstance(item, dict))
        steps.update({name: index for name, index in named if name})
    return steps


def _rows(path: Path, values: object) -> Iterator[tuple[Path, object]]:
    """Yield every single value below `values` that is set, with its path."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _rows((*path, key), value)
    elif isinstance(values, list) and any(isinstance(item, (dict, list)) for item in values):
        for index, value in enumerate(values):
            yield from _rows((*path, index), value)
    elif values is not None:
        yield path, values


def _origin(tree: Tree, path: Path) -> str:
    node = find(tree, path)
    return str(node.position) if node else "default"


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))


def _text(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "not set" if value is None else str(value)
