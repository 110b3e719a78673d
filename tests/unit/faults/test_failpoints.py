"""Failpoints: each name has its place in the source, each place its name, and nothing happens unless a test asks."""

import ast
import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bootstrap import failpoints
from bootstrap.artifacts import import_file

ROOT = Path(__file__).parents[3]
ROOMS = ("bootstrap", "web", "pxe", "certs")
FAILED_BY = {
    "store.": "system/test_fault_processes.py",
    "etcd.": "system/test_fault_etcd.py",
    "ledger.": "system/test_fault_processes.py",
    "web.": "system/test_fault_processes.py",
    "pxe.": "system/test_fault_processes.py",
    "disk.": "system/test_fault_processes.py",
    "claim.": "system/test_fault_claims.py",
    "apply.": "system/test_apply_cuts.py",
    "ignition.": "system/explain_rack.py",
    "move.": "system/test_store_migrate.py",
    "artifact.": "unit/faults/test_failpoints.py",
    "mirror.": "system/mirror/test_mirror_faults.py",
    "backup.": "unit/backup/test_backup_cuts.py",
    "handover.": "unit/handover/test_handover_moving.py",
    "restore.": "unit/backup/test_backup_cuts.py",
}
"""The module under tests/ that fails what begins so."""
REACH = """
from bootstrap import failpoints
for number in range(1, 7):
    try:
        failpoints.reached("store.commit.before")
        print(number, flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""


def places() -> list[tuple[str, Path]]:
    """Return the argument of each call of `failpoints.reached` in our sources, and its file."""
    return [
        (ast.literal_eval(call.args[0]), file)
        for room in ROOMS
        for file in sorted((ROOT / room).rglob("*.py"))
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "failpoints.reached"
    ]


def run(setting: str | None, code: str = REACH) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != failpoints.VARIABLE}
    if setting is not None:
        environment[failpoints.VARIABLE] = setting
    return subprocess.run(
        (sys.executable, "-c", code), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_every_name_has_one_place_in_the_source_and_every_place_a_name() -> None:
    assert sorted(name for name, _ in places()) == sorted(failpoints.NAMES)


def test_every_name_says_what_is_so_there() -> None:
    assert all(text.endswith(".") and len(text) > 20 for text in failpoints.NAMES.values())


@pytest.mark.parametrize("name", failpoints.NAMES)
def test_each_is_failed_by_a_test(name: str) -> None:
    beginning = name.partition(".")[0] + "."
    text = (ROOT / "tests" / FAILED_BY[beginning]).read_text()
    stem = name.rpartition(".")[0]
    # By its name, one by one before and after, or all that begin so.
    assert name in text or f'"{stem}.{{place}}=' in text or f'startswith("{beginning}")' in text


@pytest.mark.parametrize("setting", [None, ""])
def test_without_the_variable_nothing_happens_and_nothing_is_said(setting: str | None) -> None:
    done = run(setting)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, list("123456"), "")


def test_no_failpoint_is_armed_in_the_tests_own_process() -> None:
    assert failpoints._ARMED == {}


def test_kill_is_a_sigkill_the_nth_time() -> None:
    done = run("store.commit.before=kill@3")
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["1", "2"])


def test_raise_is_an_input_output_error() -> None:
    eio = str(errno.EIO)
    assert run("store.commit.before=raise@3").stdout.split() == ["1", "2", eio, "4", "5", "6"]
    assert run("store.commit.before=raise%3").stdout.split() == ["1", "2", eio, "4", "5", eio]
    assert run("store.commit.before=raise").stdout.split() == [eio] * 6


def test_sleep_sleeps() -> None:
    point = failpoints.parse("pxe.report.before=sleep:0.05")["pxe.report.before"]
    began = time.monotonic()
    point.reached()
    assert time.monotonic() - began >= 0.05


def test_what_a_failpoint_does_is_said_first() -> None:
    assert run("store.commit.before=kill@2").stderr.endswith("failpoint store.commit.before: kill\n")


def test_other_names_are_not_touched() -> None:
    assert run("store.commit.after=kill,web.answer.before=raise@1").stdout.split() == list("123456")


def test_an_armed_process_says_so() -> None:
    assert "fails on purpose (store.commit.after=raise)" in run("store.commit.after=raise").stderr


@pytest.mark.parametrize(
    "setting",
    ["store.comit.before=kill", "kill", "store.commit.before=explode", "store.commit.before=kill@0"],
)
def test_a_wrong_setting_refuses_to_start(setting: str) -> None:
    done = run(setting)
    assert (done.returncode, done.stdout) == (failpoints.EXIT_REFUSED, "")
    assert failpoints.VARIABLE in done.stderr


def test_the_document_for_developers_lists_every_name() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert failpoints.VARIABLE in text


IMPORT = """
import sys
from pathlib import Path
from bootstrap.artifacts import import_file
try:
    import_file(Path(sys.argv[1]), Path(sys.argv[2]))
except OSError as error:
    sys.exit(f"{error.strerror}")
"""


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("action", ["kill", "raise"])
def test_an_artifact_is_there_whole_or_not_at_all(tmp_path: Path, place: str, action: str) -> None:
    source, cache = tmp_path / "source", tmp_path / "cache"
    source.write_bytes(b"x" * 100_000)
    environment = {**os.environ, failpoints.VARIABLE: f"artifact.rename.{place}={action}"}
    argv = (sys.executable, "-c", IMPORT, str(cache), str(source))
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == (-signal.SIGKILL if action == "kill" else 1), done.stderr

    named = [path for path in (cache / "sha256").iterdir() if not path.name.startswith(".")]
    assert [path.read_bytes() for path in named] == ([source.read_bytes()] if place == "after" else [])
    import_file(cache, source)
    assert len([path for path in (cache / "sha256").iterdir() if path.name == sum_of(source)]) == 1


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
