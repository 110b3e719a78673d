"""`handover`: what makes no sense changes nothing, what it would do is shown, and the fence holds."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootstrap.handover import fence
from bootstrap.handover.fence import Fence
from tests.unit.handover.rack import ID, IMAGE, NOW

Firstlight = Callable[..., Any]
Snapshot = Callable[[], dict[str, bytes]]


@pytest.fixture(name="config")
def fixture_config(tmp_path: Path, configs: Path) -> list[object]:
    """Options for a cluster whose images are pinned."""
    images = "\n".join(f"    {part}: {IMAGE.format(part)}" for part in ("web", "pxe"))
    overlay = tmp_path / "pinned.yaml"
    overlay.write_text(f"appliance:\n  containers:\n{images}\n")
    return ["--config", configs / "example.yaml", "--config", overlay]


@pytest.fixture(autouse=True)
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture(name="fenced")
def fixture_fenced(deploy: Path) -> Path:
    work = deploy / "rack1"
    work.mkdir(parents=True)
    fence.write(work, Fence(id=ID, node="w1", at=NOW, stage="open"))
    return work


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "write --to cluster --node NAME, or --back"),
        (("--to", "cluster"), "write --to cluster --node NAME, or --back"),
        (("--node", "w1"), "write --to cluster --node NAME, or --back"),
        (("--to", "moon", "--node", "w1"), "'moon' is not 'cluster'"),
        (("--back", "--to", "cluster"), "leave the others out"),
        (("--back", "--dry-run"), "leave the others out"),
        (("--back", "--lost", "--from", "."), "leave the others out"),
        (("--lost",), "write --back with them"),
        (("--to", "cluster", "--node", "w1", "--from", "."), "write --back with them"),
        (("--to", "cluster", "--node", "w1", "--dry-run", "--output", "d"), "--dry-run writes nothing"),
        (("--back", "--from", "nowhere"), "nowhere"),
        (("--to", "cluster", "--node", "w1", "--timeout", "0"), "--timeout"),
        (("--back",), "nothing was handed over from there"),
    ],
)
def test_options_that_make_no_sense_change_nothing(
    firstlight: Firstlight, config: list[object], snapshot: Snapshot, words: tuple[str, ...], says: str
) -> None:
    before = snapshot()
    outcome = firstlight(*config, "handover", *words)

    assert outcome.code == 2, outcome
    assert says in outcome.err
    assert "Traceback" not in outcome.err
    assert snapshot() == before


def test_a_configuration_that_cannot_move_is_told_in_a_line_each(
    firstlight: Firstlight, tmp_path: Path, configs: Path, snapshot: Snapshot
) -> None:
    overlay = tmp_path / "wrong.yaml"
    overlay.write_text("appliance:\n  httpPort: 80\n  containers: {web: registry.example.net/web:1}\n")
    before = snapshot()
    given = ("--config", configs / "example.yaml", "--config", overlay)
    outcome = firstlight(*given, "handover", "--to", "cluster", "--node", "w1")

    assert outcome.code == 2
    assert [line.split(":")[0] for line in outcome.err.splitlines()] == [
        "appliance.containers.web",
        "appliance.containers.pxe",
        "appliance.httpPort",
    ]
    assert "registry.example.net/web:1 names no digest" in outcome.err
    assert snapshot() == before


@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--output", "manifests")])
def test_a_state_in_etcd_is_refused_in_one_line_before_anything_moves(
    firstlight: Firstlight, config: list[object], tmp_path: Path, snapshot: Snapshot, more: tuple[str, ...]
) -> None:
    overlay = tmp_path / "shared.yaml"
    overlay.write_text("appliance: {store: etcd, etcd: {endpoints: ['https://127.9.9.9:2379']}}\n")
    before = snapshot()
    outcome = firstlight(*config, "--config", overlay, "handover", "--to", "cluster", "--node", "w1", *more)

    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith("appliance.store: etcd does not move into a cluster")
    assert "`store migrate --to sqlite`" in line
    assert snapshot() == before


def test_a_dry_run_shows_the_steps_and_changes_nothing(
    firstlight: Firstlight, config: list[object], snapshot: Snapshot
) -> None:
    before = snapshot()
    outcome = firstlight(*config, "handover", "--to", "cluster", "--node", "w1", "--dry-run")

    assert outcome.code == 0, outcome.err
    steps = [line.split(":")[0] for line in outcome.out.splitlines()]
    assert steps == ["check", "close", "keep", "send", "open", "wait"]
    assert IMAGE.format("web") in outcome.out
    assert snapshot() == before


@pytest.mark.usefixtures("fenced")
@pytest.mark.parametrize("words", [("up",), ("serve",), ("serve", "--engine", "podman", "--prepare"), ()])
def test_what_was_handed_over_does_not_start_here(
    firstlight: Firstlight, config: list[object], snapshot: Snapshot, words: tuple[str, ...]
) -> None:
    before = snapshot()
    outcome = firstlight(*config, *words)

    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].startswith("the appliance of rack1 was handed over to node w1")
    assert outcome.err.splitlines()[-1].endswith("bring it back first: handover --back")
    assert snapshot() == before


def test_an_older_state_is_not_moved_to_etcd_meanwhile(
    firstlight: Firstlight, config: list[object], fenced: Path, tmp_path: Path
) -> None:
    overlay = tmp_path / "shared.yaml"
    overlay.write_text("appliance: {store: etcd, etcd: {endpoints: ['https://127.9.9.9:2379']}}\n")
    outcome = firstlight(*config, "--config", overlay, "store", "migrate", "--to", "etcd")

    assert outcome.code == 2
    assert "bring it back first: handover --back" in outcome.err
    assert (fenced / fence.FILE).exists()


def test_a_restore_does_not_take_the_fence_away(
    firstlight: Firstlight, config: list[object], fenced: Path, tmp_path: Path
) -> None:
    (tmp_path / "backup.tar.gz").write_text("whatever")
    outcome = firstlight(*config, "restore", tmp_path / "backup.tar.gz", "--force")

    assert outcome.code == 2
    assert "handover --back" in outcome.err
    assert (fenced / fence.FILE).exists()


def test_another_node_is_refused_while_one_has_it(
    firstlight: Firstlight, config: list[object], fenced: Path
) -> None:
    outcome = firstlight(*config, "handover", "--to", "cluster", "--node", "w2")

    assert outcome.code == 2
    assert outcome.err == "--node w2: it was handed over to w1; write that, or handover --back first\n"
    assert (fenced / fence.FILE).exists()


@pytest.mark.usefixtures("fenced")
def test_a_cluster_that_does_not_answer_keeps_the_fence_up(
    firstlight: Firstlight, config: list[object], deploy: Path, tmp_path: Path
) -> None:
    overlay = tmp_path / "here.yaml"
    overlay.write_text(
        "kubernetes: {controlPlaneEndpoint: '127.9.9.9:6443'}\n"
        "controlPlane:\n  hosts:\n    - {name: m1, address: 127.9.9.9}\n"
    )
    firstlight(*config, "--config", overlay, "certs", "status")
    outcome = firstlight(*config, "--config", overlay, "handover", "--back")

    assert outcome.code == 1, outcome
    assert "Traceback" not in outcome.err
    assert (deploy / "rack1" / fence.FILE).exists()


@pytest.mark.usefixtures("fenced")
def test_who_asks_for_the_appliance_is_told_where_it_is(firstlight: Firstlight, config: list[object]) -> None:
    outcome = firstlight(*config, "status")

    assert outcome.code == 1
    assert "it was handed over to the cluster: ask it there, or bring it back" in outcome.err
    assert "start it" not in outcome.err
