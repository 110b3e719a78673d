"""docs/stores.md: its configuration is one, its commands are those that exist, and what it says is said."""

import re
from pathlib import Path

import pytest

from bootstrap.config import load
from tests.docs_commands import commands

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "stores.md"
TEXT = DOCUMENT.read_text()
SOURCES = "\n".join(
    path.read_text() for room in ("bootstrap", "web") for path in sorted((ROOT / room).rglob("*.py"))
)
SAID = [
    *("no answer within {", "the appliance of {", "holds a state of this cluster already"),
    *("somebody else writes there", "has the state, and the configuration says store: etcd"),
    *("the state was moved to {", "was left: the state is in", "last-known state, the store does not answer"),
]


def test_its_configuration_is_one(tmp_path: Path) -> None:
    (section,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    over = tmp_path / "over.yaml"
    over.write_text(section)

    appliance = load(
        [ROOT / "configs" / "example.yaml", over]
    ).appliance  # paths begin where the last file is

    assert appliance.store == "etcd"
    assert appliance.etcd is not None
    assert appliance.etcd.key_file == "etcd/firstlight.key"


def test_its_commands_are_those_that_the_system_test_runs() -> None:
    begin = ["deploy.py", "--config", "config.yaml", "store", "migrate", "--to"]

    assert commands(DOCUMENT, "anywhere") == [
        [*begin, "etcd"],
        [*begin, "sqlite"],
        [*begin, "sqlite", "--without-etcd"],
    ]


@pytest.mark.parametrize("said", SAID)
def test_what_it_quotes_is_said(said: str) -> None:
    assert said in SOURCES
    assert said.split("{", maxsplit=1)[0].strip() in TEXT
