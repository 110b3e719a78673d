"""Damaged and hostile configuration files: fine or refused with the place, never a traceback (promise S-06)."""

from pathlib import Path

import pytest

from bootstrap import config
from bootstrap.errors import ConfigError
from tests.tier import dice
from tests.unit.hostile.checked import LOCATED, Tally, check, guarded
from tests.unit.hostile.mutations import MUTATIONS, ROOT, mutated, sources
from tests.unit.hostile.schema_made import made

FEW = 80


def test_damaged_configurations_are_fine_or_refused_with_the_place(tmp_path: Path) -> None:
    tally, random = Tally(), dice("configs")
    with guarded():
        for _ in range(FEW):
            check(tmp_path / "config.yaml", mutated(random), tally)

    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    assert tally.of(0) + tally.of(2) == FEW


def test_every_kind_of_damage_is_survived(tmp_path: Path) -> None:
    random = dice("each kind")
    with guarded():
        for mutation in MUTATIONS:
            check(tmp_path / "config.yaml", mutation(sources()[0], random), Tally())


def test_an_empty_file_can_be_damaged_too() -> None:
    random = dice("empty")
    assert all(isinstance(mutation(b"", random), bytes) for mutation in MUTATIONS)


def test_configurations_made_from_the_schema_are_fine_or_refused_with_the_place(tmp_path: Path) -> None:
    tally, random = Tally(), dice("schema")
    with guarded():
        for _ in range(FEW):
            check(tmp_path / "config.yaml", made(random), tally)

    assert tally.of(0) + tally.of(2) == FEW


def refusals(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        config.load([path])
    return str(refused.value).splitlines()


def test_a_network_that_covers_all_private_addresses_is_refused_without_a_traceback(tmp_path: Path) -> None:
    example = (ROOT / "configs/example.yaml").read_text()
    whole = example.replace("podSubnet: 10.2.0.0/16", "podSubnet: 0.0.0.0/0")
    assert whole != example

    assert any("make the larger one smaller" in line for line in refusals(tmp_path, whole))


def test_a_key_with_escapes_and_line_breaks_cannot_paint_the_terminal(tmp_path: Path) -> None:
    lines = refusals(tmp_path, 'metadata: {name: x, "a\\nb\\e[2Jc\\u2028d": 1}\n')

    assert all(line.isprintable() and LOCATED.fullmatch(line) for line in lines)
    assert any("metadata.a\\nb\\x1b[2Jc\\u2028d: is not a known key" in line for line in lines)
