"""The exported schema and the documentation say what the model says."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bootstrap import config
from bootstrap.config.compose import read
from bootstrap.config.tree import plain
from bootstrap.errors import ConfigError

ROOT = Path(__file__).parents[3]
EXAMPLES = ("example", "ha", "lab")


def _plain(path: Path) -> Any:
    tree, problems = read(path)
    assert tree is not None
    assert problems == ()
    return plain(tree)


def test_the_schema_file_is_in_sync() -> None:
    assert (ROOT / "configs/config.schema.json").read_text() == config.schema_text()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_pass_the_loader_and_the_schema(name: str) -> None:
    path = ROOT / f"configs/{name}.yaml"

    assert config.load([path]).metadata.name
    jsonschema.Draft202012Validator(config.schema()).validate(_plain(path))
    assert path.read_text().startswith("# yaml-language-server: $schema=config.schema.json\n")


def test_the_schema_is_a_schema_and_refuses_what_the_loader_refuses() -> None:
    schema = config.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    good = _plain(ROOT / "configs/example.yaml")
    validator = jsonschema.Draft202012Validator(schema)

    for section, value in (
        ("addons", ["metalb"]),
        ("addons", [{"coredns": {}, "metallb": {"addresses": []}}]),
        ("kind", "cluster"),
        ("pools", [{**good["pools"][0], "os": {"family": "flatcra", "release": "1"}}]),
        ("machines", [{"name": "W1", "mac": "52:54:00:aa:00:01", "pool": "p"}]),
        ("appliances", {}),
    ):
        assert not validator.is_valid({**good, section: value}), section


def test_every_key_is_described() -> None:
    for line in config.reference().splitlines():
        if line.startswith("| `"):
            assert not line.endswith("|  |"), line


def _document() -> str:
    return (ROOT / "docs/config.md").read_text()


def test_the_documentation_holds_the_table_of_keys() -> None:
    table = _document().partition("<!-- keys: begin -->\n")[2].partition("<!-- keys: end -->")[0]

    assert table.strip() == config.reference().strip()


def test_the_yaml_of_the_documentation_loads(tmp_path: Path) -> None:
    blocks = re.findall(r"<!-- config: (run[a-z ]*) -->\n```yaml\n(.*?)```", _document(), re.DOTALL)
    base, site = tmp_path / "base.yaml", tmp_path / "site.yaml"
    base.write_text(blocks[0][1])

    assert blocks[0][0] == "run"
    assert config.load([base]).metadata.name == "rack1"
    assert len(blocks) >= 6
    for kind, text in blocks[1:]:
        assert kind == "run over the first"
        site.write_text(text)
        config.load([base, site])


def test_the_yaml_about_hosts_that_are_nodes_loads(tmp_path: Path) -> None:
    text = (ROOT / "docs/kubernetes.md").read_text()
    marker = "<!-- config: run over configs/example.yaml -->\n```yaml\n"
    (block,) = re.findall(rf"{re.escape(marker)}(.*?)```", text, re.DOTALL)
    (tmp_path / "site.yaml").write_text(block)

    cluster = config.load([ROOT / "configs/example.yaml", tmp_path / "site.yaml"])

    assert [host.node for host in cluster.control_plane.hosts if host.name == "m1"] == [True]


def test_the_explanation_in_the_documentation_is_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"<!-- config: run[a-z ]* -->\n```yaml\n(.*?)```", _document(), re.DOTALL)
    Path("base.yaml").write_text(blocks[0])
    Path("site.yaml").write_text(blocks[1])
    told = _document().partition("check --explain machines.w1\n")[2].partition("```")[0]

    assert config.explain([Path("base.yaml"), Path("site.yaml")], "machines.w1") == told.strip()


def test_the_error_in_the_documentation_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = re.findall(r"<!-- config: run -->\n```yaml\n(.*?)```", _document(), re.DOTALL)[0]
    Path("rack1.yaml").write_text(base.replace("52:54:00:aa:00:01", "52:54:zz"))

    with pytest.raises(ConfigError) as caught:
        config.load([Path("rack1.yaml")])

    assert f"```\n{caught.value}\n```" in _document()
