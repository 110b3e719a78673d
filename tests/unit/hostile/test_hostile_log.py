"""Whatever stands in dnsmasq's log, the reader goes on, and what it tells is plain text (promise S-06)."""

import logging
from pathlib import Path

import pytest

from pxe.events import LONGEST_TEXT, Event
from pxe.observe import Observer
from tests.tier import dice
from tests.unit.hostile.packets import log_line

FEW = 2000


def test_no_line_of_the_log_stops_its_reader(caplog: pytest.LogCaptureFixture) -> None:
    random, told, ready = dice("log"), list[Event](), list[None]()
    observer = Observer(
        root=Path("/run/x/tftp"),
        report=told.append,
        neighbour=lambda _: "",
        on_ready=lambda: ready.append(None),
    )
    with caplog.at_level(logging.INFO):
        for number in range(FEW):
            observer.heard(log_line(random))
            if number % 5 == 0:
                observer.quiet()

    assert len(told) > FEW / 50
    assert all(event.detail.isprintable() and len(event.detail) <= LONGEST_TEXT for event in told)
    assert [record.getMessage() for record in caplog.records if not record.getMessage().isprintable()] == []
