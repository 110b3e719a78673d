"""docs/backup.md: its commands run, and what it says is said."""

import re
from pathlib import Path

import pytest

from bootstrap.backup.manifest import FILES, FOLDERS, SNAPSHOT, STATE
from bootstrap.cli import run
from tests.docs_commands import commands
from tests.unit.backup.conftest import CONFIG, ROOT, Rack

DOCUMENT = ROOT / "docs" / "backup.md"
TEXT = DOCUMENT.read_text()


def test_the_commands_save_and_bring_back(
    rack: Rack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = CONFIG.read_text().replace("192.168.1.10\n", "127.9.9.9\n", 1)
    assert "address: 127.9.9.9" in text
    (tmp_path / "config.yaml").write_text(text)
    before = rack.tree()
    save, bring_back = ([*words[1:]] for words in commands(DOCUMENT, "anywhere"))

    assert run(["--deploy", str(rack.place.deploy), *save]) == 3  # nobody is at that address
    rack.lose()
    assert run(["--deploy", str(rack.place.deploy), *bring_back]) == 0
    assert rack.tree() == before
    assert "config/1-config.yaml" in TEXT
    assert (rack.work / "config" / "1-config.yaml").read_text() == text
    assert "no snapshot of etcd is in it" in capsys.readouterr().err


def test_the_table_of_contents_is_complete() -> None:
    for path in (*FILES, STATE, SNAPSHOT, *(f"{folder}/" for folder in FOLDERS)):
        assert re.search(rf"^\|.*`{re.escape(path)}`.*\|", TEXT, re.MULTILINE), path


def test_what_the_table_of_refusals_quotes_is_in_the_sources() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "bootstrap/backup").glob("*.py"))
    quoted = re.findall(
        r"^\| `([^`]+)` \|", TEXT.partition("| It says |")[2].partition("##")[0], re.MULTILINE
    )

    assert len(quoted) == 6
    for said in quoted:
        assert all(words.strip(" ()") in sources for words in said.split("...")), said
