"""`apply` brings the addons after the hosts, and only when all of those are done; `up` in the same way."""

import importlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import bootstrap.cli
from bootstrap import steps
from bootstrap.apply.run import Outcome
from bootstrap.cli import apply as verb
from bootstrap.cli import run as command
from bootstrap.model import Cluster
from bootstrap.progress import Progress, silent
from bootstrap.workplace import Workplace
from tests import samples
from tests.unit.addons.fake_api import FakeApi
from tests.unit.addons.worlds import cluster_with

bring_up = importlib.import_module("bootstrap.cli.run").bring_up
vars(bootstrap.cli)["run"] = command  # the module of that name took the function's place


class Said:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def step(self, name: str) -> Iterator[Progress]:
        self.lines.append(f"step {name}")
        yield silent

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(name="likeness")
def fixture_likeness(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    made = FakeApi()
    monkeypatch.setattr(steps, "Api", lambda _: made)
    monkeypatch.setattr(FakeApi, "close", lambda _: None, raising=False)
    return made


@pytest.fixture(name="applied")
def fixture_applied(
    likeness: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Run `apply` where hosts do what they are told to have done."""
    del likeness
    (tmp_path / "config.yaml").write_text((samples.ROOT / "configs/example.yaml").read_text())
    (tmp_path / "more.yaml").write_text("addons: [coredns]\n")

    def applied(outcome: Outcome) -> tuple[int, dict[str, Any]]:
        monkeypatch.setattr(steps, "keys", lambda _: None)
        for name in ("trees_of", "site_of"):
            monkeypatch.setattr(verb, name, lambda *_, **__: None)
        monkeypatch.setattr(verb, "apply_cluster", lambda *_, **__: outcome)
        files = ("--config", str(tmp_path / "config.yaml"), "--config", str(tmp_path / "more.yaml"))
        code = command(["--deploy", str(tmp_path / "deploy"), *files, "--output", "json", "apply"])
        return code, json.loads(capsys.readouterr().out)

    return applied


def test_apply_brings_them_and_says_so(applied: Callable[..., tuple[int, dict[str, Any]]]) -> None:
    code, told = applied(Outcome(("m1",)))

    assert (code, told["addons"]["failed"]) == (0, {})
    assert "Deployment/kube-system/coredns" in told["addons"]["changed"]
    assert "DaemonSet/kube-system/nvidia-device-plugin" in told["addons"]["changed"]
    assert applied(Outcome(("m1",)))[1]["addons"] == {"changed": [], "failed": {}}


def test_apply_leaves_them_while_a_host_is_not_done(
    applied: Callable[..., tuple[int, dict[str, Any]]], likeness: FakeApi
) -> None:
    code, told = applied(Outcome(("m1",), failed={"m1": "m1 is not reached"}))

    assert (code, told["addons"]) == (1, {"changed": [], "failed": {}})
    assert likeness.calls == []


def test_apply_that_could_not_bring_one_is_partly_done(
    applied: Callable[..., tuple[int, dict[str, Any]]], likeness: FakeApi
) -> None:
    path = "apis/apps/v1/namespaces/kube-system/deployments/coredns"
    likeness.write(path, "helm", kind="Deployment", metadata={"name": "coredns"})
    code, told = applied(Outcome(("m1",)))

    assert code == 3
    assert "conflict with helm" in told["addons"]["failed"]["coredns"]


def steps_of(monkeypatch: pytest.MonkeyPatch, outcome: Outcome | None) -> None:
    nothing: tuple[str, ...] = ()
    fake: dict[str, Any] = {
        "keys": type("Keys", (), {"public": None, "news": ()})(),
        "programs": {},
        "render": None,
        "write": nothing,
        "build_images": steps.Built(),
        "lab_up": None,
        "apply": outcome,
        "serve": nothing,
    }
    for name, value in fake.items():
        monkeypatch.setattr(steps, name, lambda *_, value=value, **__: value)


@pytest.mark.parametrize(
    ("outcome", "brought", "code"),
    [(Outcome(("m1",)), True, 0), (Outcome(("m1", "m2"), failed={"m1": "no"}), False, 3), (None, True, 0)],
)
def test_up_brings_them_when_the_hosts_are_done(
    outcome: Outcome | None,
    brought: bool,  # noqa: FBT001  # a parameter of the test
    code: int,
    likeness: FakeApi,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps_of(monkeypatch, outcome)
    said, place = Said(), Workplace(Path("/nonexistent"), "rack1")
    cluster = cluster_with("coredns")
    run = steps.Run(configs=(Path("/nonexistent/config.yaml"),), place=place, cluster=cluster, reporter=said)

    assert bring_up(run, steps.Undo([])) == ((), code)
    assert bool(likeness.calls) is brought
    assert ("applied Deployment/kube-system/coredns" in said.lines) is brought
    assert not any("nothing changed: everything" in line for line in said.lines)
    if brought:
        assert bring_up(run, steps.Undo([])) == ((), 0)
        assert said.lines[-1] == "nothing changed: everything runs as the configuration says"


def test_a_cluster_without_addons_or_hosts_asks_no_api(tmp_path: Path) -> None:
    lab = samples.cluster("lab")
    assert not steps.has_addons(lab)
    bare: Cluster = cluster_with("coredns").model_copy(
        update={"control_plane": lab.control_plane.model_copy(update={"hosts": ()})}
    )
    assert not steps.has_addons(bare)
    assert steps.has_addons(cluster_with("coredns"))
    assert list(tmp_path.iterdir()) == []
