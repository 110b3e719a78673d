"""Documents point to files that exist; modules are short; every room has the sentence over its door."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
ROOMS = ("bootstrap", "certs", "pxe", "web")
MODULES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
LONGEST_MODULE_LINES = 400


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_points_to_an_existing_file(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text())
    relative = [link for link in links if not re.match(r"[a-z]+:", link)]

    assert [link for link in relative if not (document.parent / link).exists()] == []


def test_no_module_is_longer_than_one_sitting() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}

    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_MODULE_LINES} == {}


def test_every_folder_of_modules_is_a_room() -> None:
    folders = {path.parent for path in MODULES}

    assert [
        str(folder.relative_to(ROOT)) for folder in sorted(folders) if not (folder / "__init__.py").exists()
    ] == []


@pytest.mark.parametrize(
    "door",
    [path for path in MODULES if path.name == "__init__.py"],
    ids=lambda path: str(path.parent.relative_to(ROOT)),
)
def test_room_has_the_sentence_over_its_door(door: Path) -> None:
    over_the_door = (ast.get_docstring(ast.parse(door.read_text())) or "").partition("\n\n")[0]

    assert len(over_the_door.split()) >= 5
    assert over_the_door[0].isupper()
    assert over_the_door.endswith(".")
