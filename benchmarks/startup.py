"""How long the command line takes: the help text, and checking a configuration of any size."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.comparison import Benchmark, Figure, Figures, Ratio, Side
from benchmarks.processes import quickest
from benchmarks.racks import write_config

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = str(ROOT / "deploy.py")
SHORT, LONG = 7, 3  # runs per round, of which the quickest counts
# What people start is the interpreter that .venv/ was made from; deploy.py goes on in .venv/ by itself, and pays
# for both. It is compared with the one in .venv/, which loads nothing that others installed.
PEOPLES, BARE = str(Path(sys.base_prefix) / "bin" / "python3"), sys.executable


def _seconds(command: tuple[str, ...], times: int) -> Figures:
    ended = quickest(command, times)
    return {"processor": 1000 * ended.processor, "clock": 1000 * ended.seconds}


@contextmanager
def prepare(folder: Path) -> Iterator[Mapping[str, Side]]:
    """Write two configurations."""
    checks = {
        count: (PEOPLES, DEPLOY, "--config", str(write_config(folder, count)), "check")
        for count in (1_000, 10_000)
    }
    yield {
        "python -c pass": partial(_seconds, (BARE, "-c", "pass"), SHORT),
        "import click": partial(_seconds, (BARE, "-c", "import click"), SHORT),
        "--help": partial(_seconds, (PEOPLES, DEPLOY, "--help"), SHORT),
        "check 1,000": partial(_seconds, checks[1_000], LONG),
        "check 10,000": partial(_seconds, checks[10_000], LONG),
    }


def _ratio(name: str, top: str, bottom: str, asked: str, why: str) -> Ratio:
    return Ratio(
        name=name,
        top=Figure(top, "processor"),
        bottom=Figure(bottom, "processor"),
        asked=asked,
        unit="ms",
        why=why,
    )


BENCHMARK = Benchmark(
    name="startup",
    why="Whole processes, as people start them: the interpreter, the change into .venv/, the imports, the work. "
    "Processor time, as nothing here waits: on a machine that others use too, the clock is unfair to the longer one.",
    ratios=(
        _ratio(
            "`deploy.py --help`",
            "--help",
            "import click",
            "<= 3",
            "the help text needs click and nothing else of weight.",
        ),
        _ratio(
            "`check` of 1,000 machines",
            "check 1,000",
            "python -c pass",
            "<= 30",
            "people run it after every edit.",
        ),
        _ratio(
            "`check` of 10,000 machines",
            "check 10,000",
            "check 1,000",
            "<= 11",
            "no rule may look at every pair of machines.",
        ),
    ),
    prepare=prepare,
)
