"""Puts the rows of a soak run into docs/RELIABILITY.md: `python -m tests.reliability ROWS.json`.

Rows of promises that this run did not try stay as they are, with their own date and commit.
"""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "RELIABILITY.md"
TABLE = ROOT / "docs" / "reliability.json"
BEGIN, END = "<!-- soak: begin -->\n", "<!-- soak: end -->\n"
HEAD = ("Promise", "Asked", "Done", "Found", "Seed", "Minutes", "Date", "Commit", "Machine")


def merged(old: list[dict[str, Any]], new: list[dict[str, Any]], **stamp: str) -> list[dict[str, Any]]:
    """Return `old` with the rows of `new` in place of those of the same promise, in the order of their names."""
    rows = {row["promise"]: row for row in old} | {row["promise"]: {**row, **stamp} for row in new}
    return [rows[name] for name in sorted(rows)]


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for row in rows:
        cells = (str(row[name.lower()]) if row[name.lower()] is not None else "-" for name in HEAD)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def replaced(document: str, text: str) -> str:
    """Return `document` with `text` between the two marks.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{DOCUMENT.name}: the marks of the soak table are gone")
    return before + begin + text + end + after


def main() -> None:
    """Write table and document."""
    new = json.loads(Path(sys.argv[1]).read_bytes())
    old = json.loads(TABLE.read_bytes()) if TABLE.exists() else []
    rows = merged(old, new, date=f"{datetime.now(UTC):%Y-%m-%d}", commit=_commit(), machine=_machine())
    TABLE.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
    DOCUMENT.write_text(replaced(DOCUMENT.read_text(), table(rows)))
    sys.stderr.write(f"{DOCUMENT.relative_to(ROOT)}: {len(new)} rows of {len(rows)} are of this run\n")


def _commit() -> str:
    argv = ("git", "describe", "--always", "--dirty", "--exclude=*")
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "?")
    system = platform.freedesktop_os_release()["PRETTY_NAME"].replace("GNU/Linux ", "")
    return f"{os.cpu_count()} cores {model}, {system}"


if __name__ == "__main__":
    main()
