"""What evidence makes of a machine: pure functions from record to Change, as in transitions.py.

A machine that contradicts itself, or claims what another listed one claims, is in conflict and is never installed until
the operator has said which is which. One that runs from its disk goes on doing so, and the contradiction is shown.
"""

from collections.abc import Iterable
from datetime import datetime

from bootstrap.records.evidence import contradiction, merged
from bootstrap.records.ledger import Change
from bootstrap.records.model import Evidence, MachineRecord
from bootstrap.records.transitions import APPLIANCE, OPERATOR, Refused, moved, note
from bootstrap.states import ON_DISK, State

BEFORE_ITS_DISK = frozenset({State.ACCEPTED, State.ARMED, State.INSTALLING, State.FAILED})


def claimed(record: MachineRecord, now: datetime, said: Evidence, shared: str = "") -> Change:
    """Take in what the machine says of itself; `shared` says who else claims the same (empty: nobody).

    Look at the state of the record in the result: CONFLICT is the answer to a contradiction.
    """
    problem = contradiction(record.evidence, said) or shared
    if problem:
        return conflicting(record, now, problem)
    known = merged(record.evidence, said)
    return Change() if known == record.evidence else Change(record=record.but(evidence=known))


def conflicting(record: MachineRecord, now: datetime, problem: str) -> Change:
    """Note the `problem`; what it says is an event once, not at every boot."""
    if record.state in BEFORE_ITS_DISK:
        ended = moved(record, State.CONFLICT, now, reason=problem)
        return Change(record=ended, note=note(ended, APPLIANCE, "conflict", decision="wait", reason=problem))
    if record.state not in ON_DISK or record.clash == problem:
        return Change()
    told = record.but(clash=problem)
    return Change(record=told, note=note(told, APPLIANCE, "conflict", decision="local", reason=problem))


def resolve(record: MachineRecord, now: datetime, shared: Iterable[str]) -> Change:
    """Take the operator's word that the machine is what the configuration says, and that `shared` values tell nothing.

    What it was known by is forgotten and taken anew from its next boot. It is not armed by this.

    Raises:
        Refused: nothing is in conflict.
    """
    if record.state is not State.CONFLICT and not record.clash:
        raise Refused(f"{record.name} is {record.state}, and nothing is in conflict")
    reason = record.reason if record.state is State.CONFLICT else record.clash
    ignored = tuple(sorted({*record.ignored, *shared}))
    clear = record.but(evidence=Evidence(), ignored=ignored, clash="")
    if record.state is State.CONFLICT:
        clear = moved(clear, State.ACCEPTED, now, reason="").but(
            message=f"the conflict is resolved; to install it: machine arm {record.name}"
        )
    return Change(record=clear, note=note(clear, OPERATOR, "resolved", decision="accepted", reason=reason))
