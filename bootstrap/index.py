"""What each machine's documents in a tree were made of, and how their files looked when they were written.

As with git's index, a file whose size and time are those of then is the file that was written then. So a run that
changes one machine of ten thousand looks at all, and makes only the documents of one.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bootstrap.environment import LOCK, ROOT
from bootstrap.render.bundle import MACHINES, NODE, File, Rendered, paths_of

NAME = "INPUTS.json"
FEWEST_MACHINES = 50
"""A smaller tree has no index: all of it is compared and written faster than one can look."""

ABSENT = (-1, 0, 0)
"""How a document looks that a machine does not have."""

Seen = tuple[int, ...]
"""The folder's time, then size and time of each document."""


@dataclass(frozen=True)
class Index:
    """By machine: the digest of the inputs, and how folder and files look."""

    machines: Mapping[str, tuple[str, Seen]]

    def to_bytes(self) -> bytes:
        """Return the index as it is kept."""
        return json.dumps({"program": program(), "machines": self.machines}).encode()

    def after(self, inputs: Mapping[str, str], put: Mapping[str, File], stamp: int) -> "Index":
        """Return the index of a tree of `inputs` once the files in `put` are there, all with the time `stamp`."""

        def seen(name: str) -> Seen:
            files = (put.get(path) for path in paths_of(name))
            parts = (
                (len(file.content), stamp, stat.S_IFREG | file.mode) if file else ABSENT for file in files
            )
            return (stamp, *(number for part in parts for number in part))

        fresh = {name for name in inputs if paths_of(name)[0] in put}
        old = {name: self.machines[name] for name in inputs if name not in fresh}
        return Index({**old, **{name: (inputs[name], seen(name)) for name in fresh}})


def read(folder: Path) -> Index | None:
    """Return the index in the tree at `folder`; None if there is none, or it is of another program."""
    try:
        found = json.loads((folder / NAME).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("program") != program():
        return None
    return Index({name: (digest, tuple(seen)) for name, (digest, seen) in found["machines"].items()})


def is_wanted(bundle: object) -> bool:
    """Return whether a tree of `bundle` has an index."""
    return isinstance(bundle, Rendered) and len(bundle.inputs) >= FEWEST_MACHINES


def of_tree(folder: Path, bundle: Rendered) -> Index:
    """Return the index of the tree of `bundle` that was just written to `folder`."""
    found = {name: (digest, look(folder, name)) for name, digest in bundle.inputs.items()}
    return Index({name: (digest, seen) for name, (digest, seen) in found.items() if seen is not None})


def look(folder: Path, name: str) -> Seen | None:
    """Return how a machine's folder and documents look; None if one is missing."""
    base = f"{folder}/{MACHINES}/{name}"
    try:
        seen = [os.stat(base).st_mtime_ns]  # noqa: PTH116  # thirty thousand Paths would take as long as all else
        for path in paths_of(name):
            seen += _look(f"{folder}/{path}")
    except OSError:
        return None
    return tuple(seen)


def _look(path: str) -> Seen:
    """Return how a document looks; raises OSError if one that every machine has is missing."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        if path.endswith(f"/{NODE}"):
            return ABSENT
        raise
    return (found.st_size, found.st_mtime_ns, found.st_mode)


def stale(folder: Path, index: Index, inputs: Mapping[str, str]) -> list[str]:
    """Return the machines whose documents must be made: new, changed, or not as they were written."""
    return [
        name
        for name, digest in inputs.items()
        if (found := index.machines.get(name)) is None or found != (digest, look(folder, name))
    ]


@cache
def program() -> str:
    """Return a digest of all that makes documents: our source, the texts in configs/, the libraries' versions."""
    whole = hashlib.sha256(LOCK.read_bytes())
    for folder in ("bootstrap", "configs"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                whole.update(f"{path}\0".encode() + path.read_bytes())
    return whole.hexdigest()
