"""What a machine can be, who moves it on, how long it may stay, and what may follow: the graph of D3."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from bootstrap.errors import StateError


class State(StrEnum):
    """The states of a machine, in the order of an undisturbed life."""

    DISCOVERED = "discovered"
    ACCEPTED = "accepted"
    ARMED = "armed"
    INSTALLING = "installing"
    INSTALLED = "installed"
    JOINED = "joined"
    READY = "ready"
    GPU_READY = "gpu-ready"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    CONFLICT = "conflict"
    RETIRED = "retired"


class IllegalTransition(StateError):  # noqa: N818  # reads as a sentence where it is raised
    """A machine cannot go from the one state to the other."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What holds for a machine in one state.

    `owner` is who moves it on: operator, machine or appliance. `deadline_seconds` is how long it may go
    without a sign of life before it counts as stuck; None where a person decides when to go on.
    """

    owner: str
    deadline_seconds: int | None
    next_step: str
    to: frozenset[State]


# An image of 1 GiB over a 100 Mbit/s link takes 90 s and reports on the way: this silence is no slow link.
INSTALLING_SILENCE_SECONDS = 900
# Servers with much memory spend up to ten minutes in firmware before their disk speaks.
FIRST_DISK_BOOT_SECONDS = 1200

_S = State
_ALWAYS = frozenset({_S.RETIRED, _S.QUARANTINED, _S.CONFLICT})
_REARM = _ALWAYS | {_S.ARMED}

RULES: Mapping[State, Rule] = MappingProxyType(
    {
        _S.DISCOVERED: Rule(
            owner="operator",
            deadline_seconds=None,
            next_step="accept it: machine accept NAME --pool POOL, or leave it alone",
            to=frozenset({_S.ACCEPTED, _S.RETIRED}),
        ),
        _S.ACCEPTED: Rule(
            owner="operator",
            deadline_seconds=None,
            next_step="arm it: machine arm NAME",
            to=_REARM,
        ),
        _S.ARMED: Rule(
            owner="machine",
            deadline_seconds=None,
            next_step="power it on and let it boot from the network",
            to=_ALWAYS | {_S.ARMED, _S.INSTALLING, _S.INSTALLED, _S.FAILED},
        ),
        _S.INSTALLING: Rule(
            owner="machine",
            deadline_seconds=INSTALLING_SILENCE_SECONDS,
            next_step="wait for the installer; if it hangs, power the machine off and on",
            to=_ALWAYS | {_S.ARMED, _S.INSTALLING, _S.INSTALLED, _S.FAILED},
        ),
        _S.INSTALLED: Rule(
            owner="machine",
            deadline_seconds=FIRST_DISK_BOOT_SECONDS,
            next_step="it boots from its disk and reports",
            to=_REARM | {_S.JOINED, _S.FAILED},
        ),
        _S.JOINED: Rule(
            owner="appliance",
            deadline_seconds=FIRST_DISK_BOOT_SECONDS,
            next_step="the cluster calls the node Ready",
            to=_REARM | {_S.READY, _S.FAILED},
        ),
        _S.READY: Rule(
            owner="appliance",
            deadline_seconds=None,
            next_step="nothing, or the GPU gate where the pool has GPUs",
            to=_REARM | {_S.GPU_READY, _S.JOINED, _S.FAILED},
        ),
        _S.GPU_READY: Rule(
            owner="appliance",
            deadline_seconds=None,
            next_step="nothing",
            to=_REARM | {_S.READY, _S.JOINED, _S.FAILED},
        ),
        # A disk that boots with the current arm is proof, whatever was reported before: failed -> installed.
        _S.FAILED: Rule(
            owner="operator",
            deadline_seconds=None,
            next_step="remove the cause, then: machine arm NAME",
            to=_REARM | {_S.INSTALLED},
        ),
        _S.QUARANTINED: Rule(
            owner="operator",
            deadline_seconds=None,
            next_step="find out who asked; then: machine retire NAME, and to install it anew: machine arm NAME",
            to=frozenset({_S.ACCEPTED, _S.RETIRED}),
        ),
        _S.CONFLICT: Rule(
            owner="operator",
            deadline_seconds=None,
            next_step="find out which is which; then: machine accept NAME --resolve, or machine retire NAME",
            to=frozenset({_S.ACCEPTED, _S.RETIRED, _S.QUARANTINED}),
        ),
        _S.RETIRED: Rule(
            owner="operator",
            deadline_seconds=None,
            next_step="nothing; machine arm NAME brings it back",
            to=frozenset({_S.ACCEPTED, _S.ARMED}),
        ),
    }
)

ON_DISK = frozenset({State.INSTALLED, State.JOINED, State.READY, State.GPU_READY})


def move(before: State, after: State) -> State:
    """Return `after` if a machine may go there from `before`.

    Raises:
        IllegalTransition: the graph has no such edge.
    """
    if after not in RULES[before].to:
        allowed = ", ".join(sorted(RULES[before].to))
        raise IllegalTransition(f"a machine that is {before} cannot become {after} (only: {allowed})")
    return after
