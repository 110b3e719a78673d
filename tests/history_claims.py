"""The rules of claims that every history keeps: one key per node, in what clients got and in what the cluster signed.

What a history holds of claims, beside what tests/history.py tells:

- `claim` (name, mac, arm, key): {"key"} of the certificate that came; keys are SHA-256 sums of public keys
- `use` (name, key), a call to the API server with that certificate: {"user"} whom it took the caller for
- "request": what the cluster keeps of one certificate request at the end: {"name", "node", "key", "signed"}
- in "final", each machine's `claim`: None, or {"node", "key"}
"""

from collections import defaultdict
from collections.abc import Iterator

from tests.history import Call, History, Violation
from tests.history_rules import Checker

REFUSED = 409


def double_issues(history: History) -> list[Violation]:
    """No node ever has certificates for two keys: neither in the cluster nor in the machines' hands."""
    keys: dict[str, dict[str, object]] = defaultdict(dict)
    for request in history.values("request"):
        if request["signed"]:
            keys[request["node"]].setdefault(request["key"], request)
    for call in _granted(history):
        keys[call.arguments["name"]].setdefault(call.body["key"], call)
    return [
        Violation("double issue", f"{node} has certificates for {len(found)} keys", tuple(found.values()))
        for node, found in keys.items()
        if len(found) > 1
    ]


def foreign_certificates(history: History) -> list[Violation]:
    """Who claims gets a certificate for the key that it sent, and is taken for its own node with it."""
    return [
        *(
            Violation("certificate for another key", call.who, (call,))
            for call in _granted(history)
            if call.body["key"] != call.arguments["key"]
        ),
        *(
            Violation("not let in as itself", call.who, (call,))
            for call in history.calls
            if call.what == "use" and call.is_done and call.body["user"] != _user(call)
        ),
    ]


def _user(call: Call) -> str:
    return f"system:node:{call.arguments['name']}"


def wrong_bindings(history: History) -> list[Violation]:
    """Each machine is bound to the key that got its certificate, and the cluster was asked for no other."""
    bound = {machine["name"]: machine.get("claim") for machine in history.final["machines"]}
    found = []
    for call in _granted(history):
        claim = bound.get(call.arguments["name"])
        if not claim or (claim["key"], claim["node"]) != (call.body["key"], call.arguments["name"]):
            found.append(Violation("wrong binding", f"{call.arguments['name']}: {claim}", (call,)))
    for request in history.values("request"):
        claim = bound.get(request["node"])
        if not claim or claim["key"] != request["key"]:
            found.append(Violation("request of a stranger", f"{request['node']}: {claim}", (request,)))
    return found


def silent_rivals(history: History) -> list[Violation]:
    """Where two keys claimed to be one machine, one was refused, the machine is quarantined, and there is an alarm."""
    states = {machine["name"]: machine["state"] for machine in history.final["machines"]}
    alarmed = {event["machine"] for event in history.final["events"] if event["what"] == "alarm"}
    found = []
    for name, calls in _contested(history):
        if states[name] != "quarantined" or name not in alarmed:
            found.append(Violation("no alarm", f"{name} is {states[name]}", tuple(calls)))
        if not any(call.status == REFUSED for call in calls):
            found.append(Violation("nobody was refused", name, tuple(calls)))
    contested = {name for name, _ in _contested(history)}
    return found + [
        Violation("false alarm", f"nobody else claimed to be {name}") for name in sorted(alarmed - contested)
    ]


def _contested(history: History) -> Iterator[tuple[str, list[Call]]]:
    """Yield the machines that two keys claimed to be, with the claims."""
    claims: dict[str, list[Call]] = defaultdict(list)
    for call in history.calls:
        if call.what == "claim":
            claims[call.arguments["name"]].append(call)
    for name, calls in claims.items():
        if len({call.arguments["key"] for call in calls}) > 1:
            yield name, calls


def _granted(history: History) -> Iterator[Call]:
    return (call for call in history.calls if call.what == "claim" and call.is_done)


CLAIM_CHECKERS: tuple[Checker, ...] = (double_issues, foreign_certificates, wrong_bindings, silent_rivals)


def check_claims(history: History) -> list[Violation]:
    """Return everything that is wrong with the claims of a history whose machines are armed once."""
    return [bad for checker in CLAIM_CHECKERS for bad in checker(history)]
