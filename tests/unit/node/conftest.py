"""One installed machine per test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.gpu import images
from tests.unit.gpu.machines import know_old_drivers
from tests.unit.node.appliance import Node, node
from web import claim


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setattr(claim, "DOWN_SECONDS", 0.0)
    monkeypatch.setattr(claim, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(claim, "POLL_EVERY", 0.05)
    with node(tmp_path) as made:
        yield made


@pytest.fixture
def old_drivers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A table that has drivers of Debian 12."""
    know_old_drivers(monkeypatch)
    yield
    images.forget()
