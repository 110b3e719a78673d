"""The table of promises: rows of passed tests only, the same dice for the same seed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tier import Row, dice

ROOT = Path(__file__).parents[3]
SAMPLE = """
from tests.tier import dice

def test_kept(promise):
    promise(promise="P-1", asked="0", done="1 try", found=str(dice("kept").random()), seed=7)

def test_broken(promise):
    promise(promise="P-2", asked="0", done="1 try", found="1")
    assert False
"""


def rows(tmp_path: Path, *words: str) -> list[dict[str, object]]:
    sample, target = tmp_path / "test_sample.py", tmp_path / "rows.json"
    sample.write_text(SAMPLE)
    command = (
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--rootdir",
        str(ROOT),
        "-c",
        str(ROOT / "pyproject.toml"),
    )
    environment = {"FIRSTLIGHT_SEED": "7", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [*command, "-p", "tests.conftest", f"--promises={target}", *words, str(sample)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "P-1 | 0 | 1 try" in done.stdout
    found: list[dict[str, object]] = json.loads(target.read_text())
    return found


def test_a_failed_test_keeps_no_promise(tmp_path: Path) -> None:
    assert ["P-1"] == [row["promise"] for row in rows(tmp_path)]


@pytest.mark.system
def test_the_same_seed_throws_the_same_dice_in_a_worker_too(tmp_path: Path) -> None:
    assert rows(tmp_path)[0]["found"] == rows(tmp_path, "-n1")[0]["found"]


def test_dice_differ_by_name_only() -> None:
    assert dice("a").random() == dice("a").random() != dice("b").random()


def test_a_row_is_plain_json() -> None:
    row = Row(promise="P", asked="a", done="d", found="f")
    assert None is json.loads(row.to_json())["seed"]
