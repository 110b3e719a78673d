"""What failed in the lanes is asked once more, alone: what that run passes, what it never asks again."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FAILS_ONCE = """
from pathlib import Path

def test_one():
    seen = Path("seen")
    assert seen.exists() or seen.touch()

def test_other():
    Path("other").write_text(Path("other").read_text() + "x" if Path("other").exists() else "x")
"""
FAILS = "def test_one():\n    assert False\n"


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = (sys.executable, "-m", "pytest", "-q", f"--rootdir={folder}", "-c", "own.ini", *words)
    return subprocess.run(
        argv,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def again(folder: Path) -> subprocess.CompletedProcess[str]:
    return run(folder, "-p", "tests.again", "--last-failed", "--last-failed-no-failures", "none")


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path) -> Path:
    (tmp_path / "own.ini").write_text("[pytest]\nmarkers =\n    promise: a row\n")
    return tmp_path


def test_what_passes_alone_is_named_and_the_rest_is_not_run_again(folder: Path) -> None:
    (folder / "test_load.py").write_text(FAILS_ONCE)
    assert run(folder).returncode == 1

    second = again(folder)

    assert second.returncode == 0, second.stdout
    summary = second.stdout.partition("failed beside other tests, passed alone")[2]
    assert "test_load.py::test_one" in summary
    assert (folder / "other").read_text() == "x"


def test_what_fails_alone_too_is_a_failure(folder: Path) -> None:
    (folder / "test_load.py").write_text(FAILS)
    assert run(folder).returncode == 1
    assert again(folder).returncode == 1


@pytest.mark.parametrize(
    ("name", "mark"), [("test_load", "@pytest.mark.promise\n"), ("test_fault_x", ""), ("test_interrupt", "")]
)
def test_what_draws_at_random_is_not_asked_again(folder: Path, name: str, mark: str) -> None:
    once = FAILS_ONCE.replace("def test_one", f"{mark}def test_one")
    (folder / f"{name}.py").write_text(f"import pytest\n{once}")
    assert run(folder).returncode == 1

    second = again(folder)

    assert second.returncode == 1
    assert "it draws at random" in second.stdout + second.stderr


def test_many_modules_that_fail_have_another_reason(folder: Path) -> None:
    for number in range(4):
        (folder / f"test_{number}.py").write_text(FAILS_ONCE.replace("seen", f"seen{number}"))
    assert run(folder).returncode == 1
    second = again(folder)
    assert second.returncode == 1
    assert "tests of 4 modules failed" in second.stdout + second.stderr
