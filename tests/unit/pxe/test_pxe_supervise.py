"""The child is read, restarted with growing pauses, given up when hopeless, and ended in order; with real processes."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bootstrap.errors import ServeError
from pxe import dnsmasq, supervise
from pxe.dnsmasq import Dnsmasq
from pxe.stop import Stop
from pxe.supervise import End, Patience


class Heard:
    """A listener that remembers, and can act on a line."""

    def __init__(self, act: Callable[[str], None] = lambda _: None) -> None:
        self.lines: list[str] = []
        self.silences = 0
        self._act = act

    def heard(self, line: str) -> None:
        self.lines.append(line)
        self._act(line)

    def quiet(self) -> None:
        self.silences += 1


def child(program: str, tmp_path: Path) -> Callable[[], Dnsmasq]:
    argv = (sys.executable, "-S", "-c", program)
    return lambda: Dnsmasq(argv, tmp_path)


def end(code: int, seconds: float = 0.1) -> End:
    return End(code=code, seconds=seconds)


def test_pauses_grow_to_a_limit_and_start_anew_after_a_healthy_run() -> None:
    patience = Patience()
    pauses = [patience.after(end(-9)) for _ in range(8)]
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert patience.after(end(-9, seconds=31.0)) == 0.2
    assert patience.after(end(-9)) == 0.4


def test_third_quick_failure_in_a_row_is_the_last() -> None:
    patience = Patience()
    assert [patience.after(end(2)) for _ in range(3)] == [0.2, 0.4, None]


def test_a_crash_by_signal_or_after_a_while_is_never_the_last() -> None:
    patience = Patience()
    assert None not in [
        patience.after(end(code, seconds)) for code, seconds in [(-11, 0.1), (1, 3.0), (0, 0.1)] * 10
    ]


def test_one_that_served_once_is_started_again_for_ever() -> None:
    patience = Patience()
    patience.after(end(-9, seconds=3.0))
    assert None not in [patience.after(end(2)) for _ in range(10)]


def test_quick_failures_count_only_in_a_row() -> None:
    patience = Patience()
    ends = [end(2), end(2), end(-9), end(2), end(2)]
    assert None not in [patience.after(one) for one in ends]


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (end(-9), "was ended by SIGKILL after 0.1 s"),
        (end(2), "ended with status 2 (the network or a port refused it) after 0.1 s"),
        (end(77), "ended with status 77 after 0.1 s"),
    ],
)
def test_ends_are_told_in_words(one: End, text: str) -> None:
    assert str(one) == text


def test_hopeless_child_is_given_up_with_its_own_words(tmp_path: Path) -> None:
    program = "import sys; sys.exit(print('dnsmasq: bad option at line 2', file=sys.stderr) or 1)"
    with Stop() as stop, pytest.raises(ServeError, match=r"3 times: dnsmasq: bad option at line 2"):
        supervise.supervise(child(program, tmp_path), Heard(), stop)


def test_killed_child_is_started_again(tmp_path: Path) -> None:
    starts = []
    with Stop() as stop:

        def on_line(line: str) -> None:
            starts.append(int(line))
            if len(starts) == 2:
                stop.ask()
            else:
                os.kill(int(line), signal.SIGKILL)

        program = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
        supervise.supervise(child(program, tmp_path), Heard(on_line), stop)
    assert len(set(starts)) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in starts)


def test_each_end_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    with Stop() as stop, pytest.raises(ServeError):
        supervise.supervise(child("raise SystemExit(1)", tmp_path), Heard(), stop, lambda: told.append("end"))
    assert told == ["end"] * 3


def test_stop_ends_the_child_and_hears_its_last_words(tmp_path: Path) -> None:
    program = (
        "import os, signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: os._exit(os.write(1, b'goodbye\\n')))\n"
        "os.write(1, b'hello\\n')\n"
        "signal.pause()\n"
    )
    with Stop() as stop:
        heard = Heard(lambda line: stop.ask() if line == "hello" else None)
        supervise.supervise(child(program, tmp_path), heard, stop)
    assert heard.lines == ["hello", "goodbye"]


def test_child_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "END_SECONDS", 0.3)
    program = (
        "import os, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(os.getpid(), flush=True)\n"
        "while True: signal.pause()\n"
    )
    with Stop() as stop:
        heard = Heard(lambda _: stop.ask())
        supervise.supervise(child(program, tmp_path), heard, stop)
    assert not Path(f"/proc/{heard.lines[0]}").exists()


def test_silence_is_told_while_the_child_lives(tmp_path: Path) -> None:
    with Stop() as stop:
        heard = Heard()
        timer = threading.Timer(1.0, stop.ask)
        timer.start()
        supervise.supervise(
            child("import time; print('x', flush=True); time.sleep(60)", tmp_path), heard, stop
        )
        timer.join()
    assert heard.lines == ["x"]
    assert heard.silences >= 1


def test_overlong_line_is_cut_and_the_next_one_is_whole(tmp_path: Path) -> None:
    process = Dnsmasq((sys.executable, "-S", "-c", "print('x' * 900_000); print('next')"), tmp_path)
    lines: list[str] = []
    deadline = time.monotonic() + 10
    while "next" not in lines and time.monotonic() < deadline:
        lines += process.lines()
        time.sleep(0.01)
    process.reap()
    assert [len(line) <= dnsmasq.LONGEST_LINE_BYTES for line in lines] == [True, True]
    assert lines[1] == "next"


def test_stop_is_asked_by_a_signal_and_wakes_a_wait() -> None:
    old = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with Stop() as stop:
            stop.listen()
            assert stop.wait(0) is False
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.wait(5) is True
            stop.ask()
            assert stop.is_asked()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
