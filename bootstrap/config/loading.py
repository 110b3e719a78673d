"""From files to a cluster: read, lay over each other, validate, check across fields."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from bootstrap.collector import uncollected
from bootstrap.config import cross, problems
from bootstrap.config.anchoring import anchored, folders_of
from bootstrap.config.compose import compose, problem, raise_if_any, read
from bootstrap.config.layering import merge
from bootstrap.config.tree import Table, Tree, plain
from bootstrap.errors import ConfigError, Problem
from bootstrap.model import Cluster


def load(paths: Sequence[Path]) -> Cluster:
    """Return the cluster that the files describe, each laid over those before it.

    A relative path means the same file wherever it is written: in the cluster it begins in the folder of the
    last file (`base_of`).

    Raises:
        ConfigError: something is wrong; it carries every problem of every file.
    """
    with uncollected():
        tree, wrong = layered(paths)
        if tree is None:
            nothing = problem("config.yaml", 1, 1, "is not given; name a file with --config")
            raise ConfigError(wrong or (nothing,))
        folders = folders_of(paths)
        cluster, found = _validated(anchored(tree, folders) if folders else tree)
    raise_if_any((*wrong, *found))
    if cluster is None:
        raise ConfigError(wrong)
    return cluster


def from_yaml(data: bytes, file: str) -> object:
    """Return the plain values in `data`, any YAML; None if it holds nothing. `file` is for the error text.

    Raises:
        ConfigError: it is no YAML.
    """
    tree, wrong = compose(data, file)
    raise_if_any(wrong)
    return None if tree is None else plain(tree)


def layered(paths: Sequence[Path]) -> tuple[Tree | None, tuple[Problem, ...]]:
    """Return the tree of all files (None if one is unreadable) and what is wrong with them as YAML."""
    wrong: list[Problem] = []
    trees: list[Table] = []
    for path in paths:
        tree, found = read(path)
        wrong += found
        if isinstance(tree, Table):
            trees.append(tree)
        elif not found or tree is not None:
            wrong.append(_no_mapping(path, tree))
    if not trees or len(trees) < len(paths):
        return None, tuple(wrong)
    merged: Tree = trees[0]
    for tree in trees[1:]:
        merged = merge(merged, tree)
    return merged, tuple(wrong)


def _no_mapping(path: Path, tree: Tree | None) -> Problem:
    what = "is empty" if tree is None or plain(tree) is None else "holds no mapping at the top"
    place = tree.position if tree else None
    line, column = (place.line, place.column) if place else (1, 1)
    return problem(str(path), line, column, f"{what}; start from configs/example.yaml")


def _validated(tree: Tree) -> tuple[Cluster | None, list[Problem]]:
    across = cross.check(tree)
    try:
        return Cluster.model_validate(plain(tree), by_alias=True, by_name=False), across
    except ValidationError as error:
        return None, [*problems.from_validation(error, tree), *across]
