import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bootstrap import environment

ROOT = Path(__file__).parents[3]
PIP_WORKS = "sys.exit(0)"
PIP_FAILS = "sys.exit(3)"
PIP_IS_INTERRUPTED = "import signal; os.kill(os.getppid(), signal.SIGINT)"

Bench = Callable[[str], Path]


@pytest.fixture
def bench(tmp_path: Path, tool: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Stand the environment into a temporary folder; its venv is a script that acts as pip does."""
    venv, lock = tmp_path / ".venv", tmp_path / "requirements.lock"
    lock.write_text("click==8.5.0\n")
    monkeypatch.setattr(environment, "VENV", venv)
    monkeypatch.setattr(environment, "LOCK", lock)
    monkeypatch.delenv("FIRSTLIGHT_NO_VENV", raising=False)

    def make(pip: str) -> Path:
        body = tool("pip", pip)
        lines = "os.makedirs(sys.argv[3] + '/bin'); os.symlink({!r}, sys.argv[3] + '/bin/python')"
        base = tool("base-python", lines.format(str(body)))
        monkeypatch.setattr(environment, "base_python", lambda: str(base))
        return venv

    return make


@pytest.fixture
def restarts(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    seen: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, argv: seen.append([str(path), *argv]))
    return seen


def test_first_start_prepares_and_restarts_inside(bench: Bench, restarts: list[list[str]]) -> None:
    venv = bench(PIP_WORKS)

    environment.enter("deploy.py", ["--config", "a b.yaml", "up"])

    python = str(venv / "bin" / "python")
    assert restarts == [[python, python, "deploy.py", "--config", "a b.yaml", "up"]]
    assert environment.is_ready(environment.LOCK)


def test_second_start_prepares_nothing(
    bench: Bench, restarts: list[list[str]], calls: Callable[[str], list[str]]
) -> None:
    bench(PIP_WORKS)

    environment.enter("deploy.py", [])
    environment.enter("deploy.py", [])

    assert len(restarts) == 2
    assert len(calls("base-python")) == len(calls("pip")) == 1


def test_pip_takes_only_what_the_lock_pins_with_its_hashes(
    bench: Bench, calls: Callable[[str], list[str]]
) -> None:
    bench(PIP_WORKS)

    environment.prepare(environment.LOCK)

    assert "--require-hashes" in calls("pip")[0]
    assert calls("pip")[0].endswith(f"--requirement {environment.LOCK}")


def test_a_changed_lock_file_is_prepared_again(bench: Bench) -> None:
    bench(PIP_WORKS)
    environment.prepare(environment.LOCK)

    environment.LOCK.write_text("click==8.5.1\n")

    assert not environment.is_ready(environment.LOCK)


def test_an_environment_of_another_python_is_prepared_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench(PIP_WORKS)
    environment.prepare(environment.LOCK)

    with monkeypatch.context() as patch:
        patch.setattr(environment, "wanted_stamp", lambda lock: f"{lock.stem} 3.99\n")
        assert not environment.is_ready(environment.LOCK)
    assert environment.is_ready(environment.LOCK)


def test_an_environment_whose_interpreter_was_uninstalled_is_prepared_again(bench: Bench) -> None:
    venv = bench(PIP_WORKS)
    environment.prepare(environment.LOCK)

    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to("/nowhere/python3")

    assert not environment.is_ready(environment.LOCK)


def test_the_stamp_of_the_plain_lock_comes_with_the_one_for_tests(bench: Bench, tmp_path: Path) -> None:
    bench(PIP_WORKS)
    dev = tmp_path / "requirements-dev.lock"
    dev.write_text("pytest==9\n")

    environment.prepare(dev)

    assert environment.is_ready(dev)
    assert environment.is_ready(environment.LOCK)


def test_a_failed_preparation_is_removed_and_named(bench: Bench) -> None:
    venv = bench(PIP_FAILS)

    with pytest.raises(SystemExit, match=r"could not prepare \.venv/: .*pip install.* exit 3"):
        environment.enter("deploy.py", [])

    assert not venv.exists()


@pytest.mark.usefixtures("hears_ctrl_c")
def test_an_interrupted_preparation_is_removed(bench: Bench) -> None:
    venv = bench(PIP_IS_INTERRUPTED)

    with pytest.raises(KeyboardInterrupt):
        environment.enter("deploy.py", [])

    assert not venv.exists()


def test_what_a_killed_preparation_left_is_made_afresh(bench: Bench) -> None:
    venv = bench(PIP_WORKS)
    (venv / "lib").mkdir(parents=True)
    (venv / "lib" / "half.py").touch()

    assert not environment.is_ready(environment.LOCK)
    environment.prepare(environment.LOCK)

    assert not (venv / "lib" / "half.py").exists()


@pytest.mark.usefixtures("as_user", "bench")
def test_without_ensurepip_a_user_is_told_the_package(
    tool: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tool("base-python", "sys.stderr.write('no ensurepip here\\n'); sys.exit(1)")
    monkeypatch.setattr(environment, "base_python", lambda: str(base))

    with pytest.raises(SystemExit, match=r"(?s)no ensurepip here.*apt-get install python3-venv"):
        environment.prepare(environment.LOCK)


@pytest.mark.usefixtures("as_root")
def test_without_ensurepip_root_gets_the_package(
    bench: Bench,
    tool: Callable[[str, str], Path],
    calls: Callable[[str], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    venv, flag = bench(PIP_WORKS), tmp_path / "installed"
    works = (tmp_path / "tools" / "base-python").read_text().splitlines()[-1]
    base = tool("base-python", f"if not os.path.exists({str(flag)!r}): sys.exit(1)\n{works}")
    monkeypatch.setattr(environment, "base_python", lambda: str(base))
    tool("apt-get", f"if sys.argv[1] == 'install': open({str(flag)!r}, 'w')")

    environment.prepare(environment.LOCK)

    assert [call.split()[0] for call in calls("apt-get")] == ["update", "install"]
    assert calls("apt-get")[1].endswith("python3-venv")
    assert (venv / "bin" / "python").exists()


def test_a_python_too_old_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))

    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer"):
        environment.enter("deploy.py", [])


@pytest.mark.parametrize("name", ["deploy.py", "bootstrap/__init__.py", "bootstrap/environment.py"])
def test_an_old_python_gets_as_far_as_being_told(name: str) -> None:
    """`list[str]` in a signature ends Python 3.8 with a TypeError, unless annotations are not evaluated."""
    text = (ROOT / name).read_text()

    ast.parse(text, feature_version=(3, 7))

    assert "[str]" not in text or "from __future__ import annotations" in text


def test_packagers_bring_their_own_dependencies(
    bench: Bench, restarts: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = bench(PIP_WORKS)
    monkeypatch.setenv("FIRSTLIGHT_NO_VENV", "1")

    environment.enter("deploy.py", [])

    assert not venv.exists()
    assert restarts == []


def test_pythonhome_does_not_make_it_restart_for_ever(
    bench: Bench, restarts: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench(PIP_WORKS)
    monkeypatch.setenv("PYTHONHOME", "/usr")

    environment.enter("deploy.py", [])

    assert restarts
    assert "PYTHONHOME" not in os.environ


def test_inside_the_environment_nothing_is_restarted(
    bench: Bench, restarts: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = bench(PIP_WORKS)
    environment.prepare(environment.LOCK)
    monkeypatch.setattr(sys, "prefix", str(venv))

    environment.enter("deploy.py", [])

    assert restarts == []


def test_importing_deploy_needs_no_dependency() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import deploy\n"
        "print(*{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", code], check=True, capture_output=True, text=True
    )

    assert set(done.stdout.split()) <= {"__main__", "bootstrap", "deploy"}


def test_deploy_stays_tiny_and_its_preparation_readable_in_a_minute() -> None:
    assert len((ROOT / "deploy.py").read_text().splitlines()) <= 25
    assert len((ROOT / "bootstrap/environment.py").read_text().splitlines()) <= 150
