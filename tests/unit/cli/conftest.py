import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bootstrap.cli import run

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Outcome:
    """What a command gave: its exit code and its two streams."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Firstlight = Callable[..., Outcome]


@pytest.fixture
def configs() -> Path:
    return ROOT / "configs"


@pytest.fixture
def deploy(tmp_path: Path) -> Path:
    return tmp_path / "deploy"


@pytest.fixture
def firstlight(
    deploy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Firstlight:
    """Run the command line in this process, in an empty folder and without any program on the PATH."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("PATH", str(elsewhere))
    for name in ("FIRSTLIGHT_CACHE", "FIRSTLIGHT_PASSPHRASE_FILE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def command(*words: object) -> Outcome:
        code = run(["--deploy", str(deploy), *map(str, words)])
        streams = capsys.readouterr()
        return Outcome(code, streams.out, streams.err)

    return command


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def tree(folder: Path) -> dict[str, bytes]:
    """Return everything below `folder`: files with their bytes, folders as nothing."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


@pytest.fixture
def snapshot(tmp_path: Path) -> Callable[[], dict[str, bytes]]:
    return lambda: tree(tmp_path)
