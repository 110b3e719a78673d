import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bootstrap import serve
from bootstrap.environment import ROOT
from bootstrap.errors import ServeError
from bootstrap.localboot import CONFIGS, KINDS, Kind, make_localboot
from bootstrap.processes import is_gone, wait_until

Make = Callable[[str], serve.Part]
DIES = "import sys; sys.exit(4)"
WRITES = "print('here', file=open({!r}, 'a', buffering=1))"
LIVES = WRITES + "; import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); open({!r}, 'w'); time.sleep(60)"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(serve, "LONGEST_PAUSE_SECONDS", 0.05)


@pytest.fixture
def part() -> Iterator[Make]:
    """Make parts that run Python code, and end them with the test."""
    made: list[serve.Part] = []

    def make(code: str) -> serve.Part:
        made.append(serve.Part("web", (sys.executable, "-IS", "-c", code), end_seconds=0.3))
        return made[-1]

    yield make
    for one in made:
        one.end()


def starts(part: serve.Part, file: Path, count: int) -> bool:
    def asked() -> bool:
        part.watch()
        return file.exists() and len(file.read_text().splitlines()) >= count

    return wait_until(asked, 10)


def test_a_part_that_died_is_started_again(
    part: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "starts"
    web = part(LIVES.format(str(file)))
    web.start()
    assert starts(web, file, 1)

    assert web._process
    web._process.kill()
    web._process.wait()

    assert starts(web, file, 2)
    assert not web.has_ended()
    assert "serve: web ended (exit -9); starting it again in 0.0 s" in capfd.readouterr().err


def watched(part: serve.Part) -> bool:
    part.watch()
    return False


def test_a_part_that_ends_by_itself_before_it_served_is_given_up(part: Make) -> None:
    web = part(DIES)
    with pytest.raises(ServeError, match=r"web could not start \(exit 4\); what it said is above"):
        wait_until(lambda: watched(web), 10)


def test_a_part_that_is_killed_before_it_served_is_started_again(part: Make, tmp_path: Path) -> None:
    file = tmp_path / "starts"
    web = part(f"{WRITES.format(str(file))}; import os; os.kill(os.getpid(), 9)")
    assert starts(web, file, 3)


def test_a_part_that_served_once_is_never_given_up(part: Make, tmp_path: Path) -> None:
    file = tmp_path / "starts"
    web = part(f"{WRITES.format(str(file))}; {DIES}")
    web.has_served = True
    assert starts(web, file, 8)


def test_a_part_that_served_is_tried_again_when_what_starts_it_fails(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []

    def before() -> None:
        told.append("asked")
        if len(told) < 3:
            raise ServeError("the engine is busy")

    web = serve.Part(
        "web", (sys.executable, "-IS", "-c", LIVES.format(str(tmp_path / "starts"))), before, end_seconds=0.3
    )
    with pytest.raises(ServeError, match="the engine is busy"):
        web.watch()

    web.has_served = True
    try:
        assert starts(web, tmp_path / "starts", 1)
    finally:
        web.end()
    assert len(told) == 3
    assert "web could not be started (the engine is busy); trying again" in capfd.readouterr().err


def test_the_pauses_grow_up_to_a_bound(
    part: Make, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "LONGEST_PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(serve, "FIRST_PAUSE_SECONDS", 0.05)
    web = part(DIES)

    web.has_served = True
    said: list[str] = []

    def four_said() -> bool:
        web.watch()
        said.extend(capfd.readouterr().err.splitlines())
        return len(said) >= 4

    assert wait_until(four_said, 20)
    assert [line.rsplit(" ", 2)[1] for line in said[:4]] == ["0.1", "0.2", "0.2", "0.2"]


def test_the_pauses_start_anew_after_a_long_life(
    part: Make, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "LONG_LIFE_SECONDS", 0.0)
    web = part(DIES)
    web.has_served = True
    for _ in range(4):
        web.start()
        assert wait_until(web.has_ended, 10)
        web.watch()
    assert {line.rsplit(" ", 2)[1] for line in capfd.readouterr().err.splitlines()} == {"0.0"}


def test_a_part_does_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    inner = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    outer = (
        "import sys, time; from bootstrap import serve\n"
        f"serve.Part('web', (sys.executable, '-IS', '-c', {inner!r}), end_seconds=9).start(); time.sleep(60)"
    )
    supervisor = subprocess.Popen((sys.executable, "-c", outer), cwd=ROOT)
    try:
        assert wait_until(lambda: file.exists() and bool(file.read_text()), 10)
    finally:
        supervisor.kill()
        supervisor.wait()
    assert wait_until(lambda: is_gone(int(file.read_text())), 10)


def test_a_part_ends_when_it_is_asked(part: Make, tmp_path: Path) -> None:
    file = tmp_path / "starts"
    web = part(LIVES.format(str(file)))
    web.start()
    assert starts(web, file, 1)

    web.end()

    assert web.has_ended()


def test_a_stubborn_part_is_killed(part: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ready = tmp_path / "ready"
    web = part(STUBBORN.format(str(ready)))
    web.start()
    assert wait_until(ready.exists, 10)

    began = time.monotonic()
    web.end()

    assert time.monotonic() - began < 5
    assert web.has_ended()
    assert "web did not end in" in capfd.readouterr().err


def test_ending_a_part_that_never_ran_or_is_dead_is_fine(part: Make) -> None:
    web = part(DIES)
    web.end()
    web.start()
    assert wait_until(web.has_ended, 10)
    web.end()


def test_the_folder_under_run_goes_and_its_parent_with_the_last(tmp_path: Path) -> None:
    parent = tmp_path / "firstlight"
    for name in ("c1", "c2"):
        (parent / name / "tftp").mkdir(parents=True)

    serve.remove_runtime(parent / "c1")
    assert [path.name for path in parent.iterdir()] == ["c2"]
    serve.remove_runtime(parent / "c2")
    assert not parent.exists()
    serve.remove_runtime(parent / "c2")


def test_localboot_is_made_whole_by_grub(tool: Callable[[str, str], Path], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    code = "out = [w for w in sys.argv if w.startswith('--output=')][0][9:]; open(out, 'w').write('EFI')"
    tool("grub-mkimage", code)

    assert {path.read_text() for path in make_localboot(tmp_path)} == {"EFI"}
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["localboot.efi", "localboot.pxe"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.file)
def test_the_last_search_is_for_the_file_that_the_installer_leaves(kind: Kind) -> None:
    """GRUB's rescue parser goes on after a failed search, so the later of two that find something wins."""
    searches = [line for line in (CONFIGS / kind.config).read_text().splitlines() if "search " in line]
    installer = (CONFIGS.parent / "installer" / "install").read_text()

    assert searches[-1] == "search --no-floppy --file --set=root /firstlight/$uuid"
    assert "$FL_RUN/esp/firstlight/$uuid" in installer


@pytest.mark.usefixtures("tool")
def test_without_grub_the_packages_are_named(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="apt-get install grub-common grub-efi-amd64-bin grub-pc-bin"):
        make_localboot(tmp_path)


def test_what_grub_said_is_shown(tool: Callable[[str, str], Path], tmp_path: Path) -> None:
    tool("grub-mkimage", "sys.stderr.write('error: cannot open moddep.lst\\n'); sys.exit(1)")

    with pytest.raises(ServeError, match=r"could not make localboot\.efi: error: cannot open moddep\.lst"):
        make_localboot(tmp_path)
