"""Programs of the user's own, for everything that no other file here speaks to."""

import os
import subprocess
from collections.abc import Sequence

from bootstrap.errors import PowerError, PowerUnsupported, printable
from bootstrap.model.machine import CommandPower
from bootstrap.power import PowerDriver, PowerState

LONGEST_SHOWN = 200


class Programs(PowerDriver[CommandPower]):
    """Runs a program without a shell, in the configuration's folder; exit 0 is done."""

    def state(self) -> PowerState:
        """Return the word that `status` prints; without it nobody can tell."""
        if self.power.status is None:
            return PowerState.UNKNOWN
        said = self._run(self.power.status).strip().lower()
        if said not in {"on", "off"}:
            raise PowerError(
                f"{self.target.name}: {self.power.status[0]} prints {said[:40]!r}; let it print on or off"
            )
        return PowerState(said)

    def on(self) -> None:
        """Run `on`, and wait until `status` says so, if there is one."""
        self._switch(self.power.on, PowerState.ON)

    def off(self) -> None:
        """Run `off`, and wait until `status` says so, if there is one."""
        self._switch(self.power.off, PowerState.OFF)

    def netboot(self) -> None:
        """Run `netboot`."""
        if self.power.netboot is None:
            raise PowerUnsupported(
                f"{self.target.name}: there is no program for that; write power.netboot, "
                "or put the network first in the machine's boot order"
            )
        self._run(self.power.netboot)

    def _switch(self, command: Sequence[str], wanted: PowerState) -> None:
        if self.state() is wanted:
            return
        self._run(command)
        if self.power.status is not None:
            self.until(wanted)

    def _run(self, command: Sequence[str]) -> str:
        machine = self.target.machine
        try:
            done = subprocess.run(
                command,
                check=False,
                cwd=self.target.base,
                env={**os.environ, "FIRSTLIGHT_MACHINE": machine.name, "FIRSTLIGHT_MAC": machine.mac},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.deadline.left(),
            )
        except OSError as error:
            raise PowerError(
                f"{machine.name}: cannot run {command[0]}: {error.strerror}; check power in the configuration"
            ) from error
        except subprocess.TimeoutExpired:
            raise PowerError(
                f"{machine.name}: {command[0]} did not end in time; let it, or give it longer with --timeout"
            ) from None
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
            raise PowerError(
                f"{machine.name}: {command[0]} exits {done.returncode} and says: "
                f"{printable(last)[:LONGEST_SHOWN]}; see to that program"
            )
        return done.stdout


PLUGIN = Programs
