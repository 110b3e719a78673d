"""Lets paths begin in the folder of the file that they are written in.

Everybody else takes a relative path to begin in the folder of the last file (`base_of`): what an earlier file of
another folder says is told where it was written, and the model's paths are made to lead there.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bootstrap.config.tree import Entry, Scalar, Table, Tree
from bootstrap.config.tree import Sequence as Items
from bootstrap.model.paths import WrittenIn


def base_of(paths: Sequence[Path]) -> Path:
    """Return the folder where relative paths of the cluster that `paths` describe begin: that of the last file."""
    return paths[-1].resolve().parent


def folders_of(paths: Sequence[Path]) -> dict[str, str]:
    """Return, by the name of each file that lies elsewhere than the last, the way to its folder from there."""
    base = base_of(paths)
    ways = {str(path): os.path.relpath(path.resolve().parent, base) for path in paths}
    return {name: way for name, way in ways.items() if way != os.curdir}


def anchored(tree: Tree, folders: Mapping[str, str]) -> Tree:
    """Return `tree` with every text of the files in `folders` knowing the way to its folder."""
    match tree:
        case Scalar(position=position, value=str(text)) if position.file in folders:
            return replace(tree, value=WrittenIn(text, folders[position.file]))
        case Items():
            return replace(tree, items=tuple(anchored(item, folders) for item in tree.items))
        case Table():
            entries = {
                key: Entry(entry.key, anchored(entry.tree, folders)) for key, entry in tree.entries.items()
            }
            return replace(tree, entries=entries)
    return tree
