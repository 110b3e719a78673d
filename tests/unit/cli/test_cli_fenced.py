"""While the appliance is handed over nothing starts here, whoever starts it, and what works on its state says so."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootstrap.errors import ServeError
from bootstrap.handover import fence
from bootstrap.handover.fence import Fence
from pxe import __main__ as pxe
from tests.unit.handover.rack import ID, NOW
from web import __main__ as web

Firstlight = Callable[..., Any]


@pytest.fixture(autouse=True)
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture(name="fenced")
def fixture_fenced(deploy: Path) -> Path:
    work = deploy / "rack1"
    (work / "run").mkdir(parents=True)
    (work / "web").mkdir()
    fence.write(work, Fence(id=ID, node="w1", at=NOW, stage="open"))
    return work


def test_web_that_is_started_by_hand_answers_nobody(fenced: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fenced)
    with pytest.raises(
        ServeError, match=r"handed-over\.json: .* bring it back first: deploy.py handover --back"
    ):
        web.run(fenced, fenced, fenced)
    assert list((fenced / "run").iterdir()) == []


@pytest.mark.parametrize("content", ["", "{}"])
def test_a_damaged_fence_holds_there_too(fenced: Path, content: str) -> None:
    (fenced / fence.FILE).write_text(content)
    with pytest.raises(ServeError, match="handover --back"):
        web.run(fenced, fenced, fenced)


def test_pxe_that_is_started_by_hand_answers_nobody(
    fenced: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = pxe.main(["--work", str(fenced), "--runtime", str(tmp_path / "runtime")])

    assert code == 1
    assert caplog.messages[-1].endswith("bring it back first: deploy.py handover --back")
    assert not (tmp_path / "runtime").exists()


def test_a_backup_says_that_the_newer_state_is_elsewhere(
    firstlight: Firstlight, configs: Path, fenced: Path, tmp_path: Path
) -> None:
    given = ("--config", configs / "example.yaml")
    assert firstlight(*given, "render", "--output", tmp_path / "out").code == 0  # makes keys
    outcome = firstlight(*given, "backup", tmp_path / "b.tar.gz")

    assert outcome.code in (0, 3), outcome
    lines = [line for line in outcome.err.splitlines() if "before the handover" in line]
    assert lines == [
        "the state in it is of before the handover: what is newer is on w1; handover --back brings it"
    ]
    (fenced / fence.FILE).unlink()
    assert "handover" not in firstlight(*given, "backup", tmp_path / "c.tar.gz").err
