"""Ctrl-C before the command line is there: exit 130 and not a word, at whatever module it comes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BASE = Path(sys.base_prefix, "bin", "python3")

# Every interpreter runs a sitecustomize as it starts.
AT_A_MODULE = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""
AT_THE_START_IN_THE_ENVIRONMENT = """
import os, signal, sys
if sys.prefix != sys.base_prefix:
    os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize(
    "trap",
    [
        *(
            AT_A_MODULE.format(module=name)
            for name in ("bootstrap.environment", "hashlib", "bootstrap.cli", "click", "bootstrap.cli.main")
        ),
        AT_THE_START_IN_THE_ENVIRONMENT,
    ],
    ids=["environment", "stamp", "room", "click", "verbs", "second-interpreter"],
)
def test_ctrl_c_while_modules_are_loaded_printed_a_traceback(trap: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(trap)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    environment.pop("FIRSTLIGHT_NO_VENV", None)
    done = subprocess.run(
        ["env", "--default-signal=INT", str(BASE), str(ROOT / "deploy.py"), "--version"],
        env=environment, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert (130, "", "") == (done.returncode, done.stdout, done.stderr)
