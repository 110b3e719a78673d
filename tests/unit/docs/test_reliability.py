"""docs/RELIABILITY.md shows what docs/reliability.json holds, and a run replaces its own rows only."""

import json

import pytest

from tests.reliability import DOCUMENT, TABLE, merged, replaced, table

STAMP = {"date": "2026-01-02", "commit": "abc", "machine": "m"}


def row(promise: str, found: str) -> dict[str, object]:
    return {"promise": promise, "asked": "0", "done": "1", "found": found, "seed": None, "minutes": 0.1}


def test_the_document_shows_the_rows_that_are_kept() -> None:
    text = DOCUMENT.read_text()

    assert replaced(text, table(json.loads(TABLE.read_bytes()))) == text


def test_a_run_replaces_the_rows_of_its_own_promises() -> None:
    before = merged([], [row("A", "1"), row("B", "1")], **STAMP)

    after = merged(before, [row("B", "2")], **{**STAMP, "commit": "def"})

    assert [("A", "1", "abc"), ("B", "2", "def")] == [
        (line["promise"], line["found"], line["commit"]) for line in after
    ]


def test_a_bar_in_a_cell_does_not_break_the_table() -> None:
    shown = table(merged([], [row("A|B", "1")], **STAMP))

    assert "| A\\|B | 0 |" in shown


def test_a_document_without_marks_is_not_overwritten() -> None:
    with pytest.raises(ValueError, match="marks"):
        replaced("# Reliability\n", "x")
