"""The commands that README.md and docs/booting.md say anyone can run do run, without root, and leave nothing."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bootstrap.cli.main import VERBS
from tests.docs_commands import commands

ROOT = Path(__file__).parents[3]
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "booting.md")
ANYWHERE = [tuple(words) for document in DOCUMENTS for words in commands(document, "anywhere")]


@pytest.mark.parametrize("words", ANYWHERE, ids=shlex.join)
def test_command_of_the_documents_runs_anywhere(words: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "FIRSTLIGHT_DEPLOY": str(tmp_path), "FIRSTLIGHT_NO_VENV": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_commands_for_the_lab_are_of_its_cluster_and_use_verbs_that_exist(document: Path) -> None:
    found = commands(document, "lab")

    assert found
    for words in found:
        assert words[:3] == ["deploy.py", "--config", "configs/lab.yaml"]
        verb = next(word for word in words[3:] if word not in ("--output", "json"))
        assert verb in VERBS


def test_every_block_of_commands_is_run_but_the_ones_that_start_and_end_it_all() -> None:
    unmarked = [
        line.strip()
        for document in DOCUMENTS
        for block in re.findall(
            r"(?<!-->\n)^ *```sh\n(.*?)```", document.read_text(), re.MULTILINE | re.DOTALL
        )
        for line in block.strip().splitlines()
    ]

    assert unmarked == [
        "python3 deploy.py --config configs/lab.yaml",
        "python3 deploy.py --config configs/lab.yaml down",
        "./check all",
        "sudo python3 deploy.py --config config.yaml",
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<!-- run: lab -->\n\n```sh\npython3 deploy.py status\n```\n", "no ```sh block"),
        ("<!-- run: never -->\n```sh\npython3 deploy.py status\n```\n", "unknown marks"),
        ("<!-- run: lab -->\n```sh\nrm -rf deploy\n```\n", "is no `python3 deploy.py` command"),
    ],
)
def test_marked_block_that_would_be_skipped_is_an_error(text: str, why: str, tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(text)

    with pytest.raises(ValueError, match=why):
        commands(document, "lab")
