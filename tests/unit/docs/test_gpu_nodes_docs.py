"""docs/gpu-nodes.md: its commands are run, its table is what they print, its states and parts are the program's."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from bootstrap import config
from bootstrap.addons.nvidia_device_plugin import NAME
from bootstrap.cli import gpus, run
from bootstrap.gpu.gate import HOT, Part
from bootstrap.gpu.mig import layout, offered, strategy
from bootstrap.gpu.reported import NodeState
from bootstrap.gpu.sample import Seen
from bootstrap.gpu.taint import EFFECT, KEY
from bootstrap.kubernetes.rbac import GATE
from bootstrap.kubernetes.runtimes import NVIDIA
from bootstrap.kubernetes.sample import Ended
from bootstrap.operator import Operator
from tests.unit.cli.test_cli_gpus import Fake, node
from tests.unit.gpu.reports import line

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/gpu-nodes.md").read_text()
SHOWN = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)[0].splitlines()


def commands(mark: str) -> list[list[str]]:
    (block,) = re.findall(rf"<!-- run: {mark} -->\n```sh\n(.*?)```", TEXT, re.DOTALL)
    return [shlex.split(line)[2:] for line in block.splitlines()]


@pytest.fixture(name="command")
def fixture_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[str]], tuple[int, str]]:
    (tmp_path / "config.yaml").write_text((ROOT / "configs/example.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    found = (node("w1", line(0)), node("w2", state="no-device", part="device", verdict="device: none"))
    appliance: Operator = Fake(*found)
    monkeypatch.setattr(gpus, "operator", lambda _: appliance)
    monkeypatch.setattr(gpus, "run", lambda *_: Ended(Seen("p", "Succeeded", "w1"), "Test PASSED\n"))

    def command(words: list[str]) -> tuple[int, str]:
        code = run(["--deploy", str(tmp_path / "deploy"), *words])
        return code, capsys.readouterr().out

    return command


def test_its_table_is_what_the_command_prints(command: Callable[[list[str]], tuple[int, str]]) -> None:
    table, as_json = (command(words) for words in commands("status"))

    assert table[0] == as_json[0] == 1
    assert [row.split() for row in table[1].splitlines()] == [row.split() for row in SHOWN]


def test_its_samples_run(command: Callable[[list[str]], tuple[int, str]]) -> None:
    assert [command(words) for words in commands("sample")] == [(0, "Test PASSED\n")] * 2


def test_its_layout_of_instances_is_taken(tmp_path: Path) -> None:
    (yaml,) = re.findall(r"<!-- config: mig, over (?:\S+) -->\n```yaml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "mig.yaml").write_text(yaml)
    cluster = config.load([ROOT / "configs/example.yaml", tmp_path / "mig.yaml"])

    assert layout(cluster.pool("gpu8").gpu) == ("3g.40gb", "2g.20gb", "1g.10gb")
    assert strategy(cluster) == "mixed"
    assert "nvidia.com/mig-3g.40gb" in offered(cluster)
    assert json.dumps(layout(cluster.pool("gpu8").gpu)).replace('"', "") in TEXT


def test_its_words_about_a_mismatch_are_the_gates() -> None:
    golden = (ROOT / "tests/golden/gpu/mig_verdicts.txt").read_text()
    (said,) = re.findall(r"`(mig: mig-mismatch, .*?) \.\.\.; drain w1: \.\.\.`", TEXT)

    assert f"{said} (" in golden


def test_its_states_and_parts_are_the_programs_in_their_order() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| ", TEXT, re.MULTILINE)

    assert rows == [*map(str, NodeState), *(str(part) for part in Part)]


def test_its_names_are_the_programs() -> None:
    for name in (
        f"`{KEY}:{EFFECT}`",
        f"kube-system/{NAME}",
        f"RuntimeClass `{NVIDIA}`",
        GATE,
        f"{HOT} degrees",
    ):
        assert name in TEXT, name
