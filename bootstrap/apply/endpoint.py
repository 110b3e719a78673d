"""`python -m bootstrap.apply.endpoint`: objects and a write through the API servers, for a question in JSON on stdin.

A process of its own, so that it can be run on the hosts' network when that is the lab's namespace.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bootstrap.errors import ApiDown, ApiError, ApiRefused
from bootstrap.kubernetes.api import NOT_FOUND, Access, Api

POLL_SECONDS = 0.5

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """Apply `objects`, then write and read `probe` through each of the servers; all within `seconds`."""

    access: Access
    objects: Sequence[Mapping[str, Any]]
    probe: str
    seconds: float

    def to_json(self) -> bytes:
        """Return the question as it goes to stdin: paths of keys, no keys."""
        names = ("authority", "certificate", "key")
        files = {name: str(getattr(self.access, name)) for name in names}
        rest = {"objects": list(self.objects), "probe": self.probe, "seconds": self.seconds}
        return json.dumps({"servers": self.access.servers, **files, **rest}).encode()


def argv() -> tuple[str, ...]:
    """Return the command that answers a `Question` on its stdin."""
    return (sys.executable, "-m", "bootstrap.apply.endpoint")


def main() -> None:
    """Answer one question in JSON: `{"answer": [changed objects]}` or `{"error": "..."}`."""
    asked = json.load(sys.stdin)
    try:
        answer: dict[str, object] = {"answer": _answer(asked, time.monotonic() + asked["seconds"])}
    except ApiError as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")


def _answer(asked: Mapping[str, Any], deadline: float) -> list[str]:
    files = [Path(asked[name]) for name in ("authority", "certificate", "key")]
    servers = tuple(asked["servers"])
    changed = _with(servers, files, lambda api: _insist(lambda: api.apply(asked["objects"]), deadline))
    for server in servers:
        _with((server,), files, lambda api: _insist(lambda: api.probe(asked["probe"]), deadline))
    return changed


def _with(servers: tuple[str, ...], files: Sequence[Path], act: Callable[[Api], T]) -> T:
    authority, certificate, key = files
    api = Api(Access(servers=servers, authority=authority, certificate=certificate, key=key))
    try:
        return act(api)
    finally:
        api.close()


def _insist(act: Callable[[], T], deadline: float) -> T:
    """Do `act` until it works: a fresh API server makes its first namespaces and roles while it answers already."""
    while True:
        try:
            return act()
        except ApiDown:
            if time.monotonic() > deadline:
                raise
        except ApiRefused as error:
            if error.status not in {NOT_FOUND, 403} or time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
