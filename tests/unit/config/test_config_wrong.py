"""Each file in tests/wrong_configs beside the lines that it must give, all of them and no other."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootstrap import config
from bootstrap.errors import ConfigError

FOLDER = Path(__file__).parents[2] / "wrong_configs"
CASES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_wrong_config_gives_every_line(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    expected = case.with_suffix(".expected").read_text().splitlines()

    with pytest.raises(ConfigError) as caught:
        config.load([Path(case.name)])

    assert str(caught.value).splitlines() == [f"{case.name}:{line}" for line in expected]
    assert caught.value.exit_code == 2


def test_there_are_sixty_and_each_has_its_lines() -> None:
    assert len(CASES) >= 60
    assert {path.stem for path in CASES} == {path.stem for path in FOLDER.glob("*.expected")}


def test_every_key_of_the_schema_is_got_wrong_once() -> None:
    found = config.schema()
    reported = set()
    for file in FOLDER.glob("*.expected"):
        for line in file.read_text().splitlines():
            match = re.match(r"\d+:\d+: (?:(\S+): )?", line)
            assert match, line
            reported.add(re.sub(r"\.\d+", "", match[1] or ""))

    assert set(_keys(found, "", found["$defs"])) - reported == set()


def _keys(node: dict[str, Any], path: str, models: dict[str, Any]) -> Iterator[str]:
    if "$ref" in node:
        yield from _keys(models[node["$ref"].rpartition("/")[2]], path, models)
    for option in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        yield from _keys(option, path, models)
    if "items" in node:
        yield from _keys(node["items"], path, models)
    for name, below in node.get("properties", {}).items():
        place = f"{path}.{name}".lstrip(".")
        yield place
        yield from _keys(below, place, models)


def test_every_line_says_what_to_write() -> None:
    """A remedy is an imperative after the semicolon or colon, or a question."""
    remedies = re.compile(
        r"[;,:] (?:\(?or )?(write|add|remove|did you mean|change|close|quote|save|start|check|keep|use|put)\b"
    )
    lines = [line for file in FOLDER.glob("*.expected") for line in file.read_text().splitlines()]

    assert [line for line in lines if not remedies.search(line) and "YAML wants spaces" not in line] == []


def test_no_line_is_pydantics() -> None:
    lines = "\n".join(file.read_text() for file in FOLDER.glob("*.expected"))

    for words in (
        "Input should",
        "not permitted",
        "Field required",
        "Value error",
        "does not fit here",
        "validation",
    ):
        assert words not in lines


def test_secrets_are_not_repeated() -> None:
    lines = "\n".join(file.read_text() for file in FOLDER.glob("*.expected"))

    assert "admin:pw" not in lines
    assert "PRIVATE KEY" not in lines


def test_a_missing_file_is_a_problem_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load([tmp_path / "none.yaml", tmp_path])

    first, second = str(caught.value).splitlines()
    assert "none.yaml:1:1: cannot be read: No such file or directory" in str(caught.value)
    assert "cannot be read" in first
    assert "cannot be read" in second


def test_no_files_at_all_is_a_problem() -> None:
    with pytest.raises(ConfigError) as caught:
        config.load([])

    assert "name a file with --config" in str(caught.value)
