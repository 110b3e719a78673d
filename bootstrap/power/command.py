"""Programs of the user's own, for everything that no other file here speaks to."""

import os
import subprocess
from collections.abc import Sequence

from bootstrap.errors import PowerError, PowerUnsupported, printable
from bootstrap.model.machine import CommandPower
from bootstrap.power import PowerState, ToldPower

LONGEST_SHOWN = 200
PASSED = ("PATH", "LANG")
"""Variables of ours that every program gets; others may hold secrets that are none of its business."""


class Programs(ToldPower[CommandPower]):
    """Runs a program without a shell, in the configuration's folder; exit 0 is done."""

    def ask(self) -> tuple[str, str] | None:
        """Return what `status` prints."""
        status = self.power.status
        return None if status is None else (status[0], self._run(status))

    def tell(self, wanted: PowerState) -> None:
        """Run `on` or `off`."""
        self._run(self.power.on if wanted is PowerState.ON else self.power.off)

    def netboot(self) -> None:
        """Run `netboot`."""
        if self.power.netboot is None:
            raise PowerUnsupported(
                f"{self.target.name}: there is no program for that; write power.netboot, "
                "or put the network first in the machine's boot order"
            )
        self._run(self.power.netboot)

    def _environment(self) -> dict[str, str]:
        """Return the variables that its programs see: which machine it is, and of ours what they need."""
        passed = (*PASSED, *self.power.pass_environment)
        ours = {name: os.environ[name] for name in passed if name in os.environ}
        machine = self.target.machine
        return {**ours, "FIRSTLIGHT_MACHINE": machine.name, "FIRSTLIGHT_MAC": machine.mac}

    def _run(self, command: Sequence[str]) -> str:
        machine = self.target.machine
        try:
            done = subprocess.run(
                command,
                check=False,
                cwd=self.target.base,
                env=self._environment(),
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
