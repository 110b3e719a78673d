"""What a machine's reports of its GPUs, and the gate, make of it: pure functions from record to Change."""

from datetime import datetime, timedelta

from bootstrap.gpu.gate import Verdict
from bootstrap.gpu.reported import MOST_DEVICES, Report
from bootstrap.gpu.rows import title_of
from bootstrap.model import Pool
from bootstrap.records.ledger import Change
from bootstrap.records.model import GpuRecord, MachineRecord, Pin
from bootstrap.records.said import clean
from bootstrap.records.transitions import APPLIANCE, MACHINE, OPERATOR, moved, note
from bootstrap.states import ON_DISK, State
from bootstrap.status import age

STALE_INTERVALS = 3
"""Of whom nothing was heard for so many check intervals is silent, and does not come through the gate any more."""


def heard(record: MachineRecord, said: Report, now: datetime, *, expected: int | None) -> Change:
    """Note what a machine found; news only if its state changed, or a GPU went or came back.

    A GPU that was seen and is there no more is an alarm, until there are as many as before, or as are `expected`.
    """
    before = record.gpu or GpuRecord(since=now)
    there = set(said.addresses)
    gone = () if len(there) == expected else _gone(before, there)
    is_other = (before.state, before.reason) != (said.state, said.reason)
    after = before.but(
        state=str(said.state),
        reason=said.reason,
        since=now if before.state != said.state else before.since,
        seen=tuple(sorted(there)),
        gone=gone,
    )
    if lost := [one for one in gone if one not in before.gone]:
        reason = f"{record.name}: GPU {', '.join(lost)} has vanished from PCI; {len(there)} are there"
        told = note(record, APPLIANCE, "alarm", decision="gpu-vanished", reason=clean(reason))
    elif is_other or gone != before.gone:
        told = note(record, MACHINE, "gpus", decision=str(said.state), reason=said.reason)
    elif after != before:
        told = None  # the same number of GPUs, at other addresses
    else:
        return Change()
    return Change(record=record.but(gpu=after, contact_at=now), note=told)


def _gone(before: GpuRecord, there: set[str]) -> tuple[str, ...]:
    """Return the addresses of GPUs that were seen and are not `there`: as many as are lacking.

    A bus is numbered anew when a card is put in elsewhere: other addresses alone are no loss.
    """
    lacking = max(0, len(before.seen) + len(before.gone) - len(there))
    missing = [one for one in (*before.gone, *before.seen) if one not in there]
    return tuple(missing[: min(lacking, MOST_DEVICES)])


def judged(record: MachineRecord, verdict: Verdict, now: datetime) -> Change:
    """Note what the gate says: ready <-> gpu-ready; nothing if it says so still, or its node is not Ready.

    A verdict that holds back comes again and again while its cause lasts, with other numbers: the part counts.
    """
    before = record.gpu
    if before is None or record.state not in (State.READY, State.GPU_READY):
        return Change()
    part = str(verdict.part or "")
    after = before.but(part=part, verdict=clean(str(verdict)), passed_at=None if part else before.passed_at)
    if verdict.driver:
        after = after.but(verified=verdict.driver)
    if verdict.is_passed and before.passed_at is None:
        after = after.but(passed_at=now)
    state = State.GPU_READY if verdict.is_passed and before.seen else State.READY
    if state is record.state and after == before:
        return Change()
    changed = moved(record, state, now, reason="") if state is not record.state else record
    what = "gpu-verified" if verdict.is_passed else "gpu-held"
    is_news = (before.part, before.passed_at) != (after.part, after.passed_at)
    told = note(record, APPLIANCE, what, decision=part or str(state), reason=clean(str(verdict)))
    return Change(record=changed.but(gpu=after, message=record.message), note=told if is_news else None)


def silence_of(record: MachineRecord, pool: Pool | None, heard_at: datetime | None, now: datetime) -> str:
    """Return for how long nothing was heard of a node's GPUs, and where to look; empty if that is no wonder.

    `heard_at` is when its last report under this arm came; None if none did.
    """
    if not is_minded(record, pool) or record.claim is None or pool is None or pool.gpu is None:
        return ""
    last = heard_at or record.claim.bound_at
    if now - last <= STALE_INTERVALS * timedelta(seconds=pool.gpu.check_interval):
        return ""
    return f"not heard of for {age(last.isoformat(), now)}; journalctl -u firstlight-gpu on the node"


def is_minded(record: MachineRecord, pool: Pool | None) -> bool:
    """Return whether the GPUs of a machine of `pool` are looked after: it runs from its disk, and the pool has some."""
    return pool is not None and pool.gpu is not None and record.state in ON_DISK


def kept_by(record: MachineRecord) -> tuple[str, ...]:
    """Return the titles of the drivers that are right for a machine whatever its pool wants by now.

    They are the one that it was set back to, and else the one that it was verified with.
    """
    if record.pin is not None:
        return (record.pin.driver,)
    return (title_of(record.gpu.verified),) if record.gpu and record.gpu.verified else ()


def ordered(record: MachineRecord, pin: Pin | None) -> Change:
    """Have a machine get the driver of its pool, or, with a `pin`, keep to that one.

    Its node stays as it is; but what it runs is right no longer because it was verified once.
    """
    known = record.gpu.but(verified="") if record.gpu else None
    after = record.but(pin=pin, gpu=known)
    if after == record:
        return Change()
    decision = pin.driver if pin else "of its pool"
    return Change(record=after, note=note(after, OPERATOR, "gpu-driver", decision=decision))


def alarm_of(record: MachineRecord, pool: Pool | None) -> str:
    """Return what is wrong with GPUs that were there, and what to do; empty if nothing is, or nobody minds."""
    known = record.gpu
    if known is None or not known.gone or not is_minded(record, pool):
        return ""
    remedy = f"seat it, or write expected: {len(known.seen)}"
    return f"GPU {', '.join(known.gone[:4])} has vanished from PCI; {remedy}"
