"""docs/handover.md says what the code does."""

import os
import re
import subprocess
import sys
from pathlib import Path

from bootstrap import config
from bootstrap.handover import fence, moving, parcel, unpack
from bootstrap.handover.manifests import ROOT as PLACE
from bootstrap.handover.manifests import UNPACKING
from tests import samples
from tests.docs_commands import PYTHON, commands
from tests.unit.handover.rack import Rack

TEXT = (samples.ROOT / "docs/handover.md").read_text()


def overlay(folder: Path) -> Path:
    (block,) = re.findall(
        r"<!-- config: in-cluster.yaml over the example -->\n```yaml\n(.*?)```", TEXT, re.DOTALL
    )
    written = folder / "in-cluster.yaml"
    written.write_text(block)
    return written


def test_its_configuration_can_move(tmp_path: Path) -> None:
    both = [samples.ROOT / "configs/example.yaml", overlay(tmp_path)]

    assert moving.problems(config.load(both)) == []


def test_its_first_command_runs_anywhere(tmp_path: Path) -> None:
    overlay(tmp_path)
    (tmp_path / "config.yaml").write_text((samples.ROOT / "configs/example.yaml").read_text())
    ((words,),) = [commands(samples.ROOT / "docs/handover.md", "anywhere")]
    done = subprocess.run(
        [sys.executable, str(samples.ROOT / words[0]), *words[1:]],
        cwd=tmp_path,
        env={**os.environ, "FIRSTLIGHT_DEPLOY": str(tmp_path / "deploy"), "FIRSTLIGHT_NO_VENV": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == moving.STEPS
    assert not (tmp_path / "deploy").exists()


def test_its_steps_are_those_of_the_plan(rack: Rack) -> None:
    rows = re.findall(r"^\| ([a-z]+) \| .* \| .*\|$", TEXT, re.MULTILINE)

    assert [line.split(":")[0] for line in moving.plan(rack.move())] == rows[1 : moving.STEPS + 1]


def test_its_names_and_numbers_are_the_code_s() -> None:
    assert f"`{PLACE}/<cluster>`" in TEXT
    assert f"{parcel.PIECE_BYTES >> 10} KiB" in TEXT
    assert f"namespace `{parcel.NAMESPACE}`" in TEXT
    assert ", ".join(f"`{name}`" for name in UNPACKING) in TEXT
    assert unpack.__doc__
    assert f"`{fence.FILE}`" in TEXT


def test_its_commands_are_ours() -> None:
    lines = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
    mine = [line.split() for line in lines if line.startswith(PYTHON)]

    assert len(mine) == 3
    assert all("handover" in words for words in mine)
