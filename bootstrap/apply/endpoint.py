"""`python -m bootstrap.apply.endpoint`: objects and a write through the API servers, for a question in JSON on stdin.

A process of its own, so that it can be run on the hosts' network when that is the lab's namespace.
In a new cluster administrators have no power yet: their binding is then made with a certificate for that alone.
"""

import json
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from bootstrap.errors import ApiDown, ApiRefused, FirstlightError
from bootstrap.kubernetes.access import Access
from bootstrap.kubernetes.api import CONFLICT, Api
from bootstrap.kubernetes.connection import NOT_FOUND
from bootstrap.kubernetes.leaving import Leave, leave
from bootstrap.kubernetes.marks import Marks, mark
from bootstrap.memory import in_memory
from certs.secret import Secret

POLL_SECONDS = 0.5
FORBIDDEN = 403

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """Apply `objects` and `marks`, then write and read `probe` through each of the servers; all within `seconds`.

    `marks` are labels and taints by node; nodes that are not there yet bring them when they register. `nodes` must be
    there before, and Ready if one `awaits_ready`. With `leaving`, that node is taken out of the cluster instead of all.
    `binder`, a certificate and its key in PEM, takes the place of the identity of `access` for the objects.
    """

    access: Access
    objects: Sequence[Mapping[str, Any]]
    probe: str
    seconds: float
    marks: Mapping[str, Marks] = field(default_factory=dict)
    binder: tuple[bytes, Secret] | None = None
    nodes: tuple[str, ...] = ()
    awaits_ready: bool = True
    leaving: str = ""

    def to_json(self) -> bytes:
        """Return the question as it goes to stdin, and never to a file: the binder's key is in it."""
        names = ("authority", "certificate", "key")
        files = {name: str(getattr(self.access, name)) for name in names}
        rest = {"objects": list(self.objects), "probe": self.probe, "seconds": self.seconds}
        binder = [self.binder[0].decode(), self.binder[1].reveal().decode()] if self.binder else None
        marks = {name: one.to_data() for name, one in self.marks.items()}
        more: dict[str, object] = {"marks": marks, "binder": binder, "leaving": self.leaving}
        more |= {"nodes": self.nodes, "awaitsReady": self.awaits_ready}
        return json.dumps({"servers": self.access.servers, **files, **rest, **more}).encode()


def argv() -> tuple[str, ...]:
    """Return the command that answers a `Question` on its stdin."""
    return (sys.executable, "-m", "bootstrap.apply.endpoint")


def main() -> None:
    """Answer one question in JSON: `{"answer": [changed objects]}`, or `{"error": "...", "status": 403}`."""
    asked = json.load(sys.stdin)
    try:
        answer: dict[str, object] = {"answer": _answer(asked, time.monotonic() + asked["seconds"])}
    except FirstlightError as error:
        answer = {"error": str(error), "status": getattr(error, "status", 0)}
    sys.stdout.write(json.dumps(answer) + "\n")


def _answer(asked: Mapping[str, Any], deadline: float) -> list[str]:
    servers = tuple(asked["servers"])
    authority, certificate, key = (Path(asked[name]) for name in ("authority", "certificate", "key"))
    admin = Access(servers=servers, authority=authority, certificate=certificate, key=key)
    if asked["leaving"]:
        _with(admin, lambda api: _leave(api, asked["leaving"], asked["seconds"]))
        return []
    with ExitStack() as stack:
        who = _binder(admin, asked["binder"], stack) if asked["binder"] else admin
        # Refused (403) is final where administrators are asked: the answer is to ask again with a binder.
        changed = _with(who, lambda api: _insist(lambda: api.apply(asked["objects"]), deadline, {NOT_FOUND}))
    _with(admin, lambda api: _await_nodes(api, asked["nodes"], deadline, is_ready=asked["awaitsReady"]))
    marks = {name: Marks(**one) for name, one in asked["marks"].items()}
    changed += _with(
        admin, lambda api: _insist(lambda: mark(api, marks), deadline, {NOT_FOUND, CONFLICT, FORBIDDEN})
    )
    for server in servers:
        one = replace(admin, servers=(server,))
        _with(one, lambda api: _insist(lambda: api.probe(asked["probe"]), deadline, {NOT_FOUND, FORBIDDEN}))
    return changed


def _leave(api: Api, name: str, seconds: float) -> None:
    advice = "look at their disruption budgets, or write node: true again"
    leave(api, name, Leave(seconds=seconds, tell=lambda _: None, advice=advice))


def _await_nodes(api: Api, names: Collection[str], deadline: float, *, is_ready: bool) -> None:
    """Wait until the nodes are there; raises ApiRefused that says what the cluster knows of one that is not."""
    while True:
        try:
            seen = {node.name: node for node in api.nodes()} if names else {}
        except ApiDown:
            seen = {}
        late = [name for name in names if name not in seen or (is_ready and not seen[name].is_ready)]
        if not late:
            return
        if time.monotonic() > deadline:
            said = seen[late[0]].message if late[0] in seen else "its kubelet has not registered"
            raise ApiRefused(f"node {late[0]} is not Ready: {said}")
        time.sleep(POLL_SECONDS)


def _binder(admin: Access, pem: Sequence[str], stack: ExitStack) -> Access:
    certificate, key = (Path(stack.enter_context(in_memory(text.encode()))) for text in pem)
    return replace(admin, certificate=certificate, key=key)


def _with(access: Access, act: Callable[[Api], T]) -> T:
    api = Api(access)
    try:
        return act(api)
    finally:
        api.close()


def _insist(act: Callable[[], T], deadline: float, passing: Collection[int]) -> T:
    """Do `act` until it works: a fresh API server answers before its first namespaces and roles are there.

    `passing` are the refusals that end by themselves then.
    """
    while True:
        try:
            return act()
        except ApiDown:
            if time.monotonic() > deadline:
                raise
        except ApiRefused as error:
            if error.status not in passing or time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
