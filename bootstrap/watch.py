"""Waits for the machines of a running appliance and tells what they do meanwhile."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from bootstrap.errors import ServeError
from bootstrap.operator import Operator
from bootstrap.progress import Reporter
from bootstrap.status import is_broken, is_done, message

POLL_SECONDS = 1.0
PATIENCE_SECONDS = 30.0  # serve restarts a part of the appliance that died; only then is it gone for good


def machines_until_settled(
    operator: Operator,
    names: Collection[str],
    reporter: Reporter,
    *,
    fresh: Mapping[str, datetime],
    timeout_seconds: float,
) -> list[dict[str, Any]]:
    """Return the machines once each of `names` runs from its disk or waits for a person, or when time is over.

    A machine of `fresh` must have come up from its disk after that time.
    """
    told = Tales(reporter)
    machines: list[dict[str, Any]] = []
    for machines in polls(operator, timeout_seconds):
        told.tell(machines)
        if is_settled(machines, names, fresh):
            break
    return machines


def polls(operator: Operator, timeout_seconds: float) -> Iterator[list[dict[str, Any]]]:
    """Yield the machines every second until the time is over.

    Raises:
        ServeError: the appliance has not answered well for PATIENCE_SECONDS; NotRunning: not at all.
    """
    deadline = time.monotonic() + timeout_seconds
    last_answer = time.monotonic()
    while time.monotonic() < deadline:
        try:
            machines = operator.machines()
        except ServeError:
            if time.monotonic() - last_answer > PATIENCE_SECONDS:
                raise
        else:
            last_answer = time.monotonic()
            yield machines
        time.sleep(POLL_SECONDS)


def is_settled(
    machines: Sequence[Mapping[str, Any]], names: Collection[str], fresh: Mapping[str, datetime]
) -> bool:
    """Return whether every machine of `names` is done or broken."""
    settled = (
        machine["name"]
        for machine in machines
        if is_done(machine, fresh.get(machine["name"])) or is_broken(machine)
    )
    return set(names) <= set(settled)


class Tales:
    """Says a line when a machine's state or stage changes, and at every quarter of a long stage."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._told: dict[str, tuple[Any, ...]] = {}

    def tell(self, machines: Sequence[Mapping[str, Any]]) -> None:
        """Say what is new since the last time."""
        for machine in machines:
            quarter = int(machine.get("percent") or 0) // 25
            mark = (machine["state"], machine.get("stage"), quarter, is_done(machine))
            if self._told.get(machine["name"]) != mark:
                self._told[machine["name"]] = mark
                self._reporter.say(f"{machine['name']}: {machine['state']}  {message(machine)}".rstrip())
