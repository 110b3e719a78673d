"""What an older store may still allow when it comes back: pure, from record to Change.

Everything that was permitted once may have been used up or taken back since the backup, so no permission comes back:

- no arm does. Each gets an id that nobody was told, so that what holds the old one is refused and no pool arms the
  machine by itself; also one whose disk was written since, and that the backup does not know;
- a machine that has its certificate stays in the cluster with the one key it has, unless it was retired,
  quarantined or armed again since; that is known from the store that was there, or from the operator.
"""

from collections.abc import Collection, Mapping
from datetime import datetime

from bootstrap.records.ledger import Change
from bootstrap.records.model import MachineRecord
from bootstrap.records.transitions import OPERATOR, enrol, note
from bootstrap.states import ON_DISK, State

REVOKED = frozenset({State.RETIRED, State.QUARANTINED, State.CONFLICT})
OPEN = frozenset({State.ARMED, State.INSTALLING})


def restored(
    record: MachineRecord | None,
    present: MachineRecord | None,
    now: datetime,
    *,
    arm: str,
    taken_at: datetime,
    is_retired: bool = False,
) -> Change:
    """Return what becomes of a machine's record in the backup, with the one of today if there is one.

    `arm` is an id that nobody was told; `is_retired` says that the operator names the machine as retired since.
    """
    known = record or present
    if known is None:
        return Change()
    if is_retired and known.state is not State.RETIRED:
        return _out(
            _holding(known, present),
            State.RETIRED,
            now,
            arm=arm,
            reason="retired since the backup, says the operator",
        )
    if present is not None and present.state in REVOKED:
        return _out(_holding(known, present), present.state, present.since, arm=arm, reason=present.reason)
    if known.state in REVOKED or _keeps_its_key(known, present):
        return Change(record=known)
    known = _holding(known, present)
    return _closed(known, now, arm=arm, when=f"{taken_at:%Y-%m-%d %H:%M} UTC")


def unknown(mac: str, name: str, now: datetime, *, arm: str) -> Change:
    """Return the record of a machine of the configuration of which neither store knows: its pool does not arm it."""
    text = f"not in the backup: it may have been installed since; machine arm {name} installs it"
    fresh = enrol(mac, name, now).but(arm=arm, message=text)
    return Change(record=fresh, note=note(fresh, OPERATOR, "accepted", decision="not armed", reason=text))


def members(records: Collection[MachineRecord]) -> tuple[str, ...]:
    """Return the names of the machines that may renew their certificates."""
    return tuple(sorted(record.name for record in records if record.state in ON_DISK and record.claim))


def names_without_record(records: Mapping[str, MachineRecord], names: Collection[str]) -> tuple[str, ...]:
    """Return those of `names` that no record has."""
    return tuple(sorted(set(names) - {record.name for record in records.values()}))


def _keeps_its_key(known: MachineRecord, present: MachineRecord | None) -> bool:
    """Return whether the machine has its certificate, and was not armed again since."""
    has_joined = known.claim is not None and known.claim.issued_at is not None
    return known.state in ON_DISK and has_joined and (present is None or present.arm == known.arm)


def _holding(known: MachineRecord, present: MachineRecord | None) -> MachineRecord:
    """Return `known` with the last end of a certificate that today's record knows: renewals wait for it."""
    ends = [end for end in (known.former_until, present.access_until if present else None) if end]
    return known.but(former_until=max(ends, default=None))


def _out(record: MachineRecord, state: State, since: datetime, *, arm: str, reason: str) -> Change:
    """Take a machine out again; no way of the graph, because it is a state that it was in already."""
    out = record.but(state=state, since=since, reason=reason, message=reason, arm=arm)
    out = out.but(former_until=record.access_until, claim=None)
    return Change(record=out, note=note(out, OPERATOR, str(state), decision="restored", reason=reason))


def _closed(record: MachineRecord, now: datetime, *, arm: str, when: str) -> Change:
    """End the machine's arm; a disk that holds a system goes on booting it."""
    text = f"a restore of the backup of {when} ended its arm"
    closed = record.but(arm=arm, former_until=record.access_until, claim=None, begun=None)
    if record.state in OPEN:
        closed = closed.but(state=State.FAILED, since=now, reason=text, message=text)
    elif record.state in ON_DISK:
        closed = closed.but(state=State.INSTALLED, message=f"{text}; to have it join, install it anew")
    return Change(record=closed, note=note(closed, OPERATOR, "arm-closed", decision="restored", reason=text))
