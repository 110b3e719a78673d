"""What is asked of the API servers for hosts that are nodes: that they are there, and that they leave."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bootstrap.apply.endpoint import Question, _await_nodes
from bootstrap.errors import ApiDown, ApiRefused
from bootstrap.kubernetes.access import Access
from tests.unit.web.joining import view

DOWN = ApiDown("no API server answers")
LATE, SICK = view("m1", is_ready=False, message="no network yet"), view("m2", is_ready=False)


@dataclass
class Fake:
    """Answers with each of `rounds`, the last one for ever."""

    rounds: list[Any]
    asked: int = 0
    slept: list[float] = field(default_factory=list)

    def nodes(self) -> Any:
        found = self.rounds[min(self.asked, len(self.rounds) - 1)]
        self.asked += 1
        if isinstance(found, ApiDown):
            raise found
        return found


def awaited(
    rounds: Iterable[Any],
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_ready: bool = True,
    names: tuple[str, ...] = ("m1",),
) -> int:
    """Wait for m1 through `rounds`; a look takes ten seconds of thirty. Return how often was looked."""
    api: Any = Fake(list(rounds))
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("time.monotonic", lambda: api.asked * 10.0)
    _await_nodes(api, names, 30.0, is_ready=is_ready)
    return int(api.asked)


def test_a_node_is_waited_for_until_it_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    assert awaited([DOWN, [], [LATE], [view("m1")]], monkeypatch) == 4
    assert awaited([[SICK], [LATE]], monkeypatch, is_ready=False) == 2
    assert awaited([DOWN], monkeypatch, names=()) == 0, "nobody is asked where no host is a node"


@pytest.mark.parametrize(
    ("rounds", "words"),
    [
        ([[LATE]], "node m1 is not Ready: no network yet"),
        ([[SICK]], "node m1 is not Ready: its kubelet has not registered"),
        ([DOWN], "node m1 is not Ready: its kubelet has not registered"),
    ],
)
def test_one_that_does_not_come_is_named_with_what_the_cluster_says(
    rounds: list[Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ApiRefused, match=words):
        awaited(rounds, monkeypatch)


def test_a_question_says_who_is_waited_for_and_who_leaves() -> None:
    access = Access(servers=("https://m1",), authority=Path("a"), certificate=Path("c"), key=Path("k"))
    asked = json.loads(Question(access, (), "", 5.0, nodes=("m1",), awaits_ready=False).to_json())

    assert (asked["nodes"], asked["awaitsReady"], asked["leaving"]) == (["m1"], False, "")
    assert json.loads(Question(access, (), "", 5.0, leaving="m1").to_json())["leaving"] == "m1"
