import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Tool = Callable[[str, str], Path]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """Put executable Python scripts on a PATH that holds nothing else."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(name: str, body: str) -> Path:
        script = folder / name
        script.write_text(f"#!{sys.executable} -IS\nimport sys\n{body}\n")
        script.chmod(0o755)
        return script

    return make
