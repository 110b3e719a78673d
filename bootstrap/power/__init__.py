"""ONE FILE PER WAY TO SWITCH A MACHINE: what its protocol is asked, and only that.

A file exports PLUGIN, a subclass of PowerDriver; its name is the value of `power.driver`. What every driver does:

- `on` and `off` change nothing where nothing is to be changed. They return when the machine is as wanted, and where
  the way can tell, when it was seen so.
- `off` cuts the power: nothing in the machine is told.
- `cycle` of a machine that is off switches it on.
- `netboot` holds for the next boot alone.
- What cannot be done is a PowerError of one line with its remedy, before the target's time is over. No error and no
  log holds a secret.
"""

import enum
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from bootstrap.errors import PowerError, PowerUnsupported
from bootstrap.model import Cluster, Machine
from bootstrap.model.machine import Power

POLL_SECONDS = 0.5

P = TypeVar("P", bound=Power)


class PowerState(enum.StrEnum):
    """What a power driver may say of a machine."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"
    """It is between the two, hangs, or nobody can tell."""


@dataclass(frozen=True)
class Deadline:
    """A point of `clock` after which nothing more is waited for."""

    ends: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Return the deadline in so many seconds."""
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Return the seconds until then, never less than 0."""
        return max(0.0, self.ends - self.clock())

    def pause(self, seconds: float) -> None:
        """Sleep for `seconds`, or until the deadline if that is earlier."""
        self.sleep(min(seconds, self.left()))


@dataclass(frozen=True, kw_only=True)
class Target:
    """A machine to switch, and what may be needed for it.

    Relative paths of the configuration begin in `base`; `work` is the cluster's work folder.
    """

    machine: Machine
    cluster: Cluster
    base: Path
    work: Path

    @property
    def name(self) -> str:
        """Return the machine's name."""
        return self.machine.name


class PowerDriver(ABC, Generic[P]):
    """Switches one machine in the way that `power` describes."""

    seconds: ClassVar[float] = 60.0
    """How long each of its actions may take if nobody says otherwise: what a healthy but slow machine needs."""

    def __init__(self, power: P, target: Target, deadline: Deadline) -> None:
        self.power = power
        self.target = target
        self.deadline = deadline
        self.remark = ""
        """A line about an action that was done, such as a part of it that was not; empty if all is well."""

    @abstractmethod
    def state(self) -> PowerState:
        """Return whether the machine is on.

        Raises:
            PowerError: it could not be asked.
        """

    @abstractmethod
    def on(self) -> None:
        """Switch the machine on; one that is on stays as it is.

        Raises:
            PowerError: it could not be told, or did not do it in time.
        """

    @abstractmethod
    def off(self) -> None:
        """Cut the machine's power; one that is off stays off.

        Raises:
            PowerError: as for `on`.
        """

    def cycle(self) -> None:
        """Cut the machine's power and switch it on again; one that is off is switched on.

        Raises:
            PowerError: as for `on`.
        """
        if self.state() is not PowerState.OFF:
            self.off()
            self.deadline.pause(self.rest_seconds)
        self.on()

    def netboot(self) -> None:
        """Let the machine boot from the network at its next start, whatever its boot order.

        Raises:
            PowerUnsupported: this way of switching cannot say so.
            PowerError: as for `on`.
        """
        raise PowerUnsupported(
            f"{self.target.name}: driver {self.power.driver} cannot choose what is booted; "
            "put the network first in the machine's boot order"
        )

    def close(self) -> None:
        """Let go of what is open at the other end; it is the last that is asked."""

    @property
    def rest_seconds(self) -> float:
        """Return how long a cycle leaves the machine without power."""
        return 0.0

    def until(self, wanted: PowerState) -> None:
        """Ask for the state until it is `wanted`.

        Raises:
            PowerError: the time is over, or it could not be asked.
        """
        while (found := self.state()) is not wanted:
            if not self.deadline.left():
                raise PowerError(
                    f"{self.target.name}: told to switch {wanted} and still {found}; look at the machine, "
                    "or give it longer with --timeout"
                )
            self.deadline.pause(POLL_SECONDS)


class ToldPower(PowerDriver[P]):
    """Switches by something of the user's own that is told a word, and may be asked for one."""

    def state(self) -> PowerState:
        """Return the word that is answered; where there is nothing to ask, nobody can tell."""
        asked = self.ask()
        if asked is None:
            return PowerState.UNKNOWN
        who, answer = asked
        said = answer.strip().lower()
        if said not in {"on", "off"}:
            raise PowerError(f"{self.target.name}: {who} answers {said[:40]!r}; let it answer on or off")
        return PowerState(said)

    def on(self) -> None:
        """Tell it, and wait until it says so, if it can be asked."""
        self._switch(PowerState.ON)

    def off(self) -> None:
        """Tell it, and wait until it says so, if it can be asked."""
        self._switch(PowerState.OFF)

    @abstractmethod
    def ask(self) -> tuple[str, str] | None:
        """Return who was asked for the state, and the answer; None if nobody can be."""

    @abstractmethod
    def tell(self, wanted: PowerState) -> None:
        """Have the machine switched.

        Raises:
            PowerError: it could not be told, or says that it failed.
        """

    def _switch(self, wanted: PowerState) -> None:
        found = self.state()
        if found is wanted:
            return
        self.tell(wanted)
        if found is not PowerState.UNKNOWN:
            self.until(wanted)
