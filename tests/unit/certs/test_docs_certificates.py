"""docs/certificates.md says what the program does."""

from pathlib import Path

import pytest

from certs.sealing import ROUNDS
from certs.wanted import (
    AUTHORITY_LIFE,
    LEAF_LIFE,
    PROVISIONING_BACKDATE,
    Use,
    Wanted,
    WantedCa,
    WantedKeyPair,
)
from tests.unit.certs import samples

TEXT = (Path(__file__).parents[3] / "docs" / "certificates.md").read_text()
USES = {
    frozenset({Use.SERVER}): "server",
    frozenset({Use.CLIENT}): "client",
    frozenset({Use.SERVER, Use.CLIENT}): "server and client",
}


def _table() -> list[list[str]]:
    lines = TEXT.partition("<!-- table of rows")[2].split("\n\n")[1].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def _row(row: Wanted) -> list[str]:
    match row:
        case WantedKeyPair():
            return [row.name, "", "", "", "key pair"]
        case WantedCa():
            group = "the cluster's name" if row.organization else ""
            return [row.name, row.common_name, group, "itself", "authority"]
        case _:
            name = row.name.replace("-m1", "-HOST")
            return [name, row.common_name, row.organization or "", row.issuer, USES[row.uses]]


def test_the_table_is_the_programs_table() -> None:
    rows = [_row(row) for row in samples.ROWS if not row.name.endswith("-m2")]

    assert [cells[:5] for cells in _table()] == rows


def test_only_rows_with_names_name_some() -> None:
    named = {_row(row)[0] for row in samples.LEAVES if row.sans and not row.name.endswith("-m2")}

    assert {cells[0] for cells in _table() if cells[5]} == named


@pytest.mark.parametrize(
    "number",
    [
        f"{LEAF_LIFE.days} days",
        f"{AUTHORITY_LIFE.days // 365} years",
        f"{PROVISIONING_BACKDATE.days * 24} hours",
        f"{ROUNDS:,} rounds",
    ],
)
def test_its_numbers_are_the_programs(number: str) -> None:
    assert number in TEXT
