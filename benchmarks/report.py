"""The page docs/PERFORMANCE.md: words of people around the last table."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.comparison import Benchmark, Result
from benchmarks.table import table

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- ./bench writes from here -->", "<!-- to here -->"


def report(found: Sequence[tuple[Benchmark, Sequence[Result]]], *, heading: str) -> str:
    """Return all tables, each below what it is about and why it is asked."""
    parts = [f"{heading}.\n"]
    for benchmark, results in found:
        reasons = [f"- {result.ratio.name}: {result.ratio.why}" for result in results if result.ratio.why]
        about = f"{benchmark.why} Medians of {len(results[0].rounds)} interleaved rounds."
        parts.append(f"### {benchmark.name}\n\n{about}\n\n{table(results)}\n" + "\n".join(reasons))
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def here() -> str:
    """Return date, commit and machine."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} processors ({_processor()}), {memory:.0f} GiB"
    python = f"Python {platform.python_version()}"
    return f"{datetime.now(UTC):%Y-%m-%d}, commit {commit or 'unknown'}, {machine}, {python}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def put(page: str, text: str) -> str:
    """Return `page` with `text` between its two marks.

    Raises:
        ValueError: the marks are not there, so that no word of people is overwritten.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{text}\n{END}{after}"
