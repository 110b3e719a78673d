"""Is there one order of operations that explains all answers? Wing and Gong's search, per machine.

The model is written from docs/http.md, not from the code: a register with the machine's state, its arm, its write
passes, the nonce of the last one, and the key that is its node's. An operation may take effect at any moment between
its request and its answer; one without an answer (or with 5xx: the proxy cannot know) at any moment after its request,
or never.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from tests.history import OK, Call, History, Violation
from tests.history_rules import CHECKERS, ENDING

MOST_PASSES = 3
MOST_STEPS = 2_000_000
ON_DISK = frozenset({"installed", "joined", "ready", "gpu-ready"})
OPEN = frozenset({"armed", "installing"})
UNTOUCHED = frozenset({408, 429})
"""Refused before anything was decided: the request was cut off, or came too often."""
REFUSED = 409
LATER = 202
UNKNOWN_ARM = "?"
"""The arm that an unanswered order of the operator made: the first use tells its name."""


@dataclass(frozen=True)
class Register:
    """What the model knows of one machine."""

    state: str = "accepted"
    arm: str | None = None
    attempts: int = 0
    nonce: str | None = None
    key: str | None = None


Answer = tuple[int, dict[str, Any]]
Step = Callable[[Register, Call], tuple[Register, Answer]]


def _arm(register: Register, call: Call) -> tuple[Register, Answer]:
    del register
    arm = call.body.get("arm", UNKNOWN_ARM) if call.is_done else UNKNOWN_ARM
    return Register(state="armed", arm=arm), (OK, {})


def _begin(register: Register, call: Call) -> tuple[Register, Answer]:
    if register.state not in OPEN:
        return register, (REFUSED, {})
    if call.arguments["nonce"] == register.nonce:
        return register, (OK, {"attempt": register.attempts})
    if register.attempts >= MOST_PASSES:
        return replace(register, state="failed"), (REFUSED, {})
    further = replace(
        register, state="installing", attempts=register.attempts + 1, nonce=call.arguments["nonce"]
    )
    return further, (OK, {"attempt": further.attempts})


def _report(register: Register, call: Call) -> tuple[Register, Answer]:
    kind, state = call.arguments["kind"], register.state
    if kind == "progress" and state != "installing":
        return register, (REFUSED, {})
    after = state
    match kind:
        case "complete" | "already-installed" | "booted" if state in OPEN or state == "failed":
            after = "installed"
        case "complete" | "already-installed" | "synced" if state not in ON_DISK:
            return register, (REFUSED, {})
        case "failed" if state in OPEN:
            after = "failed"
        case "attempt-failed" if state == "installing" and register.attempts >= MOST_PASSES:
            after = "failed"
    return replace(register, state=after), (OK, {})


def _bind(register: Register, call: Call) -> tuple[Register, Answer]:
    """Bind the key of a claim, which is its first half; the second is that the machine is joined."""
    key = call.arguments["key"]
    if register.state in OPEN:
        return register, (LATER, {})
    if register.state not in ON_DISK:
        return register, (REFUSED, {})
    if register.key not in (None, key):
        return replace(register, state="quarantined"), (REFUSED, {})
    return replace(register, key=key), (LATER, {})


def _claim(register: Register, call: Call) -> tuple[Register, Answer]:
    bound, answer = _bind(register, call)
    if call.status == LATER or bound.key != call.arguments["key"] or bound.state not in ON_DISK:
        return bound, answer
    return replace(bound, state="joined" if bound.state == "installed" else bound.state), (OK, {})


def _config(register: Register, call: Call) -> tuple[Register, Answer]:
    del call
    return register, (OK if register.state == "installing" else REFUSED, {})


def _boot(register: Register, call: Call) -> tuple[Register, Answer]:
    del call
    if register.state in OPEN:
        return register, (OK, {"decision": "install", "arm": register.arm})
    return register, (OK, {"decision": "local" if register.state in ON_DISK else "wait"})


def _read(register: Register, call: Call) -> tuple[Register, Answer]:
    del call
    return register, (OK, {"state": register.state, "attempts": register.attempts, "arm": register.arm})


STEPS: dict[str, Step] = {
    "arm": _arm,
    "begin": _begin,
    "report": _report,
    "bind": _bind,
    "claim": _claim,
    "config": _config,
    "boot": _boot,
    "read": _read,
}
NEEDS_ARM = ("begin", "report", "bind", "claim", "config")


def step(register: Register, call: Call) -> tuple[Register, Answer]:
    """Return the register after `call`, and the answer that it gets."""
    if call.what in NEEDS_ARM and register.arm != call.arguments["arm"]:
        if register.arm == UNKNOWN_ARM and call.status == OK:
            register = replace(register, arm=call.arguments["arm"])
        else:
            # A report of an installed system is always taken, and moves nothing if it is of an earlier arm.
            ignored = call.what == "report" and call.arguments["kind"] == "booted"
            return register, (OK if ignored else REFUSED, {})
    return STEPS[call.what](register, call)


def _fits(call: Call, answer: Answer) -> bool:
    status, body = answer
    unknown = {name for name, value in body.items() if value == UNKNOWN_ARM}
    return call.status == status and all(
        call.body.get(name) == value for name, value in body.items() if name not in unknown
    )


def is_unknown(call: Call) -> bool:
    """Return whether nobody can know if the call was done."""
    return call.status is None or call.status >= 500


def orders(history: History, start: Register | None = None) -> list[Violation]:
    """The answers about each machine have an order of operations that explains them all.

    Machines begin as accepted and not armed, or as `start`.
    """
    found = []
    for mac in sorted({call.mac for call in history.calls if call.what in STEPS}):
        mine = [call for call in history.calls if call.mac == mac and _counts(call)]
        calls = [*mine, *_halves(mine)]
        stuck = _Search(calls).explain(start or _first(history, mac))
        if stuck is not None:
            found.append(Violation("no order explains the answers", f"{mac}: {stuck.best}", stuck.lines))
    return found


def _halves(calls: list[Call]) -> Iterator[Call]:
    """Yield the bindings that claims may have made which were refused later, or of which nobody heard again."""
    for call in calls:
        if call.what == "claim" and (is_unknown(call) or call.status == REFUSED):
            yield Call(who=call.who, what="bind", arguments=call.arguments, began=call.began)


def _first(history: History, mac: str) -> Register:
    """Return the machine as it was first seen before any call about it; accepted if it was not."""
    began = min((call.began for call in history.calls if call.mac == mac), default=0.0)
    for seen in history.seen:
        if seen.what == "machine" and seen.value["mac"] == mac and seen.at <= began:
            return Register(seen.value["state"], seen.value["arm"], seen.value["attempts"])
    return Register()


def _counts(call: Call) -> bool:
    """Return whether a call can say anything about the order: not if it left no trace and has no answer."""
    if call.what not in STEPS or call.status in UNTOUCHED:
        return False
    if not is_unknown(call):
        return call.status in (OK, REFUSED) or (call.what, call.status) == ("claim", LATER)
    return call.what in ("arm", "begin", "claim") or call.arguments.get("kind") in {*ENDING, "attempt-failed"}


@dataclass(frozen=True)
class Stuck:
    """How far the longest explanation came, and the calls of which none could be next."""

    best: str
    lines: tuple[Call, ...]


class _Search:
    """Depth first over (calls done, register), each looked at once."""

    def __init__(self, calls: list[Call]) -> None:
        self._calls = sorted(calls, key=lambda call: call.began)
        self._known = sum(1 << at for at, call in enumerate(self._calls) if not is_unknown(call))
        self._seen: set[tuple[int, Register]] = set()

    def explain(self, start: Register) -> Stuck | None:
        """Return None if there is an order."""
        stack, best, steps = [(0, start)], (-1, 0, start), 0
        while stack:
            done, register = stack.pop()
            if done & self._known == self._known:
                return None
            best = max(best, ((done & self._known).bit_count(), done, register), key=lambda one: one[0])
            steps += 1
            if steps > MOST_STEPS:
                raise RuntimeError(f"no verdict after {steps} steps over {len(self._calls)} calls")
            for found in self._next(done, register):
                if found not in self._seen:
                    self._seen.add(found)
                    stack.append(found)
        _, done, register = best
        waiting = tuple(self._calls[at] for at in self._minimal(done) if not is_unknown(self._calls[at]))
        return Stuck(f"{best[0]} of {self._known.bit_count()} answers, then {register}", waiting)

    def _next(self, done: int, register: Register) -> Iterator[tuple[int, Register]]:
        tried: set[tuple[object, ...]] = set()
        for at in self._minimal(done):
            call = self._calls[at]
            after, answer = step(register, call)
            if not is_unknown(call):
                if _fits(call, answer):
                    yield done | 1 << at, after
                continue
            # Of calls that nobody heard of again, equal ones are one, and those that change nothing are none.
            same = (call.what, *sorted(call.arguments.items()))
            if after != register and same not in tried:
                tried.add(same)
                yield done | 1 << at, after

    def _minimal(self, done: int) -> list[int]:
        """Return the calls that may be next: begun before every answer of those that are not done."""
        open_ = [at for at in range(len(self._calls)) if not done >> at & 1]
        ends = (self._calls[at].ended for at in open_ if not is_unknown(self._calls[at]))
        first = min((end for end in ends if end is not None), default=float("inf"))
        return [at for at in open_ if self._calls[at].began <= first]


def check(history: History) -> list[Violation]:
    """Return everything that is wrong with a history: all checkers of tests/history_rules.py, and the orders."""
    return [*(bad for checker in CHECKERS for bad in checker(history)), *orders(history)]
