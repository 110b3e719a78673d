"""Options that all tests share."""

import signal
from collections.abc import Iterator

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that rewrites what tests compare with; review the change as a diff."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden trees in tests/golden")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt here: in a script's background job it is ignored from the start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
