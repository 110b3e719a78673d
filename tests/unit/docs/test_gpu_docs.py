"""docs/gpu.md: its YAML and its commands are run, and its tables are those of the program."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootstrap import config
from bootstrap.cli import machines, run
from bootstrap.gpu.table import CUDA, GENERATIONS, NO_DRIVER, PRODUCTS, SOURCES
from bootstrap.model import Cluster
from bootstrap.operator import Operator
from tests.unit.web.fakes import W3, cluster
from tests.unit.web.looking import LookingRack

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/gpu.md").read_text()
YAML = re.findall(r"<!-- config: run over configs/example.yaml -->\n```yaml\n(.*?)```", TEXT, re.DOTALL)
SHOWN = [line for block in re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
MACHINE_WITH_ONE_MISSING = [
    {"address": f"0000:{number:02x}:00.0", "vendor": "10de", "device": "2330"} for number in range(16, 23)
]


def commands(mark: str) -> list[list[str]]:
    """Return the words after `python3 deploy.py` of each line of the blocks with this mark."""
    blocks = re.findall(rf"<!-- run: {mark} -->\n```sh\n(.*?)```", TEXT, re.DOTALL)
    return [shlex.split(line)[2:] for block in blocks for line in block.splitlines()]


class Asked(Operator):
    """Asks an application in this process, as the command line asks the appliance over its socket."""

    def __init__(self, rack: LookingRack) -> None:
        super().__init__(Path("none"))
        self._rack = rack

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        answer = self._rack.operator(method, path, data=body)
        return answer.status_code, answer.data


@pytest.fixture(name="command")
def fixture_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Run a command where config.yaml is the example with this page's YAML over it."""
    (yaml,) = YAML
    (tmp_path / "config.yaml").write_text((ROOT / "configs/example.yaml").read_text())
    (tmp_path / "gpus.yaml").write_text(yaml)
    monkeypatch.chdir(tmp_path)

    def command(words: list[str]) -> tuple[int, str, str]:
        assert words[:2] == ["--config", "config.yaml"]
        over = ("--config", "config.yaml", "--config", "gpus.yaml")
        code = run(["--deploy", str(tmp_path / "deploy"), *over, *words[2:]])
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return command


def test_its_configuration_declares_what_the_page_tells(command: Callable[..., tuple[int, str, str]]) -> None:
    found = commands("check")

    assert [words[-1] for words in found] == ["check", "plan"]
    for words in found:
        code, out, err = command(words)
        assert (code, err) == (0, "")
        assert SHOWN[0] in out.splitlines()


def test_the_refusal_that_it_shows_is_the_real_one(command: Callable[..., tuple[int, str, str]]) -> None:
    over = Path("gpus.yaml")
    over.write_text(
        over.read_text().replace("family: flatcar, release: 4593.2.5", 'family: debian, release: "13"')
    )

    code, _, err = command(["--config", "config.yaml", "check"])

    assert code == 2
    assert err.splitlines() == [SHOWN[1].replace("config.yaml:", "gpus.yaml:")]


def test_its_commands_about_a_machine_end_as_it_says(
    command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rack = LookingRack(cluster=_with_pools(config.load([Path("config.yaml"), Path("gpus.yaml")])))
    rack.found(gpus=MACHINE_WITH_ONE_MISSING)
    monkeypatch.setattr(machines, "operator", lambda _: Asked(rack))
    show, accept, accept_anyway, arm = commands("machine")
    assert {W3} == {words[4] for words in (show, accept, accept_anyway)}

    code, out, _ = command(show)
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert [" ".join(line.split()) for line in SHOWN[2:4]] == [
        line for line in lines if line.startswith("gpu")
    ]

    code, _, err = command(accept)
    assert code == 2
    assert "pool gpu8 expects 8 GPUs, it shows 7" in err
    assert rack.site.accepted() == []

    assert command(accept_anyway)[0] == 0
    assert rack.record(W3).name == "w7"
    code, _, err = command([word for word in arm if word != "--recheck"])
    assert code == 2
    assert "pool gpu8 expects 8 GPUs, it shows 7" in err
    assert command(arm)[0] == 0


def _with_pools(of: Cluster) -> Cluster:
    """Return the tests' cluster with the pools of the page's configuration."""
    plain, other = (one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in (cluster(), of))
    listed = [{**machine, "pool": "workers"} for machine in plain["machines"]]
    return Cluster.model_validate({**plain, "pools": other["pools"], "machines": listed})


def test_every_shown_line_is_one_that_a_test_compares() -> None:
    assert len(SHOWN) == 4
    assert TEXT.count("```sh") == len(re.findall(r"<!-- run: (?:check|machine) -->\n```sh", TEXT))


def test_its_table_of_gpus_is_the_programs() -> None:
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+|-) \| (.*) \|$", TEXT, re.MULTILINE)

    assert rows == [
        (
            one.name,
            str(one.first),
            str(one.last or "-"),
            ", ".join(f"`{product.key}`" for product in PRODUCTS if product.generation is one),
        )
        for one in GENERATIONS
    ]
    assert f"CUDA versions go from {CUDA[0].version} to {CUDA[-1].version}." in TEXT


def test_its_table_of_offers_names_every_offer() -> None:
    rows: dict[str, str] = dict(
        re.findall(r"^\| ((?:Flatcar|Debian|Fedora).*?) \| (.*) \|$", TEXT, re.MULTILINE)
    )
    systems: dict[str, Any] = {
        f"Flatcar from {row.since} on" if row.family == "flatcar" else f"Debian {row.since}": row
        for row in SOURCES
    }

    assert set(rows) == {*systems, "Fedora CoreOS"}
    for row in SOURCES:
        told = rows[f"Flatcar from {row.since} on" if row.family == "flatcar" else f"Debian {row.since}"]
        assert (row.version or str(row.branch)) in told
        assert row.flavour in told
    assert set(NO_DRIVER) == {"fedora-coreos"}
