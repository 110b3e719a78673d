"""The power buttons: starts, finds and ends the QEMU process of a machine."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bootstrap.errors import LabError
from bootstrap.lab import qmp
from bootstrap.power import PowerState
from bootstrap.processes import end, is_gone, running_pid, wait_until

START_SECONDS = 60.0  # QEMU reads its firmware from a cold disk while others use both processors
QUIT_SECONDS = 5.0
GONE_SECONDS, PAUSE_SECONDS = 20.0, 0.2
LOCKED = "Cannot lock pid file"
"""What QEMU says while one that was killed gives back its memory, and holds its files as long."""


@dataclass(frozen=True)
class Slot:
    """The place of one machine in the rack: its folder, by absolute path."""

    folder: Path

    @property
    def pid_file(self) -> Path:
        """Return the file with the pid of its QEMU; the path stands in that QEMU's command line."""
        return self.folder / "qemu.pid"

    @property
    def console(self) -> Path:
        """Return the socket of its serial console."""
        return self.folder / "console.sock"

    @property
    def console_log(self) -> Path:
        """Return the file with everything its serial console ever said."""
        return self.folder / "console.log"

    @property
    def monitor(self) -> Path:
        """Return the socket at which QEMU takes commands."""
        return self.folder / "qmp.sock"

    def pid(self) -> int | None:
        """Return the pid of its QEMU, or None if it is off."""
        return running_pid(self.pid_file, str(self.pid_file))

    def state(self) -> PowerState:
        """Return whether the machine is on; unknown if its QEMU lives, but is stopped or does not answer."""
        if self.pid() is None:
            return PowerState.OFF
        try:
            with qmp.opened(self.monitor) as monitor:
                answer = monitor.execute("query-status")
        except LabError:
            # QEMU may have ended between the two questions.
            return PowerState.OFF if self.pid() is None else PowerState.UNKNOWN
        running = isinstance(answer, dict) and answer.get("running") is True
        return PowerState.ON if running else PowerState.UNKNOWN

    def switch_on(self, argv: Sequence[str], work: Path) -> None:
        """Start QEMU with `argv` in the folder `work`; a machine that is on stays as it is.

        Raises:
            LabError: QEMU did not start; the text holds what it said.
        """
        if self.pid() is not None:
            return
        done = self._started(argv, work)
        deadline = time.monotonic() + GONE_SECONDS
        while LOCKED in done.stderr and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
            done = self._started(argv, work)
        if done.returncode != 0:
            said = (done.stderr + done.stdout).strip()
            raise LabError(
                f"machine {self.folder.name} could not be switched on (exit {done.returncode}): {said}"
            )

    def _started(self, argv: Sequence[str], work: Path) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                argv,
                check=False,
                cwd=work,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=START_SECONDS,
                start_new_session=True,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LabError(f"machine {self.folder.name} could not be switched on: {error}") from error

    def switch_off(self) -> None:
        """Cut the power: nothing in the machine is told. One that is off stays off."""
        pid = self.pid()
        if pid is not None and not self._quits(pid):
            end(pid, patience_seconds=QUIT_SECONDS)
        self.sweep()

    def _quits(self, pid: int) -> bool:
        """Ask QEMU to end, and return whether it did."""
        try:
            with qmp.opened(self.monitor) as monitor:
                monitor.execute("quit")
        except LabError:
            return False
        return wait_until(lambda: is_gone(pid), QUIT_SECONDS)

    def sweep(self) -> None:
        """Remove what a QEMU that was killed leaves behind; disks and the console's log stay."""
        for file in (self.pid_file, self.console, self.monitor):
            file.unlink(missing_ok=True)
