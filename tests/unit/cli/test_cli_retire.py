"""`machine retire` of a machine that is a node: what is done in which order, and what when the API is away."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootstrap import leaving
from bootstrap.cli import machines
from bootstrap.errors import ApiDown
from bootstrap.kubernetes.leaving import Leave, PodsStay
from bootstrap.lab.gateway import port_file
from bootstrap.model import Cluster
from bootstrap.operator import Operator

Firstlight = Callable[..., Any]
CLAIM = {"node": "w1"}
W1 = {
    "name": "w1",
    "mac": "52:54:00:aa:00:01",
    "state": "ready",
    "arm": "a" * 22,
    "claim": CLAIM,
    "accessUntil": "2099-01-02T03:04:05Z",
}


class Appliance(Operator):
    """Knows one machine, and writes down what is ordered."""

    def __init__(self, done: list[str], **differs: Any) -> None:
        super().__init__(Path("none"))
        self._done = done
        self._machine = {**W1, "pool": "p", "message": "", "since": None, "disk": None, **differs}

    def machine(self, name: str) -> dict[str, Any]:
        assert name == "w1"
        return self._machine

    def act(self, name: str, action: str, *, recheck: bool = False) -> dict[str, Any]:
        assert not recheck
        self._done.append(f"{action} {name}")
        return {**self._machine, "state": "retired"}


@pytest.fixture(name="done")
def fixture_done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in order; the machine is a node."""
    done: list[str] = []

    def leave(cluster: Cluster, work: Path, node: str, how: Leave) -> bool:
        del cluster, work
        done.append(f"leave {node} {how.seconds:.0f}")
        how.tell(f"{node}: takes no new pods")
        return True

    monkeypatch.setattr(leaving, "leave_cluster", leave)
    monkeypatch.setattr(machines, "operator", lambda _call: Appliance(done))
    return done


@pytest.fixture(name="options")
def fixture_options(configs: Path) -> tuple[str, ...]:
    return ("--config", str(configs / "example.yaml"))


def fails(error: Exception) -> Callable[..., bool]:
    def leave(*_: object) -> bool:
        raise error

    return leave


def test_a_node_leaves_the_cluster_before_its_machine_is_retired(
    firstlight: Firstlight, options: tuple[str, ...], done: list[str]
) -> None:
    found = firstlight(*options, "machine", "retire", "w1", "--yes")

    assert (found.code, done) == (0, ["leave w1 300", "retire w1"])
    assert found.err.splitlines() == [
        "w1: takes no new pods",
        (
            "w1: its certificate is not renewed any more, and ends at 2099-01-02 03:04 UTC at the latest; until then "
            "switch it off, or it can come back as a node"
        ),
    ]
    assert "retired" in found.out


@pytest.mark.parametrize(("words", "left"), [(["--force"], "leave w1 0"), (["--timeout", "7"], "leave w1 7")])
def test_how_long_is_waited_is_up_to_the_operator(
    firstlight: Firstlight, options: tuple[str, ...], done: list[str], words: list[str], left: str
) -> None:
    assert firstlight(*options, "machine", "retire", "w1", "--yes", *words).code == 0
    assert done[0] == left


def test_while_the_api_is_away_the_machine_is_retired_all_the_same(
    firstlight: Firstlight, options: tuple[str, ...], done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "leave_cluster", fails(ApiDown("no API server answers at https://m1:6443")))

    found = firstlight(*options, "machine", "retire", "w1", "--yes")

    assert (found.code, done) == (3, ["retire w1"])
    assert found.err.splitlines()[-1] == (
        "w1 is retired, but its node could not be taken out of the cluster (no API server answers at "
        "https://m1:6443); later, run this again: machine retire w1"
    )


def test_pods_that_stay_keep_the_machine_from_being_retired(
    firstlight: Firstlight, options: tuple[str, ...], done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "leave_cluster", fails(PodsStay("w1: default/a still there after 300 s")))

    found = firstlight(*options, "machine", "retire", "w1", "--yes")

    assert (found.code, done) == (1, [])
    assert "still there after 300 s" in found.err


@pytest.mark.parametrize(
    ("differs", "expected"),
    [
        ({"claim": None, "arm": None}, ["retire w1"]),
        ({"claim": None}, ["leave w1 300", "retire w1"]),  # armed again: its old node may be there
        ({"state": "retired"}, ["leave w1 300", "retire w1"]),  # the second time, after the API was away
        ({"claim": {"node": "old-name"}}, ["leave old-name 300", "retire w1"]),
    ],
)
def test_whose_node_leaves(
    firstlight: Firstlight, configs: Path, done: list[str], differs: dict[str, Any], expected: list[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machines, "operator", lambda _call: Appliance(done, **differs))
        found = firstlight("--config", configs / "example.yaml", "machine", "retire", "w1", "--yes")

    assert (found.code, done) == (0, expected)


def test_a_certificate_that_has_ended_is_told_as_that(
    firstlight: Firstlight, options: tuple[str, ...], done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    over = "2020-01-02T03:04:05Z"
    monkeypatch.setattr(machines, "operator", lambda _call: Appliance(done, accessUntil=over))

    told = firstlight(*options, "machine", "retire", "w1", "--yes").err

    assert "its last certificate ended at 2020-01-02 03:04 UTC; the cluster lets it in no more" in told


def test_without_certificates_or_api_nothing_is_asked_for_long_and_the_reason_is_told(
    firstlight: Firstlight, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(machines, "operator", lambda _call: Appliance(done))

    found = firstlight(*options, "machine", "retire", "w1", "--yes")

    assert (found.code, done) == (3, ["retire w1"])
    assert "pki/admin.crt, its key or" in found.err


def test_in_a_lab_that_is_not_up_the_machine_is_retired_and_the_rest_left_for_later(
    firstlight: Firstlight, configs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(machines, "operator", lambda _call: Appliance(done))

    found = firstlight("--config", configs / "lab.yaml", "machine", "retire", "w1", "--yes")

    assert (found.code, done) == (3, ["retire w1"])
    assert "is not up; `up` or `lab up` starts it" in found.err


def test_in_a_lab_the_way_leads_through_its_door(
    configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bootstrap.config import load  # noqa: PLC0415  # only here

    asked: list[tuple[str, ...]] = []

    class FakeApi:
        def __init__(self, access: Any) -> None:
            asked.append(access.servers)

        def node(self, name: str) -> None:
            del name

        def close(self) -> None:
            asked.append(("closed",))

    monkeypatch.setattr(leaving, "Api", FakeApi)
    port_file(tmp_path).parent.mkdir()
    port_file(tmp_path).write_text("4711\n")
    how = Leave(seconds=0, tell=lambda _: None)

    assert leaving.leave_cluster(load([configs / "lab.yaml"]), tmp_path, "w1", how) is False
    assert asked == [("https://127.0.0.1:4711",), ("closed",)]
