"""What each report and each act of the operator makes of a machine: pure functions from record to Change."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from bootstrap.errors import StateError
from bootstrap.records.ledger import THIS_EVENT, Change, Note
from bootstrap.records.model import MOST_ATTEMPTS, DiskChoice, Introduction, Loop, MachineRecord
from bootstrap.states import ON_DISK, RULES, State, move

MACHINE = "machine"
OPERATOR = "operator"
APPLIANCE = "appliance"

# A progress report is written when it says something new, or as a sign of life this often: the installer may
# report every second, and each write is a sync of the disk.
CONTACT_EVERY = timedelta(seconds=10)
PERCENT_STEP = 5


class Refused(StateError):  # noqa: N818  # reads as a sentence where it is raised
    """The machine's state does not allow what was asked; the text says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Boot:
    """What an installed system said of itself after it came up from its disk."""

    ssh_host_keys: tuple[str, ...] = ()
    address: str | None = None
    firmware: str | None = None


def enrol(mac: str, name: str, now: datetime) -> MachineRecord:
    """Return the first record of a machine that the configuration lists."""
    return MachineRecord(mac=mac, name=name, since=now)


def arm(
    record: MachineRecord,
    arm_id: str,
    now: datetime,
    *,
    who: str,
    reason: str,
    erases_system: bool = False,
) -> Change:
    """Allow one installation: the machine's disk may be written from now on, and its key is no longer known.

    A disk that holds a system of this cluster is erased only if that is said too (`erases_system`).

    Raises:
        IllegalTransition: the machine is quarantined or in conflict.
    """
    armed = record.but(
        state=move(record.state, State.ARMED),
        since=now,
        reason="",
        arm=arm_id,
        attempts=0,
        begun=None,
        settled=0,
        stage=None,
        percent=None,
        message="armed: power it on and let it boot from the network",
        ssh_answers=False,
        booted_at=None,
        is_stuck=False,
        answered="",
        claim=None,
        former_until=record.access_until,
        running=None,
        erases_system=erases_system,
        keeps_system=False,
        loop=Loop(),
        gpu=None,
    )
    return Change(record=armed, note=note(armed, who, "armed", decision=arm_id, reason=reason))


def retire(record: MachineRecord, now: datetime) -> Change:
    """Let the machine be: it gets nothing from us any more.

    Raises:
        IllegalTransition: it is retired already.
    """
    text = f"retired by the operator{_last_access(record)}"
    retired = moved(record, State.RETIRED, now, reason=text)
    return Change(record=retired, note=note(retired, OPERATOR, "retired", reason=text))


def _last_access(record: MachineRecord) -> str:
    """Return until when the cluster lets a retired node in: its certificate is not renewed any more."""
    ends = record.access_until
    return f"; its certificate ends at {ends:%Y-%m-%d %H:%M} UTC at the latest" if ends else ""


def asked(
    record: MachineRecord, *, firmware: str | None, said: Introduction, decision: str, reason: str
) -> Change:
    """Note a network boot and its answer; a machine that waits and asks again is told of once.

    It is no sign of life of an installer: a machine that never gets beyond its boot stays silent.
    """
    answered = f"{decision}: {reason}"
    seen = record.but(firmware=firmware or record.firmware, said=said, answered=answered)
    if decision in {"wait", "rescue"} and answered == record.answered:
        return Change(record=seen)
    return Change(record=seen, note=note(seen, MACHINE, "network-boot", decision=decision, reason=reason))


def begin(record: MachineRecord, now: datetime, *, disk: DiskChoice | None, nonce: str | None) -> Change:
    """Grant one write pass; the fourth request of an arm ends it as failed (see `attempts` of the result).

    The same request again (same `nonce`: its answer was lost) is the same pass.

    Raises:
        Refused: the machine is neither armed nor installing.
    """
    if record.state not in (State.ARMED, State.INSTALLING):
        raise Refused(f"{record.name} is {record.state}: its disk may not be written; {next_step(record)}")
    if nonce and nonce == record.begun:
        return Change()
    if record.attempts >= MOST_ATTEMPTS:
        return too_many_attempts(record, now)
    attempt = record.attempts + 1
    installing = record.but(
        state=move(record.state, State.INSTALLING),
        since=now,
        reason="",
        attempts=attempt,
        begun=nonce,
        disk=disk or record.disk,
        stage="begin",
        percent=0,
        message=f"installing, attempt {attempt} of {MOST_ATTEMPTS}",
        contact_at=now,
        is_stuck=False,
        loop=Loop(),
    )
    decision = f"attempt {attempt} of {MOST_ATTEMPTS}"
    return Change(record=installing, note=note(installing, MACHINE, "begin", decision=decision))


def kept(record: MachineRecord, now: datetime, *, machine: str) -> Change:
    """End the arm: the disk holds the system of `machine` of this cluster, and nobody has said that it may go."""
    reason = (
        f"its disk holds the system that this cluster has installed on {machine or 'a machine'}; nothing was "
        f"touched, and it starts that system; to erase it: machine arm {record.name}"
    )
    ended = moved(record, State.FAILED, now, reason=reason).but(settled=THIS_EVENT, keeps_system=True)
    return Change(record=ended, note=note(ended, APPLIANCE, "kept", decision="failed", reason=reason))


def unfit(record: MachineRecord, now: datetime, *, reason: str) -> Change:
    """End the arm: the machine is not as its pool wants it, and nothing was written."""
    why = f"{reason}; nothing was touched"
    ended = moved(record, State.FAILED, now, reason=why).but(settled=THIS_EVENT)
    return Change(record=ended, note=note(ended, APPLIANCE, "failed", decision="failed", reason=why))


def too_many_attempts(record: MachineRecord, now: datetime) -> Change:
    """End the arm: its write passes are used up and none came to its end."""
    reason = f"{MOST_ATTEMPTS} install attempts did not finish; last stage: {record.stage or 'unknown'}"
    ended = moved(record, State.FAILED, now, reason=reason).but(settled=THIS_EVENT)
    return Change(record=ended, note=note(ended, APPLIANCE, "failed", decision="failed", reason=reason))


def installed(record: MachineRecord, now: datetime, *, what: str) -> Change:
    """Note that the disk holds the system of the current arm; said twice, it is one transition."""
    if record.state in ON_DISK:
        return Change()
    done = moved(record, State.INSTALLED, now, reason="").but(
        message="installed; it restarts from its disk",
        stage=None,
        percent=None,
        settled=THIS_EVENT,
        contact_at=now,
    )
    return Change(record=done, note=note(done, MACHINE, what, decision="installed"))


def failed(record: MachineRecord, now: datetime, *, reason: str, detail: str) -> Change:
    """Note that the installer gave up and why; after the end of an installation it is an event only."""
    if record.state is State.FAILED:
        return Change()
    if record.state not in (State.ARMED, State.INSTALLING):
        return Change(note=note(record, MACHINE, "failed", reason=reason, detail=detail))
    ended = moved(record, State.FAILED, now, reason=reason).but(settled=THIS_EVENT, contact_at=now)
    told = note(ended, MACHINE, "failed", decision="failed", reason=reason, detail=detail)
    return Change(record=ended, note=told)


def attempt_failed(record: MachineRecord, now: datetime, *, reason: str) -> Change:
    """Note that one write pass did not come to its end; the machine tries again while the arm has passes left."""
    if record.state is not State.INSTALLING:
        return Change(note=note(record, MACHINE, "attempt-failed", reason=reason))
    if record.attempts >= MOST_ATTEMPTS:
        why = f"{MOST_ATTEMPTS} install attempts did not finish; the last: {reason}"
        return failed(record, now, reason=why, detail=record.stage or "")
    text = f"attempt {record.attempts} of {MOST_ATTEMPTS} failed: {reason}"
    again = record.but(stage=None, percent=None, message=text, contact_at=now)
    return Change(record=again, note=note(again, MACHINE, "attempt-failed", decision="again", reason=reason))


def found(
    record: MachineRecord,
    now: datetime,
    *,
    firmware: str | None,
    detail: str,
    cards: tuple[str, ...] = (),
) -> Change:
    """Note that the installer runs and what it found, the MAC addresses of its `cards` among it."""
    seen = record.but(
        firmware=firmware or record.firmware,
        contact_at=now,
        is_stuck=False,
        cards=cards or record.cards,
    )
    return Change(record=seen, note=note(seen, MACHINE, "facts", detail=detail))


def fetched(record: MachineRecord, kind: str) -> Note:
    """Note that the machine's document of this kind was sent: its live system has come up far enough to ask."""
    return note(record, MACHINE, "fetched", detail=f"{kind} Ignition document")


def progress(record: MachineRecord, now: datetime, *, stage: str, percent: int, message: str) -> Change:
    """Note how far the installer is: an event per stage, a write per step, nothing for a mere repetition."""
    is_new_stage = stage != record.stage
    is_step = abs(percent - (record.percent or 0)) >= PERCENT_STEP
    is_due = record.contact_at is None or now - record.contact_at >= CONTACT_EVERY
    if not (is_new_stage or is_step or is_due):
        return Change()
    further = record.but(stage=stage, percent=percent, message=message, contact_at=now, is_stuck=False)
    if not is_new_stage:
        return Change(record=further)
    return Change(record=further, note=note(further, MACHINE, "progress", detail=f"{stage}: {message}"))


def booted(record: MachineRecord, now: datetime, boot: Boot) -> Change:
    """Note that the system of the current arm came up from its disk, which proves that it is installed."""
    state = record.state if record.state in ON_DISK else move(record.state, State.INSTALLED)
    up = record.but(
        state=state,
        since=record.since if state is record.state else now,
        reason="",
        message="booted from disk",
        stage=None,
        percent=None,
        booted_at=now,
        contact_at=now,
        ssh_host_keys=boot.ssh_host_keys or record.ssh_host_keys,
        address=boot.address or record.address,
        firmware=boot.firmware or record.firmware,
        ssh_answers=False,
        is_stuck=False,
        loop=Loop(),
        settled=record.settled if state is record.state else THIS_EVENT,
    )
    return Change(record=up, note=note(up, MACHINE, "booted", decision=str(state), detail=boot.address or ""))


def ssh_seen(record: MachineRecord, *, answers: bool) -> Change:
    """Note whether the SSH server of a machine that runs from its disk answers."""
    if answers == record.ssh_answers:
        return Change()
    message = "booted from disk, ssh answers" if answers else "booted from disk, ssh stopped answering"
    seen = record.but(ssh_answers=answers, message=message)
    what = "ssh-answers" if answers else "ssh-silent"
    return Change(record=seen, note=note(seen, APPLIANCE, what, detail=record.address or ""))


def silence_of(record: MachineRecord, now: datetime) -> timedelta:
    """Return how long nothing has been heard from the machine."""
    return now - max(record.since, record.contact_at or record.since)


def is_overdue(record: MachineRecord, now: datetime) -> bool:
    """Return whether the machine's state has a deadline and its silence is longer."""
    deadline = RULES[record.state].deadline_seconds
    if deadline is None or record.booted_at is not None:
        return False
    return silence_of(record, now).total_seconds() > deadline


def stuck(record: MachineRecord, now: datetime) -> Change:
    """Note, once, that a machine went silent; its state stays, as its remaining attempts do."""
    if record.is_stuck or not is_overdue(record, now):
        return Change()
    minutes = int(silence_of(record, now).total_seconds() // 60)
    reason = f"stuck: nothing heard for {minutes} min while {record.state}; {next_step(record)}"
    silent = record.but(message=reason, is_stuck=True)
    return Change(record=silent, note=note(silent, APPLIANCE, "stuck", reason=reason))


def note(
    record: MachineRecord, who: str, what: str, *, decision: str = "", reason: str = "", detail: str = ""
) -> Note:
    """Return an event of this machine."""
    return Note(
        who=who,
        what=what,
        log=record.mac,
        machine=record.name,
        decision=decision,
        reason=reason,
        detail=detail,
    )


def moved(record: MachineRecord, state: State, now: datetime, *, reason: str) -> MachineRecord:
    """Return the machine in another state, for `reason`; raises IllegalTransition."""
    after = move(record.state, state)
    return record.but(state=after, since=now, reason=reason, message=reason, is_stuck=False, loop=Loop())


def next_step(record: MachineRecord) -> str:
    """Return what a person can do now."""
    return RULES[record.state].next_step.replace("NAME", record.name)
