"""Options, fixtures and the table at the end of a run that all tests share."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tier import PROPERTY, Promise, Row, seed


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that rewrites what tests compare with, and the one that keeps the table of promises."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden trees in tests/golden")
    parser.addoption(
        "--promises", type=Path, help="write the rows of the promises that held to this JSON file"
    )


def pytest_report_header() -> str:
    """Say how a run is repeated."""
    return f"seed: FIRSTLIGHT_SEED={seed()}"


def pytest_configure() -> None:
    """Give the workers of a parallel run the seed of the whole."""
    os.environ["FIRSTLIGHT_SEED"] = str(seed())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what puts a row into the table, so that a soak runs it with its full count."""
    for item in items:
        if "promise" in getattr(item, "fixturenames", ()):
            item.add_marker("promise")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt here: in a script's background job it is ignored from the start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def promise(record_property: object) -> Promise:
    """Return the function that puts a row into the table at the end of the run; call it when the promise held."""
    assert callable(record_property)

    def note(**fields: object) -> None:
        record_property(PROPERTY, Row(**fields).to_json())  # type: ignore[arg-type]

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the promises of this run, and write them down if asked."""
    passed = terminalreporter.stats.get("passed", [])
    rows = [
        {**json.loads(value), "minutes": round(report.duration / 60, 1)}
        for report in passed
        for name, value in getattr(report, "user_properties", ())
        if name == PROPERTY and report.when == "call"
    ]
    if rows:
        terminalreporter.section(f"promises that held, seed {seed()}")
        for row in sorted(rows, key=lambda row: str(row["promise"])):
            terminalreporter.write_line(f"{row['promise']} | {row['asked']} | {row['done']} | {row['found']}")
    target: Path | None = config.getoption("--promises")
    if target is not None:
        target.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
