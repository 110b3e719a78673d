"""Who watches a rack of simulated machines: an observer of the appliance, and the verdict over the whole history."""

import http.client
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import pytest

from tests.history import History
from tests.history_order import check
from tests.history_rules import Checker
from tests.system.fleet import json_of
from tests.system.fleet_site import Answer, Site, wait_for

BACK_SECONDS = 90.0
# A connection that its killed server resets between connect and handshake: Python's ssl raises, and forgets to close.
FORGOTTEN_SOCKETS = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")


class Asked(Protocol):
    """Who can be asked as the operator asks."""

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Return the answer; raises OSError or HTTPException."""


class Observer:
    """Follows the appliance's events and machines, as an operator's screen does."""

    def __init__(self, site: Asked, history: History) -> None:
        self._site = site
        self._history = history
        self._last = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        rounds = 0
        while not self._is_over.wait(0.5):
            try:
                self.look(machines=rounds % 6 == 0)
            except (OSError, http.client.HTTPException, KeyError, ValueError):
                continue
            rounds += 1

    def look(self, *, machines: bool) -> None:
        """Note what is new; raises KeyError when the appliance is in trouble."""
        for event in self._events(self._last):
            self._last = event["seq"]
            self._history.saw("event", event)
        if machines:
            for machine in self._machines():
                self._history.saw("machine", machine)

    def end(self) -> None:
        """Note everything, when nothing happens any more."""
        self.look(machines=True)
        log: list[dict[str, Any]] = []
        while newer := self._events(log[-1]["seq"] if log else 0):
            log += newer
        self._history.ends_with(log, self._machines())

    def _events(self, after: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json_of(self._site.ask("GET", f"/v1/events?after={after}"))["events"]
        return found

    def _machines(self) -> list[dict[str, Any]]:
        names = ("mac", "name", "state", "attempts", "arm")
        machines = json_of(self._site.ask("GET", "/v1/machines"))["machines"]
        return [
            {name: machine[name] for name in names} | {"claim": _claim(machine["claim"])}
            for machine in machines
        ]


def _claim(shown: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what checkers look at of a machine's claim."""
    return shown and {name: shown[name] for name in ("node", "key")}


@dataclass(frozen=True)
class Rig:
    """The appliance that is up, and the history of everything."""

    site: Site
    history: History
    observer: Observer

    def verdict(self, *more: Checker) -> None:
        """Look at the whole history with all checkers and `more`, now that nothing happens any more."""
        wait_for(self.site.is_ready, BACK_SECONDS, lambda: self.site.log[-4000:])
        self.observer.end()
        found = [*check(self.history), *(bad for checker in more for bad in checker(self.history))]
        assert not found, story(self.history, found)

    def acknowledged(self) -> int:
        return sum(bool(call.is_done and call.body.get("seq")) for call in self.history.calls)


def victim(rig: Rig, role: str) -> int:
    """Return the process that plays `role`, once there is one."""
    found: list[int] = []

    def is_there() -> bool:
        pid = rig.site.pid_of(role)
        found.extend([pid] if pid is not None else [])
        return bool(found)

    wait_for(is_there, BACK_SECONDS, lambda: f"{role} did not come back: {rig.site.log[-4000:]}")
    return found[0]


def shuffled(all_roles: Sequence[str], random_: random.Random, count: int) -> list[str]:
    """Return `count` roles in random order, each as often as the others."""
    roles = [all_roles[number % len(all_roles)] for number in range(count)]
    random_.shuffle(roles)
    return roles


def story(history: History, violations: Sequence[object]) -> str:
    """Return the first violations, for a failed assertion."""
    shown = "\n".join(map(str, violations[:10]))
    return f"{len(violations)} violations in {len(history.calls)} calls:\n{shown}"
