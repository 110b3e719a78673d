import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bootstrap import processes

Tool = Callable[[str, str], Path]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """Put executable Python scripts on a PATH that holds nothing else; each notes how it was called."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(name: str, body: str) -> Path:
        script = folder / name
        note = f"open({str(folder / name)!r} + '.calls', 'a').write(' '.join(sys.argv[1:]) + '\\n')"
        script.write_text(f"#!{sys.executable} -IS\nimport os, sys\n{note}\n{body}\n")
        script.chmod(0o755)
        return script

    return make


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[str], list[str]]:
    """Return a question: with which words was that tool called?"""

    def asked(name: str) -> list[str]:
        file = tmp_path / "tools" / f"{name}.calls"
        return file.read_text().splitlines() if file.exists() else []

    return asked


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@pytest.fixture(autouse=True)
def poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "POLL_SECONDS", 0.01)
