"""What a machine gets when it boots from the network: pure, from what is configured and what is known."""

import textwrap
from dataclasses import dataclass

from bootstrap.model import BootFromDisk, Machine
from bootstrap.records.model import MOST_ATTEMPTS, MachineRecord
from bootstrap.render.ipxe import unknown_reason
from bootstrap.states import ON_DISK, RULES, State

LONGEST_CAUSE = 100  # characters; a console line holds 200, and the remedy behind the cause must fit
WAIT_SECONDS = 30  # how soon a waiting machine asks again: an operator who armed it should not wait longer


@dataclass(frozen=True, kw_only=True)
class Install:
    """Load the installer for this arm."""

    arm: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Local:
    """Go on to the disk, which holds the system, by `method`."""

    reason: str
    method: BootFromDisk = "localboot"


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Show the reason on the console and ask again after `seconds`."""

    reason: str
    seconds: int = WAIT_SECONDS


@dataclass(frozen=True, kw_only=True)
class Leave:
    """Not ours: let the firmware try its next boot device, by `method`; what is on its disks is not looked at."""

    reason: str
    method: BootFromDisk = "ipxe-exit"


@dataclass(frozen=True, kw_only=True)
class Discover:
    """Load the installer's system to look at the machine, and write nothing."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Rescue:
    """Show the reason and `lines`, wait, and ask again: the same boot was tried often enough."""

    reason: str
    lines: tuple[str, ...] = ()
    seconds: int = WAIT_SECONDS


Boot = Install | Local | Wait | Leave | Discover | Rescue


def decide(
    machine: Machine | None,
    record: MachineRecord | None,
    *,
    image: str | None,
    lack: str = "is not built - image build",
    method: BootFromDisk = "localboot",
) -> Boot:
    """Return what the machine gets; its firmware's boot order plays no part in it.

    `machine` is its place in the configuration (None: it has none), `image` names the image of its pool
    (None: there is none yet), `lack` says what is wrong then, and the remedy; `method` is its way to its disk.
    """
    if machine is None:
        return _unlisted(record)
    if record is None:
        return Wait(reason=f"{machine.name} is listed, but the appliance has not read it yet: reload")
    if local := _local(machine, record, method):
        return local
    if record.state is State.RETIRED:
        # Its disk need not be ours, so nobody looks for it; what its firmware cannot bear holds all the same.
        reason = f"{machine.name} is retired - machine arm {machine.name} brings it back"
        return Leave(reason=reason, method="ipxe-exit" if method == "localboot" else method)
    if record.state in (State.ARMED, State.INSTALLING) and record.arm:
        return _armed(machine, record, record.arm, image=image, lack=lack)
    return _waiting(machine, record)


def _local(machine: Machine, record: MachineRecord, method: BootFromDisk) -> Local | None:
    """Return the way to its disk, if that holds a system which the machine is to run."""
    if record.state in ON_DISK:
        return Local(reason=f"{machine.name} is {record.state}", method=method)
    if record.state is State.FAILED and record.keeps_system:
        reason = f"{machine.name} keeps its system - machine arm {machine.name} erases it"
        return Local(reason=reason, method=method)
    return None


def decide_unknown(
    mac: str,
    *,
    discovers: bool,
    image: str | None,
    listed_as: str = "",
    is_in_use: bool = False,
    other_arch: str = "",
) -> Boot:
    """Return what a machine gets that has no record: it is looked at, or left alone.

    `listed_as` names the machine that has the card `mac` too, and is known by another one; `discovers` is what the
    configuration says, `image` names an image whose live system can look (None: there is none). One that was looked
    at and `is_in_use` goes on to its disk: it may be at work for somebody. `other_arch` is the processor of one that
    no image is for: to list it would not help.
    """
    if listed_as:
        return Leave(reason=f"this card belongs to {listed_as}, which boots from another one")
    if other_arch:
        return Leave(
            reason=f"{mac} is not known, and no image is for its processor, {other_arch}: they are for x86-64"
        )
    if discovers and is_in_use:
        return Leave(reason=f"{mac} is not known, and its disks hold something - machine accept {mac}")
    if discovers and image is not None:
        return Discover(reason=f"{mac} is not known: looking at it, nothing is written")
    return Leave(reason=unknown_reason(mac))


def _unlisted(record: MachineRecord | None) -> Boot:
    if record is None:
        return Leave(reason="this machine is not in the configuration")
    return Leave(reason=f"{record.name} is no longer in the configuration")


def _armed(machine: Machine, record: MachineRecord, arm: str, *, image: str | None, lack: str) -> Boot:
    if image is None:
        return Wait(reason=f"{machine.name} is armed, but the image of pool {machine.pool} {lack}")
    # The last granted pass may still be running or lost its report: the installer finds out by the disk's
    # marker, and only its fourth request to write ends the arm.
    attempt = min(record.attempts + 1, MOST_ATTEMPTS)
    return Install(arm=arm, reason=f"installing {machine.name}, attempt {attempt} of {MOST_ATTEMPTS}")


def _waiting(machine: Machine, record: MachineRecord) -> Boot:
    why = f"{machine.name} is {record.state}"
    if record.reason:
        why = f"{why}: {textwrap.shorten(record.reason, LONGEST_CAUSE, placeholder=' ...')}"
    return Wait(reason=f"{why} - {RULES[record.state].next_step.replace('NAME', machine.name)}")
