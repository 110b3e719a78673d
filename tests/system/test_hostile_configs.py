"""Promise S-06: ten thousand damaged configurations, and some of them through the real command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tier import Promise, dice, rounds, seed
from tests.unit.hostile.checked import MOST_SECONDS, Tally, check, guarded, judge
from tests.unit.hostile.mutations import mutated
from tests.unit.hostile.schema_made import made

pytestmark = [pytest.mark.system, pytest.mark.promise]

ROOT = Path(__file__).parents[2]
FROM_SCHEMA = 0.2


def test_ten_thousand_damaged_configurations(tmp_path: Path, promise: Promise) -> None:
    count, few, random, tally = rounds(10_000, 100_000), rounds(20, 200), dice("configs"), Tally()
    with guarded():
        for _ in range(count):
            text = made(random) if random.random() < FROM_SCHEMA else mutated(random)
            check(tmp_path / "config.yaml", text, tally)
    for _ in range(few):
        really_check(tmp_path / "config.yaml", mutated(random))

    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    promise(
        promise="S-06 mutated configs",
        asked="10,000: exit 0 or 2, located, 0 tracebacks, 10 s and 512 MiB each",
        done=f"{count} in process, {few} as a command",
        found=f"exit 0: {tally.of(0)}, 2: {tally.of(2)}, slowest {tally.slowest:.2f} s, no traceback, nothing written",
        seed=seed(),
    )


def really_check(path: Path, text: bytes) -> None:
    """Run the command itself, in a locale that cannot write everything."""
    path.write_bytes(text)
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "deploy.py"),
            "--config",
            str(path),
            "--deploy",
            str(path.parent / "deploy"),
            "check",
        ],
        cwd=path.parent,
        capture_output=True,
        timeout=10 * MOST_SECONDS,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    judge(path, text, done.returncode, done.stdout.decode("latin-1"), done.stderr.decode("latin-1"))
