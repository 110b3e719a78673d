"""docs/troubleshooting.md: each symptom is what a program really says, and each end of an install is told."""

import ast
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from bootstrap import config
from bootstrap.boot import decide
from bootstrap.records.model import MachineRecord
from bootstrap.render.ipxe import on_console
from bootstrap.states import State

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "troubleshooting.md").read_text()
HEADINGS = re.findall(r"^### (.*)$", TEXT, re.MULTILINE)
SYMPTOMS = re.findall(r"^### (.*)\n<!-- said by: (.*) -->$", TEXT, re.MULTILINE)
OURS = ("configs/", "bootstrap/", "pxe/", "web/")
OTHERS = ("SeaBIOS", "dnsmasq", "firmware", "iPXE", "nginx")
ANYTHING = "\0"
"""Stands where a value is put into a text."""


@cache
def said_in(file: str) -> str:
    """Return all texts of a source file, one a line, with ANYTHING where a value is put in."""
    text = (ROOT / file).read_text()
    if not file.endswith(".py"):
        return text
    texts = [*strings(ast.parse(text)), *(reasons() if file == "bootstrap/boot.py" else ())]
    return "\n".join(texts)


def strings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr(values=values):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else ANYTHING for part in values
                )
            case ast.Constant(value=str(text)):
                yield text


def reasons() -> Iterator[str]:
    """Yield what the console of a machine says in each state."""
    machine = config.load([ROOT / "configs" / "lab.yaml"]).machines[0]
    for state in State:
        record = MachineRecord(
            mac=machine.mac, name="w1", state=state, reason="why", since=datetime(2026, 1, 1, tzinfo=UTC)
        )
        yield on_console(decide(machine, record, image=None).reason)
    yield on_console(decide(machine, record.but(state=State.ACCEPTED, reason=""), image=None).reason)


def fixed_words(symptom: str) -> list[str]:
    """Return the runs of words of a heading between what differs; who speaks stands apart, as in the sources."""
    parts = re.split(r"\.\.\.|(?<=^firstlight): |(?<=^NOT INSTALLED): ", symptom)
    return [words for part in parts if len(words := part.strip(" ,;:.()")) > 1]


def test_every_heading_says_who_says_it() -> None:
    assert [heading for heading, _ in SYMPTOMS] == HEADINGS


@pytest.mark.parametrize(("symptom", "files"), SYMPTOMS)
def test_symptom_is_in_the_program_that_says_it(symptom: str, files: str) -> None:
    words = fixed_words(symptom)
    assert max(map(len, words)) >= 8, "too little to search for"
    if files in OTHERS:
        return
    names = files.split()
    assert all(name.startswith(OURS) for name in names)
    said = "\n".join(map(said_in, names))

    assert [part for part in words if part not in said] == []


@pytest.mark.parametrize("file", ["configs/installer/install", "configs/image/initramfs/live"])
def test_every_way_an_installation_can_end_is_told(file: str) -> None:
    ending = r'\b(?:(?:fail|fail_attempt|stop) "|banner "NOT INSTALLED: )([^"]+)'
    ends = re.findall(ending, (ROOT / file).read_text())
    told = {end: longest_words(end) for end in ends if longest_words(end)}

    assert len(told) >= 4
    assert [end for end, words in told.items() if words not in TEXT] == []


def longest_words(message: str) -> str:
    """Return the longest run of fixed words in a shell string; empty if it is all variables."""
    fixed = re.split(r"\$\(\(.*?\)\)|\$\(.*|\$\{?\w+\}?", message)
    return max((part.strip(" ,;:()") for part in fixed), key=len)


def test_every_page_and_place_that_the_page_points_to_is_there() -> None:
    slugs = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }

    assert [place for place in re.findall(r"\]\(#(.*?)\)", TEXT) if place not in slugs] == []
