import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bootstrap.errors import ImageError
from bootstrap.image import builder, command, debian
from bootstrap.image.recipe import Options

PYTHON = sys.executable


def gone(pid: int) -> bool:
    """Say whether the process has ended; what waits for its parent has ended too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def eventually(question: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not question():
        time.sleep(0.02)
    return question()


def test_lines_are_told_as_they_come() -> None:
    lines: list[str] = []
    command.run((PYTHON, "-c", "print('one'); print('two')"), on_line=lines.append)

    assert lines == ["one", "two"]


def test_a_failure_shows_its_last_lines() -> None:
    script = "import sys\nfor n in range(40): print('line', n)\nsys.exit(3)"

    with pytest.raises(ImageError, match=r"failed \(status 3\)") as caught:
        command.run((PYTHON, "-c", script))
    assert "line 39" in str(caught.value)
    assert "line 10\n" not in str(caught.value)


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(ImageError, match="no-such-program is not installed"):
        command.run(("no-such-program",))


def test_an_interruption_ends_the_whole_group() -> None:
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    children: list[int] = []

    def interrupt(line: str) -> None:
        children.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        command.run((PYTHON, "-c", script), on_line=interrupt)
    assert eventually(lambda: gone(children[0]))


def test_what_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "STOP_SECONDS", 0.5)
    script = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\n"
        "time.sleep(600)\n"
    )
    with command.started((PYTHON, "-c", script)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        command.stop(process)

    assert process.returncode == -signal.SIGKILL


def test_sigterm_becomes_an_exception_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def be_told_to_stop() -> None:
        with command.terminable():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(SystemExit) as caught:
        be_told_to_stop()
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_may_build_too() -> None:
    done: list[bool] = []

    def work() -> None:
        with command.terminable():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


def test_the_work_folder_is_gone_afterwards_and_leftovers_too(tmp_path: Path) -> None:
    leftover = tmp_path / "building" / "debian-killed"
    leftover.mkdir(parents=True)
    (leftover / "half").write_text("half")

    def cut_build() -> None:
        with builder.work_folder(tmp_path) as work:
            assert not leftover.exists()
            (work / "root").mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_build()
    assert [path.name for path in (tmp_path / "building").iterdir()] == ["lock"]


def test_two_builds_do_not_share_a_cache(tmp_path: Path) -> None:
    with (
        builder.work_folder(tmp_path),
        pytest.raises(ImageError, match="another build"),
        builder.work_folder(tmp_path),
    ):
        pass


def test_a_missing_tool_is_told_with_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ImageError, match=r"mmdebstrap.* missing: apt-get install .*mmdebstrap"):
        builder.check(tmp_path, debian.NEEDS)


def test_only_root_may_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(ImageError, match="sudo"):
        debian.build(Options(kernel="cloud"), tmp_path, lambda *_: None)
    assert list(tmp_path.iterdir()) == []


def test_the_kernel_is_known_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    with pytest.raises(ImageError, match="one kernel, not 0"):
        debian.kernel_version(tmp_path)

    (tmp_path / "boot" / "vmlinuz-6.12.1-cloud-amd64").touch()
    assert debian.kernel_version(tmp_path) == "6.12.1-cloud-amd64"


def test_a_stopped_group_that_is_gone_is_no_error() -> None:
    process = subprocess.Popen((PYTHON, "-c", ""), stdout=subprocess.PIPE, text=True, start_new_session=True)
    process.wait()

    command.stop(process)
    assert process.returncode == 0
