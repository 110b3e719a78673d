"""One recorded history of a run; tests/history_rules.py and history_order.py look for what must never be in it.

Clients note each request when they send it and its answer when it comes; an observer notes what the server
shows of its events and machines. A history is plain data: written as JSON lines, read back, looked at by hand.

What calls are called (`what`) and what their answers (`body`) hold, as far as the checkers look:

- `lease` (mac): {"address"}; `arm` (mac), by the operator: {"arm"}; `boot` (mac), that is /ipxe: {"decision", "arm"}
- `begin` (mac, arm, nonce): {"attempt", "config": {"sha256"}, "image": {"sha256"}}
- `config` and `image` (mac, arm), the documents granted: {"sha256"} of the bytes that came
- `report` (mac, arm, kind, perhaps the `text` that its event must hold): {"seq"}
- `read` (mac): {"state", "attempts", "arm"}

What is noted of claims stands in tests/history_claims.py.

A call without an answer has status None, and may have been done or not.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

OK = 200


@dataclass(kw_only=True)
class Call:
    """One request: sent at `began`, answered at `ended` (None: never) with `status` and `body`."""

    who: str
    what: str
    arguments: dict[str, Any]
    began: float
    ended: float | None = None
    status: int | None = None
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def mac(self) -> str:
        """Return the machine that it is about."""
        return str(self.arguments.get("mac", ""))

    @property
    def is_done(self) -> bool:
        """Return whether the server said that it did what was asked."""
        return self.status == OK


@dataclass(kw_only=True)
class Seen:
    """Something that the server showed: `what` is "event", "machine", or "final" (the whole at the end)."""

    what: str
    at: float
    value: dict[str, Any]


@dataclass(frozen=True)
class Violation:
    """Something that must never happen, and the lines of the history that show it."""

    rule: str
    text: str
    lines: tuple[object, ...] = ()

    def __str__(self) -> str:
        """Return it for a failed assertion."""
        return "\n    ".join((f"{self.rule}: {self.text}", *map(str, self.lines[:8])))


class History:
    """Calls and observations of many threads, in the order in which they were noted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.calls: list[Call] = []
        self.seen: list[Seen] = []

    @contextmanager
    def call(self, who: str, what: str, **arguments: Any) -> Iterator["Open"]:
        """Note a request now; tell its answer to the yielded object. Without one it stays unanswered."""
        noted = Call(who=who, what=what, arguments=arguments, began=self._clock())
        with self._lock:
            self.calls.append(noted)
        yield Open(noted, self._clock)

    def saw(self, what: str, value: Mapping[str, Any]) -> None:
        """Note what the server shows."""
        with self._lock:
            self.seen.append(Seen(what=what, at=self._clock(), value=dict(value)))

    def ends_with(self, events: Iterable[Mapping[str, Any]], machines: Iterable[Mapping[str, Any]]) -> None:
        """Note the whole event log and all machines, after everything is over."""
        self.saw("final", {"events": list(events), "machines": list(machines)})

    def values(self, what: str) -> list[dict[str, Any]]:
        """Return what was seen of one kind, in order."""
        return [seen.value for seen in self.seen if seen.what == what]

    @property
    def final(self) -> dict[str, Any]:
        """Return the last `ends_with`.

        Raises:
            ValueError: there is none.
        """
        found = self.values("final")
        if not found:
            raise ValueError("the history has no end: ends_with was not called")
        return found[-1]

    def write(self, path: Path) -> None:
        """Write it as JSON lines."""
        with self._lock, path.open("w") as file:
            for kind, lines in (("call", self.calls), ("seen", self.seen)):
                for line in lines:
                    file.write(json.dumps({"line": kind, **asdict(line)}) + "\n")

    @classmethod
    def read(cls, path: Path) -> "History":
        """Return what `write` wrote."""
        made = cls()
        for text in path.read_text().splitlines():
            fields = json.loads(text)
            if fields.pop("line") == "call":
                made.calls.append(Call(**fields))
            else:
                made.seen.append(Seen(**fields))
        return made


class Open:
    """A request whose answer may still come."""

    def __init__(self, call: Call, clock: Callable[[], float]) -> None:
        self._call = call
        self._clock = clock

    def answered(self, status: int, body: Mapping[str, Any] | None = None) -> None:
        """Note the answer."""
        self._call.body = dict(body or {})
        self._call.status = status
        self._call.ended = self._clock()
