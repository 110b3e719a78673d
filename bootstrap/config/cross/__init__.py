"""RULES ACROSS FIELDS: each looks at the tree as it stands, so that one wrong value hides no other."""

from bootstrap.config.tree import Tree
from bootstrap.errors import Problem


def check(tree: Tree) -> list[Problem]:
    """Return what is wrong in `tree` beyond single values."""
    del tree
    return []
