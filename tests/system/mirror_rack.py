"""A rack whose mirror is attacked: its configuration, the command line over it, and what may lie in its folder."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bootstrap.cli import run
from tests.system.mirror_site import (
    BOARD,
    FLATCAR,
    FLATCAR_FILES,
    Site,
)

ROOT = Path(__file__).parents[2]
KERNEL = f"{BOARD}/{FLATCAR}/{FLATCAR_FILES[0]}"
INITRD = f"{BOARD}/{FLATCAR}/{FLATCAR_FILES[1]}"
SECONDS = 120


@dataclass(frozen=True)
class Rack:
    """A configuration in a folder of its own, and the command line over it."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    @property
    def mirror(self) -> Path:
        return self.folder / "mirror"

    def words(self, *verb: str) -> list[str]:
        return ["--config", f"{self.folder / 'rack.yaml'}", "--deploy", f"{self.folder / 'deploy'}", *verb]

    def __call__(self, *verb: str) -> tuple[int, str, str]:
        code = run(self.words(*verb))
        said = self.capture.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    def refused(self, *words: str) -> str:
        """Pull, which must fail with exit 1 and one line that holds `words`; return it."""
        code, _, err = self("mirror", "pull")
        line = err.splitlines()[-1]
        assert code == 1, err
        assert [word for word in words if word not in line] == [], line
        assert "stopped after" in err.splitlines()[-2], "the error is one line"
        return line

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        file = self.folder / "rack.yaml"
        document = json.loads(file.read_text())
        change(document)
        file.write_text(json.dumps(document))


def files_of(mirror: Path) -> dict[str, bytes]:
    paths = (path for path in sorted(mirror.rglob("*")) if path.is_file())
    found = {path.relative_to(mirror).as_posix(): path.read_bytes() for path in paths}
    return {name: content for name, content in found.items() if not name.startswith(".partial/")}


def nothing_wrong_is_there(mirror: Path, whole: Site) -> None:
    """Whatever lies under a real name is what its maker made: whole, and of that name."""
    for name, content in files_of(mirror).items():
        last = name.rpartition("/")[2]
        if "mirror.lock.json" in last or name.startswith(("images/", "etcd/")):
            continue
        made = [made for path, made in whole.files.items() if path.rpartition("/")[2] == last]
        assert content in made, f"{name} is no file of a maker"


def command(rack: Rack, *verb: str) -> list[str]:
    return [sys.executable, f"{ROOT / 'deploy.py'}", *rack.words(*verb)]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "FIRSTLIGHT_NO_VENV": "1", **more}
