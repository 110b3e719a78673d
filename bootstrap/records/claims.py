"""What joining makes of a machine: pure functions from record to Change, as in transitions.py.

A machine has at most one key that may be its node. It is bound once per arm, by one conditional write; whoever comes
with another one is refused, and the machine is quarantined, because one of the two is not the machine.
"""

from datetime import datetime

from bootstrap.records.ledger import Change
from bootstrap.records.model import Claim, MachineRecord, Running
from bootstrap.records.transitions import (
    APPLIANCE,
    MACHINE,
    Refused,
    moved,
    next_step,
    note,
)
from bootstrap.states import ON_DISK, State

IN_CLUSTER = frozenset({State.JOINED, State.READY, State.GPU_READY})
SHOWN = 12  # digits of a fingerprint that stand for it in a message


class Unarmed(Refused):
    """The machine may claim nothing at all: to the outside it is one that nobody knows."""


class TooEarly(Refused):
    """The machine may claim as soon as it has reported from its disk."""


def bind(record: MachineRecord, now: datetime, *, node: str, key: str) -> Change:
    """Bind `key` to the machine as its node `node`; the same key again changes nothing.

    Another key quarantines the machine: look at the state of the written record.

    Raises:
        Unarmed: the machine is retired, or was never armed.
        TooEarly: the current arm's system has not come up yet.
        Refused: the machine is quarantined, failed, or was renamed since it was bound.
    """
    _must_be_claimable(record)
    if record.claim is None:
        return _bound(record, now, node=node, key=key)
    if record.claim.key != key:
        return second_key(record, now, key=key)
    if record.claim.node != node:
        raise Refused(
            f"{record.name} joined as {record.claim.node}; machine arm {record.name} installs it anew"
        )
    return Change()


def is_armed(record: MachineRecord) -> bool:
    """Return whether the machine was armed and not let go since: of others, nothing is told to anybody."""
    return record.arm is not None and record.state not in (State.DISCOVERED, State.ACCEPTED, State.RETIRED)


def _must_be_claimable(record: MachineRecord) -> None:
    if not is_armed(record):
        raise Unarmed(f"{record.name} is {record.state}")
    if record.state in (State.ARMED, State.INSTALLING):
        raise TooEarly(f"{record.name} is {record.state}: its system has not reported from its disk yet")
    if record.state not in ON_DISK:
        raise Refused(f"{record.name} is {record.state}: {next_step(record)}")


def _bound(record: MachineRecord, now: datetime, *, node: str, key: str) -> Change:
    claim = Claim(node=node, key=key, bound_at=now, message="claimed; waits for its certificate")
    told = note(record, MACHINE, "claimed", decision="bound", detail=f"key {key[:SHOWN]}")
    return Change(record=record.but(claim=claim, contact_at=now, is_stuck=False), note=told)


def second_key(record: MachineRecord, now: datetime, *, key: str) -> Change:
    """Quarantine the machine: two systems say that they are it."""
    assert record.claim is not None  # noqa: S101  # for the type checker
    reason = f"a second key ({key[:SHOWN]}) claimed to be {record.name}; bound is {record.claim.key[:SHOWN]}"
    return quarantined(record, now, reason=reason)


def quarantined(record: MachineRecord, now: datetime, *, reason: str) -> Change:
    """Refuse the machine everything from now on, and alarm.

    Raises:
        IllegalTransition: its state cannot become quarantined.
    """
    after = moved(record, State.QUARANTINED, now, reason=reason)
    return Change(record=after, note=note(after, APPLIANCE, "alarm", decision="quarantined", reason=reason))


def waits(record: MachineRecord, *, message: str) -> Change:
    """Note what a machine that has claimed waits for; no event, and nothing if it is known."""
    if record.claim is None or record.claim.message == message:
        return Change()
    return Change(record=record.but(claim=record.claim.but(message=message)))


def another_request(record: MachineRecord, *, key: str, issue: int, reason: str) -> Change:
    """Note that request number `issue` for `key` came to nothing, so that the next one has another name."""
    claim = _live_claim(record, key)
    if claim.issue != issue:
        return Change()
    again = record.but(claim=claim.but(issue=issue + 1, message=reason))
    return Change(record=again, note=note(again, APPLIANCE, "request-lost", decision="again", reason=reason))


def issued(record: MachineRecord, now: datetime, *, key: str, issue: int, expires_at: datetime) -> Change:
    """Note that the certificate of request `issue` was made; the machine is in the cluster.

    Raises:
        Refused: the machine may not have it any more.
    """
    claim = _live_claim(record, key)
    if claim.issue != issue:
        return Change()
    after = claim.but(
        issue=issue + 1, issued_at=now, expires_at=expires_at, message="joined; its node is not Ready yet"
    )
    state = State.JOINED if record.state is State.INSTALLED else record.state
    in_ = record.but(claim=after, state=state, since=now if state is not record.state else record.since)
    detail = f"certificate until {expires_at:%Y-%m-%dT%H:%M:%SZ}"
    return Change(record=in_, note=note(in_, APPLIANCE, "joined", decision="issued", detail=detail))


def renewed(record: MachineRecord, *, key: str) -> Change:
    """Note the key that the node's kubelet changes to: the identity that asked for it was its own.

    Raises:
        Refused: the machine may not renew.
    """
    if record.claim is None or record.state not in ON_DISK:
        raise Refused(f"{record.name} is {record.state}")
    if record.claim.renewed == key:
        return Change()
    after = record.but(claim=record.claim.but(renewed=key))
    return Change(
        record=after, note=note(after, APPLIANCE, "renewed", decision="approved", detail=key[:SHOWN])
    )


def expires(record: MachineRecord, *, key: str, expires_at: datetime) -> Change:
    """Note until when the certificate for a key of the machine is valid, if that is later than was known."""
    claim = record.claim
    if claim is None or key not in (claim.key, claim.renewed):
        return Change()
    if claim.expires_at is not None and claim.expires_at >= expires_at:
        return Change()
    return Change(record=record.but(claim=claim.but(expires_at=expires_at)))


def denied(record: MachineRecord, *, reason: str) -> Change:
    """Note that a request in this machine's name was refused; it changes nothing of the machine."""
    return Change(note=note(record, APPLIANCE, "request-denied", decision="denied", reason=reason))


def node_seen(record: MachineRecord, now: datetime, *, is_ready: bool, message: str) -> Change:
    """Note what the cluster says of the machine's node: joined <-> ready."""
    if record.claim is None or record.state not in IN_CLUSTER:
        return Change()
    told = record.but(claim=record.claim.but(message=message))
    if is_ready == (record.state is not State.JOINED):
        return Change(record=told) if told != record else Change()
    state = State.READY if is_ready else State.JOINED
    after = moved(told, state, now, reason="").but(message=message)
    what = "node-ready" if is_ready else "node-not-ready"
    return Change(record=after, note=note(after, APPLIANCE, what, decision=str(state), detail=message))


def confirmed(record: MachineRecord, now: datetime, *, revision: str, reason: str, drift: str = "") -> Change:
    """Note which revision of its served documents the machine runs; with a `reason`, one it went back to.

    `drift` names the files of ours that another changed there, or put beside them.
    """
    before = record.running
    is_back = bool(reason)
    if before and (before.revision, before.reason, before.drift) == (revision, reason, drift):
        return Change()
    running = Running(revision=revision, since=now, is_rolled_back=is_back, reason=reason, drift=drift)
    after = record.but(running=running, contact_at=now)
    if drift and (before is None or before.drift != drift):
        return Change(record=after, note=note(after, MACHINE, "drifted", decision="changed", reason=drift))
    what = "rolled-back" if is_back else "synced"
    return Change(record=after, note=note(after, MACHINE, what, decision=revision[:SHOWN], reason=reason))


def _live_claim(record: MachineRecord, key: str) -> Claim:
    """Return the claim if `key` may still be this machine's node."""
    if record.state not in ON_DISK or record.claim is None or record.claim.key != key:
        raise Refused(f"{record.name} is {record.state}, and this key is not its own any more")
    return record.claim
