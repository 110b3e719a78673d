"""The rules that every history keeps: pure checkers that return what breaks them, with the lines concerned.

The order of the calls of one machine is looked at in tests/history_order.py, whose `check` runs all.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from bootstrap.records.ledger import KEPT_EVENTS
from bootstrap.records.model import MOST_ATTEMPTS
from bootstrap.states import ON_DISK, RULES, State
from tests.history import Call, History, Violation

ENDING = frozenset({"complete", "already-installed", "booted", "failed"})
"""Reports that end an arm: one that comes again is answered with the number of the event that did it."""

ALWAYS = {
    "accepted": State.ACCEPTED,
    "retired": State.RETIRED,
    "armed": State.ARMED,
    "begin": State.INSTALLING,
    "joined": State.JOINED,
}
"""What these events bring a machine into, whatever their decision says."""

Checker = Callable[[History], list[Violation]]


class _Log:
    """The final event log and all that was seen of it before, found by number, machine and content."""

    def __init__(self, history: History) -> None:
        self.final = _by_seq(history.final["events"])
        self.earlier = _by_seq(history.values("event"))
        self.contents = {
            (event["machine"], event["what"], event["decision"])
            for event in (*self.final.values(), *self.earlier.values())
        }
        mine = _by_machine(history.final["events"])
        self._dropped_below = {
            name: min(event["seq"] for event in events)
            for name, events in mine.items()
            if len(events) >= KEPT_EVENTS
        }

    def get(self, seq: int, machine: str) -> dict[str, Any] | None:
        """Return an event of `machine`, also one that a full log has dropped since: only the newest are kept."""
        if seq < self._dropped_below.get(machine, 0):
            return self.earlier.get(seq)
        return self.final.get(seq)


def lost_events(history: History) -> list[Violation]:
    """Every acknowledged report, arm and write pass is in the final log, with the number that was answered."""
    log = _Log(history)
    return [
        Violation("lost event", f"{call.what} of {call.who} was acknowledged and is not in the log", (call,))
        for call in history.calls
        if call.is_done and not _is_kept(log, call)
    ]


def _is_kept(log: _Log, call: Call) -> bool:
    name = call.arguments.get("name", call.who)
    match call.what:
        case "report":
            return not call.body.get("seq") or _is_report(log.get(call.body["seq"], name), name, call)
        case "arm":
            return (name, "armed", call.body["arm"]) in log.contents
        case "begin":
            return (name, "begin", f"attempt {call.body['attempt']} of {MOST_ATTEMPTS}") in log.contents
        case "claim":
            return {(name, "claimed", "bound"), (name, "joined", "issued")} <= log.contents
    return True


def _is_report(event: Mapping[str, Any] | None, name: str, call: Call) -> bool:
    kind = call.arguments["kind"]
    if (
        event is None
        or event["machine"] != name
        or event["what"] not in (ENDING if kind in ENDING else {kind})
    ):
        return False
    # The end of an arm that is told twice has the number, and the text, of what was told first.
    text = call.arguments.get("text") if event["what"] == kind else None
    return text is None or text in (event["detail"], event["decision"])


def wrong_numbers(history: History) -> list[Violation]:
    """Numbers of events have no gap, never come twice, and grow with time as clients see it."""
    return [*_reused(history), *_gaps(history), *_backwards(history)]


def _reused(history: History) -> Iterator[Violation]:
    known: dict[int, dict[str, Any]] = {}
    for event in _all_events(history):
        before = known.setdefault(event["seq"], event)
        if before != event:
            yield Violation(
                "number used twice", f"event {event['seq']} was another one before", (before, event)
            )
    seqs = [event["seq"] for event in history.final["events"]]
    if seqs != sorted(set(seqs)):
        yield Violation("number used twice", "the final log is not in order", tuple(seqs))


def _gaps(history: History) -> Iterator[Violation]:
    known = {event["seq"] for event in _all_events(history)}
    dropped_below = _dropped_below(history.final["events"])
    for seq in range(1, max(known, default=0) + 1):
        if seq not in known and seq >= dropped_below:
            yield Violation("gap", f"there is no event {seq}, but later ones", ())


def _dropped_below(events: Iterable[Mapping[str, Any]]) -> int:
    """Return the number below which a log that is full may have dropped events; 0 if none is full."""
    logs: dict[str, list[int]] = defaultdict(list)
    for event in events:
        is_listed = ":" not in event["machine"]  # the others share one log, each by its MAC address
        logs[event["machine"] if is_listed else "unknown"].append(event["seq"])
    return max((min(seqs) for seqs in logs.values() if len(seqs) >= KEPT_EVENTS), default=0)


def _backwards(history: History) -> Iterator[Violation]:
    """Yield events that were answered before another was asked for, and have the higher number."""
    ends = sorted(_first_answers(history), key=lambda call: call.ended or 0.0)
    asked = _first_asked(history)
    highest: Call | None = None
    at = 0
    for call in sorted(ends, key=lambda call: asked[_repeats(call)]):
        while at < len(ends) and (ends[at].ended or 0.0) < asked[_repeats(call)]:
            highest = max(highest or ends[at], ends[at], key=lambda one: int(one.body["seq"]))
            at += 1
        if highest and highest.body["seq"] > call.body["seq"]:
            yield Violation("number goes back", "a later event has the lower number", (highest, call))


def _first_answers(history: History) -> list[Call]:
    """Return of the calls with the same event number the one that was answered first."""
    first: dict[int, Call] = {}
    for call in sorted(history.calls, key=lambda call: call.ended or 0.0):
        if call.is_done and call.body.get("seq"):
            first.setdefault(call.body["seq"], call)
    return list(first.values())


def _repeats(call: Call) -> tuple[object, ...]:
    """Return what a call has in common with its repetitions, which may all get the number of the first."""
    if call.arguments["kind"] in ENDING:
        return (call.mac, call.arguments["arm"])
    return (id(call),)


def _first_asked(history: History) -> dict[tuple[object, ...], float]:
    reports = (call for call in history.calls if call.what == "report")
    asked: dict[tuple[object, ...], float] = {}
    for call in sorted(reports, key=lambda call: call.began):
        asked.setdefault(_repeats(call), call.began)
    return asked


def illegal_transitions(history: History) -> list[Violation]:
    """Every change of a machine's state is an edge of RULES, and each record is what its events say."""
    found: list[Violation] = []
    for events in _by_machine(history.final["events"]).values():
        found += _illegal_in_log(events)
    samples: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for machine in (*history.values("machine"), *history.final["machines"]):
        samples[machine["mac"]].append(machine)
    for seen in samples.values():
        found += (bad for before, after in pairwise(seen) for bad in _illegal_step(before, after))
    return [*found, *_contradictions(history)]


def state_after(event: Mapping[str, Any]) -> State | None:
    """Return the state that an event brings a machine into; None if it changes none."""
    what, decision = event["what"], event["decision"]
    match what, decision:
        case ("complete" | "already-installed" | "booted", "installed") | ("failed", "failed"):
            return State(decision)
        case ("alarm", "quarantined") | ("node-ready" | "node-not-ready", _):
            return State(decision)
    return ALWAYS.get(what)


def _illegal_in_log(events: list[dict[str, Any]]) -> Iterator[Violation]:
    before: tuple[State, dict[str, Any]] | None = None
    for event in events:
        after = state_after(event)
        if after is None:
            continue
        stays = event["what"] in ("booted", "joined") and before is not None and before[0] in ON_DISK
        if before and not stays and after not in RULES[before[0]].to:
            yield Violation("illegal transition", f"{before[0]} to {after}", (before[1], event))
        before = (after, event)


def _illegal_step(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Violation]:
    """Yield what is wrong between two looks at a machine: steps in between may have been missed."""
    if before["arm"] != after["arm"] or before["state"] == after["state"] == "retired":
        return
    if after["attempts"] < before["attempts"]:
        yield Violation("attempts went back", f"{before['attempts']} to {after['attempts']}", (before, after))
    if State(after["state"]) not in _reachable(State(before["state"])):
        yield Violation("illegal transition", f"{before['state']} to {after['state']}", (before, after))


def _reachable(state: State) -> set[State]:
    """Return the states that can be reached without a new arm."""
    found, fresh = {state}, [state]
    while fresh:
        fresh = [after for one in fresh for after in RULES[one].to if after not in found | {State.ARMED}]
        found.update(fresh)
    return found


def _contradictions(history: History) -> Iterator[Violation]:
    """Yield machines whose last record is not what their last events say: the two are one commit."""
    logs = _by_machine(history.final["events"])
    for machine in history.final["machines"]:
        mine = logs.get(machine["name"], [])
        moves = [event for event in mine if state_after(event)]
        if moves and state_after(moves[-1]) != machine["state"]:
            text = f"{machine['name']} is {machine['state']}, its last event says {state_after(moves[-1])}"
            yield Violation("record and events differ", text, (machine, moves[-1]))
        armed = [number for number, event in enumerate(mine) if event["what"] == "armed"]
        passes = [event for event in mine[armed[-1] :] if event["what"] == "begin"] if armed else []
        if armed and len(passes) != machine["attempts"]:
            text = f"{machine['attempts']} attempts in the record, {len(passes)} in the log"
            yield Violation("record and events differ", text, (machine, *passes))


def too_many_passes(history: History) -> list[Violation]:
    """No arm gets more than MOST_ATTEMPTS write passes, by the answers and by the log."""
    found: list[Violation] = []
    for arm, calls in _grants(history).items():
        attempts = {call.body["attempt"] for call in calls}
        nonces = {call.arguments["nonce"] for call in calls}
        if max(attempts) > MOST_ATTEMPTS or len(nonces) > MOST_ATTEMPTS:
            found.append(Violation("too many write passes", f"arm {arm}", tuple(calls)))
    return [*found, *_too_many_in_log(history)]


def _too_many_in_log(history: History) -> Iterator[Violation]:
    passes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in history.final["events"]:
        if event["what"] == "armed":
            passes[event["machine"]] = []
        elif event["what"] == "begin":
            passes[event["machine"]].append(event)
            if len(passes[event["machine"]]) == MOST_ATTEMPTS + 1:
                yield Violation("too many write passes", event["machine"], tuple(passes[event["machine"]]))


def broken_nonces(history: History) -> list[Violation]:
    """A begin that is repeated gets the attempt that it got first; another one gets another."""
    found = []
    for arm, calls in _grants(history).items():
        attempts: dict[str, set[int]] = defaultdict(set)
        for call in calls:
            attempts[call.arguments["nonce"]].add(call.body["attempt"])
        all_given = [attempt for given in attempts.values() for attempt in given]
        if any(len(given) > 1 for given in attempts.values()):
            found.append(Violation("repeated begin counted", f"arm {arm}: {dict(attempts)}", tuple(calls)))
        elif len(all_given) != len(set(all_given)):
            found.append(Violation("one attempt for two", f"arm {arm}: {dict(attempts)}", tuple(calls)))
    return found


def _grants(history: History) -> dict[str, list[Call]]:
    grants: dict[str, list[Call]] = defaultdict(list)
    for call in history.calls:
        if call.what == "begin" and call.is_done:
            grants[call.arguments["arm"]].append(call)
    return grants


def wrong_digests(history: History) -> list[Violation]:
    """What a machine was served is what it was granted, byte for byte: its configuration and its image."""
    found = []
    granted: dict[str, Call] = {}
    for call in sorted((call for call in history.calls if call.is_done), key=lambda call: call.ended or 0.0):
        if call.what == "begin":
            granted[call.mac] = call
        elif call.what in ("config", "image"):
            grant = granted.get(call.mac)
            if grant is None or grant.body[call.what]["sha256"] != call.body["sha256"]:
                found.append(Violation("served other bytes than granted", call.what, (grant, call)))
    return found


def duplicate_addresses(history: History) -> list[Violation]:
    """No address was ever acknowledged to two machines."""
    owners: dict[str, dict[str, Call]] = defaultdict(dict)
    for call in history.calls:
        if call.what == "lease" and call.is_done:
            owners[call.body["address"]].setdefault(call.mac, call)
    return [
        Violation("duplicate address", address, tuple(calls.values()))
        for address, calls in owners.items()
        if len(calls) > 1
    ]


CHECKERS: tuple[Checker, ...] = (
    lost_events,
    wrong_numbers,
    illegal_transitions,
    too_many_passes,
    broken_nonces,
    wrong_digests,
    duplicate_addresses,
)


def _all_events(history: History) -> list[dict[str, Any]]:
    return [*history.values("event"), *history.final["events"]]


def _by_seq(events: Iterable[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {event["seq"]: event for event in events}


def _by_machine(events: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        found[event["machine"]].append(event)
    return found
