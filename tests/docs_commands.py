"""The commands of a document that a test can run, found by the comment above their block."""

import re
import shlex
from pathlib import Path

MARKS = ("anywhere", "lab")
PYTHON = "python3"

_BLOCK = re.compile(
    r"^ *<!-- run: (?P<mark>\S+) -->\n *```sh\n(?P<lines>.*?)^ *```$", re.MULTILINE | re.DOTALL
)
_MARK = re.compile(r"<!-- run: ")


def commands(document: Path, mark: str) -> list[list[str]]:
    """Return the commands of the blocks under `<!-- run: mark -->`, in order, each from `deploy.py` on.

    Raises:
        ValueError: a mark is unknown or has no block, or a marked line is no `python3 deploy.py` command.
    """
    text = document.read_text()
    blocks = list(_BLOCK.finditer(text))
    if len(blocks) != len(_MARK.findall(text)):
        raise ValueError(f"{document.name}: a <!-- run: ... --> has no ```sh block right below it")
    if unknown := {block["mark"] for block in blocks} - set(MARKS):
        raise ValueError(f"{document.name}: unknown marks {sorted(unknown)}; there are {MARKS}")
    wanted = [block["lines"] for block in blocks if block["mark"] == mark]
    return [_command(document, line) for lines in wanted for line in lines.splitlines() if line.strip()]


def _command(document: Path, line: str) -> list[str]:
    python, *words = shlex.split(line)
    if python != PYTHON or words[:1] != ["deploy.py"]:
        raise ValueError(f"{document.name}: {line.strip()!r} is no `python3 deploy.py` command")
    return words
