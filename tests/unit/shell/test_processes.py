import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bootstrap import background, processes
from bootstrap.workplace import Workplace

Start = Callable[..., "subprocess.Popen[bytes]"]
READY = "import time, signal, sys; {}; print(flush=True); time.sleep(60)"


@pytest.fixture
def start() -> Iterator[Start]:
    """Start Python processes that live until the test ends, and return each when it is ready."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*words: str, first: str = "0") -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-IS", "-c", READY.format(first), *words]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout
        process.stdout.readline()
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    place = Workplace(tmp_path, "c1")
    place.make()
    return place


def test_a_process_is_found_by_its_pid_file_and_its_words(start: Start, tmp_path: Path) -> None:
    process = start("--work", "/w/c1")
    file = tmp_path / "pid"
    file.write_text(f"{process.pid}\n")

    assert processes.running_pid(file, " --work /w/c1 ") == process.pid


def test_a_recycled_pid_is_not_ours(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    file.write_text(str(start("--work", "/w/c2").pid))

    assert processes.running_pid(file, " --work /w/c1 ") is None
    assert processes.running_pid(file, " --work ", " /w/c1 ") is None


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "99999999", "\udcff"])
def test_a_damaged_or_old_pid_file_names_nobody(tmp_path: Path, text: str) -> None:
    file = tmp_path / "pid"
    file.write_bytes(text.encode(errors="surrogateescape"))

    assert processes.running_pid(file, "") is None
    assert processes.running_pid(tmp_path / "none", "") is None


def test_a_zombie_runs_no_more(start: Start, tmp_path: Path) -> None:
    process = start("word")
    file = tmp_path / "pid"
    file.write_text(str(process.pid))
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert processes.running_pid(file, "") is None


def test_end_asks_first(start: Start) -> None:
    process = start(first="signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))")

    began = time.monotonic()
    processes.end(process.pid, patience_seconds=20)

    assert time.monotonic() - began < 10
    assert processes.is_gone(process.pid)


def test_end_kills_a_stubborn_process(start: Start) -> None:
    process = start(first="signal.signal(signal.SIGTERM, signal.SIG_IGN)")

    processes.end(process.pid, patience_seconds=0.2)

    assert processes.is_gone(process.pid)


def test_ending_what_is_gone_is_fine(start: Start) -> None:
    process = start()
    process.kill()
    process.wait()

    processes.end(process.pid, patience_seconds=0.1)


def test_wait_until_is_bounded_and_tells() -> None:
    began = time.monotonic()

    assert not processes.wait_until(lambda: False, 0.2)
    assert time.monotonic() - began < 2
    assert processes.wait_until(lambda: True, 0)


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # it is meant to
def test_a_detached_process_has_its_own_session_and_appends_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log" / "serve.log"
    code = "import os; print(os.getsid(0) == os.getpid(), os.environ['GIVEN'])"
    for given in ("one", "two"):
        pid = processes.start_detached([sys.executable, "-IS", "-c", code], log, {"GIVEN": given})
        assert processes.wait_until(lambda pid=pid: processes.is_gone(pid), 10)  # type: ignore[misc]

    assert log.read_text() == "True one\nTrue two\n"


def test_the_appliance_is_found_by_its_pid_file(start: Start, place: Workplace) -> None:
    process = start("/x/deploy.py", "--config", "c.yaml", "serve")
    place.serve_pid.write_text(str(process.pid))

    assert background.pid_of(place) == process.pid


def test_down_does_not_end_k3s_server_that_got_our_old_pid(start: Start, place: Workplace) -> None:
    process = start("k3s", "server", "deploy.py")
    place.serve_pid.write_text(str(process.pid))

    assert background.pid_of(place) is None
    assert not background.stop(place)
    assert process.poll() is None


def test_down_does_not_end_the_web_of_another_cluster(start: Start, place: Workplace) -> None:
    process = start("-m", "web", "--work", f"{place.work}-2", "--cache", "/c")
    (place.work / "run" / "web.pid").write_text(str(process.pid))

    assert not background.stop(place)
    assert process.poll() is None


def test_down_ends_what_a_killed_serve_left(start: Start, place: Workplace) -> None:
    left = {
        "web": start("-m", "web", "--work", str(place.work), "--cache", "/c"),
        "pxe": start("-m", "pxe", "--work", str(place.work), "--runtime", "/r"),
    }
    for name, process in left.items():
        (place.work / "run" / f"{name}.pid").write_text(str(process.pid))

    assert background.stop(place)

    assert all(processes.is_gone(process.pid) for process in left.values())
    assert not list((place.work / "run").glob("*.pid"))
    assert not background.stop(place)


def test_an_appliance_that_does_not_start_shows_the_end_of_its_log(place: Workplace) -> None:
    place.serve_log.write_text("".join(f"line {n}\n" for n in range(40)))

    assert background.last_lines(place.serve_log).splitlines() == [f"line {n}" for n in range(25, 40)]
    assert "No such file" in background.last_lines(place.work / "none.log")
