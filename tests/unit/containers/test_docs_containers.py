"""docs/containers.md says what the table, the command line and the errors say."""

import re
from pathlib import Path

from bootstrap import config
from bootstrap.containers.dialect import DIALECTS
from bootstrap.containers.table import PXE, WEB
from tests.docs_commands import PYTHON

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/containers.md").read_text()


def test_its_configuration_loads_over_the_example(tmp_path: Path) -> None:
    (block,) = re.findall(r"<!-- config: run over the example -->\n```yaml\n(.*?)```", TEXT, re.DOTALL)
    given = tmp_path / "given.yaml"
    given.write_text(re.sub(r"^(    )# ", r"\1", block, flags=re.MULTILINE))
    plain = tmp_path / "plain.yaml"
    plain.write_text(block)

    example = ROOT / "configs/example.yaml"
    assert config.load([example, plain]).appliance.engine == "podman"
    assert config.load([example, given]).appliance.containers.web == "registry.example.net/firstlight-web:1"


def test_its_table_has_the_capabilities_and_the_user_of_the_rows() -> None:
    row = next(line for line in TEXT.splitlines() if line.startswith("| capabilities |"))

    assert re.findall(r"`([A-Z_]+)`", row) == list(PXE.capabilities)
    assert f"| {WEB.user}, no capability |" in TEXT
    for name in PXE.capabilities:
        assert TEXT.count(f"`{name}`") >= 2, name


def test_its_remedies_are_those_of_the_errors() -> None:
    for dialect in DIALECTS.values():
        assert dialect.name in TEXT
    assert DIALECTS["podman"].install in TEXT
    assert DIALECTS["docker"].remedies["Cannot connect|daemon running"].removeprefix("start it: ") in TEXT


def test_its_commands_are_ours() -> None:
    lines = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
    mine = [line.split() for line in lines if line.startswith(PYTHON)]

    assert [words[4] for words in mine] == ["render", "serve"]
    assert (ROOT / "compose.yaml").is_file()
