"""T-01: nothing secret of a work folder ever leaves, whatever route is asked how, in whatever state a machine is."""

import base64
import itertools
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bootstrap.keys import ensure_keys
from bootstrap.records.ledger import Change
from bootstrap.records.model import Claim
from bootstrap.states import State
from tests.tier import Promise, rounds
from tests.unit.web.fakes import W1, W2, W3
from tests.unit.web.joining import JoiningRack, csr
from web.credentials import Credentials

LISTENERS = ("public", "machine")
METHODS = ("POST", "GET", "PUT", "OPTIONS", "HEAD", "PATCH", "DELETE", "TRACE")[: rounds(3, 8)]
NAMES = (W1, "../pki/ca.key", "w1", W2, W3, W1.replace(":", "-"), "w2")[: rounds(2, 7)]
FEWEST = rounds(3500, 30_000)
MARKER = "canary5f1d3b7a9c0e4d2f8b6a1c3e5d7f9b0a"


class Work:
    """A work folder full of secrets, and what each looks like wherever it might turn up."""

    def __init__(self, rack: JoiningRack, folder: Path) -> None:
        ensure_keys(rack.cluster, folder, datetime.now(UTC))
        for name in ("bmc.pw", "run/secret", "state/secret"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(MARKER)
        self.marks = {MARKER.encode(), *self._keys(folder)}

    @staticmethod
    def _keys(folder: Path) -> Iterator[bytes]:
        for file in folder.rglob("*.key"):
            text = file.read_bytes()
            body = b"".join(text.splitlines()[1:-1])
            # The middle of a key: its head is the same for all of a kind.
            yield body[60:110]
            yield base64.b64decode(body)[40:68]
            yield base64.b64decode(body)[40:68].hex().encode()

    def found_in(self, content: bytes) -> list[bytes]:
        return [mark for mark in self.marks if mark in content]


@pytest.fixture
def rack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JoiningRack:
    monkeypatch.chdir(tmp_path)
    return JoiningRack()


def test_the_harness_finds_what_it_looks_for(rack: JoiningRack, tmp_path: Path) -> None:
    work = Work(rack, tmp_path)

    for file in tmp_path.rglob("*.key"):
        assert work.found_in(b"HTTP/1.1 200 OK\r\n\r\n" + file.read_bytes().replace(b"\n", b"")), file
    assert work.found_in(MARKER.encode())
    assert len(work.marks) > 40


def put(rack: JoiningRack, state: State, *, has_claim: bool) -> None:
    """Bring a machine into a state, by hand."""

    def decide(record: Any, now: datetime) -> Change:
        key = "a" * 64
        claim = Claim(node="w1", key=key, bound_at=now) if has_claim else None
        return Change(record=record.but(state=state, claim=claim, arm=rack.site.new_id()))

    rack.site.ledger.change(W1, decide)


def bodies(rack: JoiningRack) -> list[Any]:
    arm = rack.record().arm
    full = {"mac": W1, "arm": arm, "csr": csr(), "kind": "booted", "revision": "a" * 64}
    return [None, {}, {"mac": W1}, full, {**full, "kind": "failed"}, {**full, "csr": csr(number=1)}, [full]]


def test_every_route_by_every_method_in_every_state_gives_nothing_away(
    rack: JoiningRack, tmp_path: Path, promise: Promise
) -> None:
    work = Work(rack, tmp_path)
    assert Credentials()(rack.cluster) is not None  # its own identities can be used, and are among the marks
    rules = sorted({rule.rule for rule in rack.app.url_map.iter_rules()})
    count = 0
    for state, has_claim in itertools.product(State, (True, False)[: rounds(1, 2)]):
        put(rack, state, has_claim=has_claim)
        for listener, rule, method in itertools.product(LISTENERS, rules, METHODS):
            rack.clock.forward(10)
            for path, body in paths_and_bodies(rack, rule, method):
                answer = rack.ask(listener, method, path, **({} if body is None else {"json": body}))
                sent = str(answer.headers).encode() + answer.data
                assert not work.found_in(sent), (state, listener, method, path)
                assert b"PRIVATE KEY" not in sent
                count += 1
    assert count > FEWEST
    promise(
        promise="T-01 canaries, web",
        asked="every route x method x state by an unauthenticated client: 0 secrets in what it receives",
        done=f"{count} requests, {len(rules)} routes, {len(State)} states, {len(work.marks)} marks",
        found="0 hits",
    )


def paths_and_bodies(rack: JoiningRack, rule: str, method: str) -> Iterator[tuple[str, Any]]:
    arm = rack.record().arm
    names = NAMES if "<" in rule else ("",)
    for name in names:
        path = re.sub(r"<[^>]*>", name, rule)
        yield path, None
        yield f"{path}?mac={W1}&arm={arm}", None
    if method in ("POST", "PUT"):
        for body in bodies(rack)[1:]:
            yield re.sub(r"<[^>]*>", "w1", rule), body
