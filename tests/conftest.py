"""Options that all tests share."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that rewrites what tests compare with; review the change as a diff."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden trees in tests/golden")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))
