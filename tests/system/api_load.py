"""Writes and a watch through a node's way to the API, noted in one history, and what must be true of that history."""

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any

from tests.history import OK, Call, History, Seen, Violation
from tests.system.api_node import ANSWER_SECONDS, Node
from tests.system.spine import wait_for

CREATED, CONFLICT = 201, 409
WATCH_SECONDS = 180.0
WRITERS = 4
PAUSE_SECONDS = 0.1
SPACE = "load"
PATH = f"/api/v1/namespaces/{SPACE}/configmaps"
_NUMBERS = count(1)
BROKEN = (OSError, http.client.HTTPException)


@dataclass
class Load:
    """Clients that write objects one after the other, each with a name and a value that never come again."""

    node: Node
    history: History
    over: threading.Event = field(default_factory=threading.Event)
    last: str = field(default_factory=lambda: f"last{next(_NUMBERS)}")
    """The object that is written when the writers have ended: who has seen it has seen all."""

    def write(self, who: str) -> None:
        number = 0
        while not self.over.is_set():
            number += 1
            name, value = f"{who}-{number}", f"{who} {number} {time.monotonic_ns()}"
            with self.history.call(who, "write", name=name, value=value) as noted:
                status = self._posted(_object(name, value))
                if status is not None:
                    noted.answered(OK if status == CREATED else status)
            self.over.wait(PAUSE_SECONDS)

    def _posted(self, body: dict[str, Any]) -> int | None:
        """Return the status with which an object was answered; None without an answer."""
        try:
            return self.node.ask("POST", PATH, body)[0]
        except BROKEN:
            return None

    def end(self) -> None:
        """Write the last object, however often it takes."""
        body = _object(self.last, "")
        wait_for(
            lambda: self._posted(body) in (CREATED, CONFLICT),
            "the last object is written",
            timeout=ANSWER_SECONDS,
        )


@dataclass
class Watch:
    """A watch as kubelet's: one long request, begun again where it broke off, with a list when that is too old.

    It ends when it has seen the object called `last`.
    """

    node: Node
    history: History
    last: str
    version: str = ""
    over: bool = False

    def begin(self) -> None:
        """List what is there: from now on nothing is missed."""
        listed = json.loads(self.node.ask("GET", PATH)[1])
        for item in listed["items"]:
            self._saw(item["metadata"]["name"])
        self.version = listed["metadata"]["resourceVersion"]

    def follow(self) -> None:
        while not self.over:
            try:
                if not self.version:
                    self.begin()
                self._follow()
            except (*BROKEN, ValueError, LookupError) as error:
                self.history.saw("watch broke", {"error": repr(error)})
            time.sleep(PAUSE_SECONDS)

    def _follow(self) -> None:
        door = self.node.connection()
        try:
            door.request("GET", f"{PATH}?watch=1&allowWatchBookmarks=true&resourceVersion={self.version}")
            for line in door.getresponse():
                self._note(json.loads(line))
                if self.over:
                    return
        finally:
            door.close()
        raise ConnectionError("the stream ended")

    def _note(self, event: Mapping[str, Any]) -> None:
        metadata = event["object"]["metadata"]
        if event["type"] not in ("ADDED", "BOOKMARK"):
            self.version = ""
            raise ConnectionError(f"the stream says {event}")
        self.version = metadata["resourceVersion"]
        self._saw(metadata.get("name", ""))

    def _saw(self, name: str) -> None:
        self.history.saw("watched", {"name": name})
        self.over = self.over or name == self.last


@contextmanager
def load(node: Node, history: History) -> Iterator[Load]:
    """Have the writers and the watch at work; they have ended when it is over."""
    made = Load(node, history)
    writers = [f"writer{next(_NUMBERS)}" for _ in range(WRITERS)]
    history.saw("load", {"writers": writers})
    threads = [threading.Thread(target=made.write, args=(who,)) for who in writers]
    watching = Watch(node, history, made.last)
    watching.begin()
    watch = threading.Thread(target=watching.follow, daemon=True)
    for thread in (watch, *threads):
        thread.start()
    try:
        yield made
    finally:
        made.over.set()
        for thread in threads:
            thread.join()
        made.end()
        watch.join(WATCH_SECONDS)
    assert not watch.is_alive(), "the watch did not see the last object"


def _object(name: str, value: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}}


def kept(answer: bytes) -> dict[str, str]:
    """Return the values of a list of the objects, by name."""
    items = json.loads(answer)["items"]
    return {item["metadata"]["name"]: item["data"].get("value", "") for item in items}


def acknowledged(history: History) -> list[Call]:
    return [call for call in history.calls if call.what == "write" and call.is_done]


def lost(history: History) -> list[Violation]:
    """Every acknowledged write is in each read of everything that began after it, with its value."""
    return [
        Violation("lost write", f"{call.arguments['name']} through {read.value['server']}", (call,))
        for read in history.seen
        if read.what == "read back"
        for call in acknowledged(history)
        if (call.ended or 0.0) < read.value["began"]
        and read.value["kept"].get(call.arguments["name"]) != call.arguments["value"]
    ]


def unwatched(history: History) -> list[Violation]:
    """Every acknowledged write came over the watch too."""
    seen = {value["name"] for value in history.values("watched")}
    missing = [call for call in acknowledged(history) if call.arguments["name"] not in seen]
    return [Violation("never watched", call.arguments["name"], (call,)) for call in missing]


def silences(history: History) -> list[tuple[float, Seen, str]]:
    """Return for each fault and each writer how long it had no write acknowledged, in seconds, the longest first.

    The time that counts begins with the fault and ends when the load goes on undisturbed ("calm").
    """
    found, writers, answers = [], [], _answers(history)
    marks = [seen for seen in history.seen if seen.what in ("load", "fault", "calm")]
    for mark, following in pairwise(marks):
        if mark.what == "load":
            writers = mark.value["writers"]
        if mark.what == "fault":
            for who in writers:
                times = [end for end in answers.get(who, []) if mark.at < end < following.at]
                found.append((_longest([mark.at, *times, following.at]), mark, who))
    return sorted(found, key=lambda one: one[0], reverse=True)


def _longest(times: list[float]) -> float:
    return max(after - before for before, after in pairwise(times))


def _answers(history: History) -> dict[str, list[float]]:
    """Return when each writer's writes were acknowledged, in order."""
    found: dict[str, list[float]] = {}
    for call in acknowledged(history):
        found.setdefault(call.who, []).append(call.ended or 0.0)
    return {who: sorted(ends) for who, ends in found.items()}
