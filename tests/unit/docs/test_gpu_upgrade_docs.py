"""docs/gpu-upgrade.md: its commands are run, in an application of ours, and its table is what they print."""

import re
import shlex
from pathlib import Path

from bootstrap.gpu.mark import ANNOTATION
from bootstrap.upgrading import SETTLE_SECONDS
from tests.unit.cli.conftest import deploy, firstlight
from tests.unit.cli.test_cli_gpu_upgrade import Room, room

TEXT = (Path(__file__).parents[3] / "docs/gpu-upgrade.md").read_text()
__all__ = ["deploy", "firstlight", "room"]


def commands() -> list[list[str]]:
    (block,) = re.findall(r"<!-- run: upgrade -->\n```sh\n(.*?)```", TEXT, re.DOTALL)
    return [shlex.split(line)[2:] for line in block.splitlines()]


def test_its_commands_run_and_its_table_is_what_they_print(room: Room) -> None:
    words = commands()
    assert all(one[:2] == ["--config", "config.yaml"] for one in words)
    shown = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)[0]

    assert room(*words[0][2:]).out == shown
    assert room(*words[1][2:]).code == 0
    assert room.world.runs() == {"w1": "new", "w2": "old", "w3": "old"}
    room.presses_buttons()
    assert room(*words[2][2:]).code == 0
    assert room.world.runs() == dict.fromkeys(("w1", "w2", "w3"), "new")


def test_what_it_says_of_a_failure_is_what_is_said(room: Room) -> None:
    room.world.rack.spoiled["new"] = {"lines": (), "failure": "NVRM: API mismatch"}
    found = room.upgrade("--yes")

    assert re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)[1].splitlines() == found.err.splitlines()[-2:]


def test_its_numbers_and_names_are_the_programs() -> None:
    assert f"`{ANNOTATION}`" in TEXT
    assert SETTLE_SECONDS == 600
    assert "holds it back for ten minutes (or two of a longer `checkInterval`)" in TEXT
