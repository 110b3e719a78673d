import errno
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from bootstrap import cli
from bootstrap.cli.main import VERBS, Call
from bootstrap.errors import ConfigError, FirstlightError, Problem, RenderError, UsageError

ROOT = Path(__file__).parents[3]
Firstlight = Callable[..., Any]

CHANGE_NOTHING = {"status", "events", "check", "schema", "plan", "dhcp-options"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FirstlightError("no"), 1),
        (UsageError("no"), 2),
        (ConfigError((Problem(file="a", line=1, column=1, path="", message="no"),)), 2),
    ],
)
def test_an_expected_error_is_its_text_alone(
    error: FirstlightError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.explain(error) == code
    assert capsys.readouterr().err == f"{error}\n"


@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), FileNotFoundError(2, "No such file", "x")])
def test_a_bug_says_that_it_is_one_with_its_traceback(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.explain(error) == 70
    text = capsys.readouterr().err
    assert type(error).__name__ in text
    assert text.endswith("this is a bug of firstlight; please report it with the lines above\n")


def test_a_failed_template_is_our_bug() -> None:
    assert cli.explain(RenderError("undefined")) == 70


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.EACCES, ""),
        (errno.EPERM, ""),
        (errno.ENOSPC, "; the disk is full: make room"),
        (errno.EDQUOT, "; the owner's quota is used up"),
        (errno.EROFS, "; the file system is read-only"),
        (errno.EIO, "; the disk failed"),
    ],
)
def test_a_disk_that_refuses_is_no_bug_and_the_remedy_is_told(
    code: int, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.explain(OSError(code, "refused", "/w/c1")) == 1
    text = capsys.readouterr().err
    assert text.startswith(f"/w/c1: refused{advice}")
    assert advice or text == "/w/c1: refused\n"


@pytest.mark.parametrize(
    ("raised", "code"),
    [(KeyboardInterrupt(), 130), (click.Abort(), 130), (RuntimeError("oops"), 70), (UsageError("no"), 2)],
)
def test_exit_codes_are_the_same_for_every_verb(
    firstlight: Firstlight, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int
) -> None:
    def fail(call: Call) -> None:
        raise raised if call.configs else AssertionError

    monkeypatch.setattr(Call, "cluster", fail)

    assert firstlight("--config", "x.yaml", "check").code == code


@pytest.mark.parametrize("words", [["nosuch"], ["--nosuch"], ["check", "extra"], ["status", "-o", "xml"]])
def test_what_is_no_verb_or_option_is_a_usage_error(firstlight: Firstlight, words: list[str]) -> None:
    done = firstlight(*words)

    assert (done.code, done.out) == (2, "")
    assert "Error: " in done.err
    assert "Traceback" not in done.err


def test_help_lists_every_verb(firstlight: Firstlight) -> None:
    done = firstlight("--help")

    assert done.code == 0
    for verb in VERBS:
        assert f"\n  {verb} " in done.out, verb
    assert "Exit codes: 0 done" in done.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(firstlight: Firstlight, verb: str) -> None:
    module, attribute, text = VERBS[verb]
    command = getattr(importlib.import_module(f"bootstrap.cli.{module}"), attribute)

    assert isinstance(command, click.Command)
    assert text.endswith(".")
    assert ("Changes nothing" in text) == (verb in CHANGE_NOTHING)
    assert firstlight(verb, "--help").code == 0
    for name, below in getattr(command, "commands", {}).items():
        assert below.help, f"{verb} {name} has no help"
        assert firstlight(verb, name, "--help").code == 0


@pytest.mark.parametrize(
    ("verb", "heavy"),
    [
        ("", {"pydantic", "yaml", "rich", "cryptography", "jinja2", "flask", "pyroute2", "requests"}),
        ("check", {"rich", "cryptography", "jinja2", "flask", "pyroute2", "requests"}),
        ("schema", {"rich", "cryptography", "jinja2", "flask", "pyroute2", "requests"}),
    ],
)
def test_help_loads_nothing_heavy(verb: str, heavy: set[str]) -> None:
    code = (
        "import sys; from bootstrap.cli import run; code = run(sys.argv[1:])\n"
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    words = [*verb.split(), "--help"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], check=True, cwd=ROOT, capture_output=True, text=True
    )

    assert heavy & set(done.stderr.split()) == set()


def test_a_reader_that_went_away_gets_no_noise() -> None:
    argv = [sys.executable, "-c", "import sys; from bootstrap.cli import run; sys.exit(run(sys.argv[1:]))"]
    done = subprocess.Popen(
        [*argv, "--config", "configs/example.yaml", "check"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.stdout
    done.stdout.close()
    assert done.stderr
    text = done.stderr.read()
    done.stderr.close()

    assert (done.wait(), text) == (1, "")
