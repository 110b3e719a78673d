"""Takes from requirements.lock what one container needs; runs in a build stage, with the standard library alone.

`python3 pins.py requirements.lock web` prints the lines of the packages of web and of all that they need, with
their hashes, for `pip install --require-hashes --no-deps`. What needs what is told by the lock's own `# via` comments.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOTS = {
    "pxe": ("pydantic", "pyroute2", "pyyaml", "requests"),
    "web": (
        "cryptography",
        "flask",
        "granian",
        "jinja2",
        "lightkube",
        "prometheus-client",
        "pydantic",
        "pyyaml",
    ),
}
"""What the code of each container imports by itself; a test compares."""

_BEGIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==", re.MULTILINE)
_VIA = re.compile(r"^    #(?: via|  ) (?P<parent>[a-z0-9][a-z0-9._-]*)", re.MULTILINE)


def pins(lock: str, roots: tuple[str, ...]) -> str:
    """Return the part of `lock` that `roots` need, in its order.

    Raises:
        KeyError: a root is not in the lock.
    """
    entries = _entries(lock)
    wanted = set(roots)
    if missing := wanted - entries.keys():
        raise KeyError(f"not in the lock: {', '.join(sorted(missing))}")
    grown = True
    while grown:
        more = {name for name, text in entries.items() if name not in wanted and wanted & _parents(text)}
        wanted |= more
        grown = bool(more)
    return "".join(text for name, text in entries.items() if name in wanted)


def _entries(lock: str) -> dict[str, str]:
    begins = [*_BEGIN.finditer(lock)]
    ends = [*(match.start() for match in begins[1:]), len(lock)]
    return {match["name"]: lock[match.start() : end] for match, end in zip(begins, ends, strict=True)}


def _parents(entry: str) -> set[str]:
    return {match["parent"] for match in _VIA.finditer(entry)}


if __name__ == "__main__":
    sys.stdout.write(pins(Path(sys.argv[1]).read_text(encoding="utf-8"), ROOTS[sys.argv[2]]))
