"""A flood of log lines stalls nobody, is bounded, and reaches web in few requests."""

import os
from pathlib import Path

import pytest

from pxe import pipe, service
from pxe.events import Event, Kind
from pxe.log import LogReader, is_noise, is_routine
from pxe.pipe import Pipe
from pxe.service import Gatherer
from tests.system.pxe_segment import wait_for

DATA = Path(__file__).parent / "data"
EVENT = Event(mac="52:54:00:77:00:01", kind=Kind.ACK, detail="")


@pytest.fixture
def seen() -> bytearray:
    return bytearray()


def filled(made: Pipe, content: bytes) -> None:
    """Write `content` as a child would, to the end."""
    child = os.dup(made.writer)
    made.start()
    with os.fdopen(child, "wb") as file:
        file.write(content)


def test_writer_never_waits_for_a_reader_that_is_busy(seen: bytearray) -> None:
    made = Pipe(seen.extend)
    content = b"x" * (5 * pipe.PIPE_BYTES)
    filled(made, content)  # would hang on a plain pipe: nobody takes anything
    made.wait_for_end()
    assert bytes(seen) == content
    assert b"".join(iter(made.take, b"")) == content
    made.close()


def test_what_waits_is_bounded_and_the_loss_is_said(
    seen: bytearray, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pipe, "MOST_BYTES", 1 << 20)
    made = Pipe(seen.extend)
    filled(made, b"x" * (4 << 20))
    made.wait_for_end()
    with caplog.at_level("WARNING", logger="pxe"):
        assert len(b"".join(iter(made.take, b""))) <= 1 << 20
    assert "were given up" in caplog.text
    assert len(seen) == 4 << 20  # leases are read from what is given up, too
    made.close()


def test_output_is_readable_when_there_is_something() -> None:
    made = Pipe(lambda _: None)
    filled(made, b"line\n")
    assert wait_for(lambda: made.take() == b"line\n")
    made.wait_for_end()
    made.close()


@pytest.mark.parametrize("name", sorted(path.name for path in DATA.glob("dnsmasq-*.log")))
def test_lines_that_are_skipped_change_no_event(name: str) -> None:
    def events(lines: list[str]) -> list[Event]:
        reader = LogReader()
        return [event for line in lines for event in reader.feed(line)] + list(reader.flush())

    lines = (DATA / name).read_text().splitlines()
    kept = [line for line in lines if not is_noise(line)]
    assert len(kept) < len(lines)
    assert events(kept) == events(lines)
    assert all(is_routine(line) for line in lines if is_noise(line))


def test_events_of_a_storm_come_in_batches_and_a_single_one_at_the_next_silence() -> None:
    handed: list[Event] = []
    events = Gatherer(handed.append)
    for _ in range(service.MOST_GATHERED - 1):
        events.put(EVENT)
    assert handed == []
    events.put(EVENT)
    assert len(handed) == service.MOST_GATHERED
    events.put(EVENT)
    events.flush()
    assert len(handed) == service.MOST_GATHERED + 1


def test_event_that_waited_long_goes_on_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[Event] = []
    monkeypatch.setattr(service, "GATHERED_SECONDS", 0.0)
    Gatherer(handed.append).put(EVENT)
    assert handed == [EVENT]
