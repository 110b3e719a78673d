"""Gives every machine of the configuration its record, and arms once what a pool arms by itself."""

from collections.abc import Callable
from datetime import datetime

from bootstrap.model import Cluster, Machine
from bootstrap.records import transitions
from bootstrap.records.ledger import Change, Ledger
from bootstrap.records.model import MachineRecord
from bootstrap.state import Delete
from bootstrap.states import State


def enrol(cluster: Cluster, ledger: Ledger, new_id: Callable[[], str]) -> None:
    """Bring the records up to the configuration; doing it again changes nothing.

    A machine that was armed before, by its pool or by hand, is never armed again here, whatever the
    configuration says now. Records of machines that it lists no more stay as they are.

    Raises:
        StateError: the store could not write; nothing was.
    """
    machines = {machine.mac: machine for machine in cluster.machines}

    def decide(mac: str, record: MachineRecord | None, now: datetime) -> Change:
        machine = machines[mac]
        arms_itself = cluster.pool(machine.pool).arm == "auto"
        return _decide(record, now, machine, new_id() if arms_itself else None)

    ledger.change_all(machines, decide)


def _decide(record: MachineRecord | None, now: datetime, machine: Machine, arm_id: str | None) -> Change:
    if record is None:
        fresh = transitions.enrol(machine.mac, machine.name, now)
        return _accepted(fresh, now, arm_id)
    if record.state is State.ACCEPTED and record.arm is None and arm_id:
        return transitions.arm(
            record.but(name=machine.name),
            arm_id,
            now,
            who=transitions.APPLIANCE,
            reason="its pool arms by itself",
        )
    if record.name != machine.name:
        renamed = record.but(name=machine.name)
        told = transitions.note(renamed, transitions.APPLIANCE, "renamed", reason=f"it was {record.name}")
        return Change(record=renamed, note=told)
    return Change()


def _accepted(fresh: MachineRecord, now: datetime, arm_id: str | None) -> Change:
    no_stranger = (Delete(key=f"stranger/{fresh.mac}"), Delete(key=f"inventory/{fresh.mac}"))
    if arm_id:
        reason = "listed in the configuration, and its pool arms by itself"
        armed = transitions.arm(fresh, arm_id, now, who=transitions.APPLIANCE, reason=reason)
        return Change(record=armed.record, note=armed.note, writes=no_stranger)
    told = transitions.note(fresh, transitions.APPLIANCE, "accepted", reason="listed in the configuration")
    return Change(record=fresh, note=told, writes=no_stranger)
