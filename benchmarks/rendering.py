"""Rendering every document of a rack: a large one against a small one, and one changed machine against all."""

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import processes
from benchmarks.comparison import Benchmark, Figure, Figures, Ratio, Side
from benchmarks.racks import config_of, write_config
from bootstrap.config import load
from bootstrap.disk import write_bundle
from bootstrap.keys import ensure_keys
from bootstrap.model import Cluster
from bootstrap.render.bundle import render_bundle

ROOT = Path(__file__).resolve().parent.parent
SMALL, LARGE = 1_000, 10_000


@contextmanager
def prepare(folder: Path) -> Iterator[Mapping[str, Side]]:
    """Write two configurations."""
    configs = {count: write_config(folder, count) for count in (SMALL, LARGE)}
    one = _Rerendering(folder, configs[LARGE])
    yield {
        f"{SMALL:,} machines": lambda: _command(folder, configs[SMALL]),
        f"{LARGE:,} machines": lambda: _command(folder, configs[LARGE], keep=True),
        "one changed": lambda: _command_again(folder, one.next_config()),
        "in process": one.round,
    }


def _render(folder: Path, config: Path, out: Path) -> processes.Ended:
    words = ("--config", str(config), "--deploy", str(folder / "deploy"), "render", "--output", str(out))
    return processes.run((sys.executable, str(ROOT / "deploy.py"), *words))


def _command(folder: Path, config: Path, *, keep: bool = False) -> Figures:
    """Run `render` into an empty folder."""
    out = folder / "out" if keep else folder / "small"
    shutil.rmtree(out, ignore_errors=True)
    ended = _render(folder, config, out)
    return {"seconds": ended.seconds, "MiB": ended.mebibytes}


def _command_again(folder: Path, config: Path) -> Figures:
    """Run `render` over the tree of the last run, with one machine changed."""
    ended = _render(folder, config, folder / "out")
    return {"seconds": ended.seconds, "MiB": ended.mebibytes}


class _Rerendering:
    """From a configuration that is loaded to documents that are on the disk: all, then all but with one changed."""

    def __init__(self, folder: Path, config: Path) -> None:
        self._folder = folder
        self._cluster = load([config])
        now = datetime.now(UTC)
        self._keyring = ensure_keys(self._cluster, folder / "keys", now).keyring.public
        self._changes = 0

    def next_config(self) -> Path:
        """Write a configuration in which one more machine has another address, and return its file."""
        self._changes += 1
        path = self._folder / "changed.yaml"
        address = f"10.64.100.{self._changes}"
        path.write_text(config_of(LARGE).replace("10.64.2.1\n", f"{address}\n"))
        return path

    def round(self) -> Figures:
        """Write all into an empty folder, then again with one machine changed."""
        out = self._folder / "in-process"
        shutil.rmtree(out, ignore_errors=True)
        first = self._timed(self._cluster, out)
        again = self._timed(load([self.next_config()]), out)
        return {"all": first, "one": again}

    def _timed(self, cluster: Cluster, out: Path) -> float:
        began = time.perf_counter()
        if not write_bundle(out, render_bundle(cluster, self._keyring)):
            raise RuntimeError("nothing was written")
        return time.perf_counter() - began


def _seconds(name: str, top: Figure, bottom: Figure, asked: str = "", why: str = "") -> Ratio:
    return Ratio(name=name, top=top, bottom=bottom, asked=asked, unit="s", why=why)


BENCHMARK = Benchmark(
    name="rendering",
    why=(
        "`deploy.py render` of every document of a rack (two per machine, 57 KB), durably. A re-render is measured "
        "from the loaded configuration to documents on the disk; the whole command also reads the configuration."
    ),
    ratios=(
        _seconds(
            f"`render` of {LARGE:,} machines",
            Figure(f"{LARGE:,} machines", "seconds"),
            Figure(f"{SMALL:,} machines", "seconds"),
            "<= 11",
            "the work grows with the number of machines, and with nothing worse.",
        ),
        Ratio(
            name=f"memory of `render` of {LARGE:,} machines",
            top=Figure(f"{LARGE:,} machines", "MiB"),
            asked="<= 572",
            unit="MiB",
            why="600 MB, so that the laptop of the operator can do it; the documents are not held together.",
        ),
        _seconds(
            f"one machine of {LARGE:,} changed, from the loaded configuration on",
            Figure("in process", "one"),
            Figure("in process", "all"),
            "<= 0.05",
            "only that machine's documents are made and written.",
        ),
        _seconds(
            f"one machine of {LARGE:,} changed, the whole command",
            Figure("one changed", "seconds"),
            Figure(f"{LARGE:,} machines", "seconds"),
        ),
    ),
    prepare=prepare,
)
