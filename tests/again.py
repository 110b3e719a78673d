"""Runs what failed beside other tests once more, alone, and says so; what draws at random is never asked again.

A plugin, for after the lanes (tests/lanes.py): `pytest -p tests.again --last-failed`. The lanes are three on two
processors: a machine that waits there for an answer may wait too long, which says nothing of the product. A fault that
was injected at random, and was found, says all: its second run draws another one (docs/decisions/0040).
"""

from collections.abc import Iterable

import pytest

MOST_MODULES = 3
"""More of them fail for one reason, and it is not the company that they had."""
AT_RANDOM = ("test_fault", "test_hostile", "test_interrupt")


def refusal(items: Iterable[pytest.Item]) -> str:
    """Return why these tests are not run again; empty if they are."""
    asked = list(items)
    modules = sorted({item.path.stem for item in asked})
    if len(modules) > MOST_MODULES:
        return f"tests of {len(modules)} modules failed: not run again"
    drawn = [one.nodeid for one in asked if one.get_closest_marker("promise")]
    drawn += [name for name in modules if name.startswith(AT_RANDOM)]
    return f"not run again, it draws at random: {', '.join(drawn)}" if drawn else ""


def pytest_collection_finish(session: pytest.Session) -> None:
    """End with 1 if the failures are not of the kind that is asked again."""
    if why := refusal(session.items):
        pytest.exit(why, returncode=1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name those that passed now: each is to be mended so that it passes in company."""
    passed = terminalreporter.stats.get("passed", [])
    if passed:
        terminalreporter.section("failed beside other tests, passed alone")
        for report in passed:
            terminalreporter.line(report.nodeid)
