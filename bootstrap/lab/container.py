"""The process side of a host: starts, finds, freezes and ends it, by the control group that all of it lives in.

A killed systemd-nspawn leaves what it started running; the control group still holds it.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootstrap.errors import LabError
from bootstrap.lab.host import container_name
from bootstrap.power import PowerState

CGROUPS = Path("/sys/fs/cgroup")
NSPAWN_STATE = Path("/run/systemd/nspawn")
ROUNDS = 100  # a process may start another while we go through the list
PAUSE_SECONDS = 0.05
MANAGED = ("unified", "systemd")
"""What systemd manages where control groups are old (hybrid)."""
STOPPED = frozenset({"T", "t"})
ENDED = frozenset({"X", "Z"})


@dataclass(frozen=True)
class Container:
    """The place of one host in the rack: its folder, by absolute path."""

    folder: Path

    @property
    def root(self) -> Path:
        """Return its root file system."""
        return self.folder / "root"

    @property
    def key(self) -> Path:
        """Return the file with its SSH host key, which is made before all else."""
        return self.folder / "ssh_host_ed25519_key"

    @property
    def console_log(self) -> Path:
        """Return the file with everything its console ever said."""
        return self.folder / "console.log"

    def start(self, argv: Sequence[str], *, with_controllers: bool = False) -> None:
        """Boot the host with `argv`, in the background; one that runs stays as it is.

        One `with_controllers` has groups of its own also where memory and processors are divided up, for what runs
        containers in it.

        Raises:
            LabError: this computer has no control groups, or none for us.
        """
        if self.pids():
            return
        self.sweep()
        groups = self._groups()
        if not groups:
            raise LabError(f"no control groups are mounted at {CGROUPS}, and hosts of the lab need them")
        divided = tuple(path / groups[0].name for path in controllers()) if with_controllers else ()
        for group in (*groups, *divided):
            group.mkdir()
            _fill_cpuset(group)
        enter = "".join(
            f"echo $$ > {shlex.quote(str(group / 'cgroup.procs'))} && " for group in (*groups, *divided)
        )
        command = ("sh", "-c", f'{enter} exec setsid --fork "$@"', "sh", *argv)
        with self.console_log.open("ab") as log:
            done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if done.returncode != 0:
            raise LabError(f"host {self.folder.name} could not be switched on; {self.console_log} says why")

    def state(self) -> PowerState:
        """Return whether the host is on; a frozen one is unknown."""
        pids = self.pids()
        if not pids:
            return PowerState.OFF
        return PowerState.UNKNOWN if any(_status(pid) in STOPPED for pid in pids) else PowerState.ON

    def pids(self) -> tuple[int, ...]:
        """Return every process of the host, its systemd-nspawn too; none if it is off."""
        return tuple(sorted({pid for group in self._groups() for pid in _pids_below(group)}))

    def switch_off(self) -> None:
        """Cut the power: nothing in the host is told. One that is off stays off.

        Raises:
            LabError: a process does not end.
        """
        self._until(lambda: not self.pids(), signal.SIGKILL, "does not end")
        self.sweep()

    def freeze(self) -> None:
        """Stop every process of the host (SIGSTOP): its kernel still takes connections that nobody answers."""
        self._until(lambda: self._statuses() <= {*STOPPED, *ENDED}, signal.SIGSTOP, "does not stop")

    def thaw(self) -> None:
        """Let a frozen host go on."""
        self._until(lambda: not self._statuses() & STOPPED, signal.SIGCONT, "does not go on")

    def _statuses(self) -> frozenset[str]:
        return frozenset(map(_status, self.pids()))

    def _until(self, done: Callable[[], bool], sign: signal.Signals, fails: str) -> None:
        """Send `sign` to every process until `done` says so."""
        for _ in range(ROUNDS):
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
            if done():
                return
            time.sleep(PAUSE_SECONDS)
        raise LabError(f"host {self.folder.name} {fails}: processes {', '.join(map(str, self.pids()))}")

    def sweep(self) -> None:
        """Remove what a host that ended leaves behind; its root and the console's log stay."""
        for group in self._all_groups():
            for _ in range(ROUNDS):
                if not _remove_group(group):
                    break
                time.sleep(PAUSE_SECONDS)  # the kernel is not quite done with its processes
        (self.folder / ".#root.lck").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (NSPAWN_STATE / "propagate" / container_name(self.folder)).rmdir()
        with contextlib.suppress(OSError):
            inode = self.root.stat()
            (NSPAWN_STATE / "locks" / f"inode-{inode.st_dev}:{inode.st_ino}").unlink()

    def _groups(self) -> tuple[Path, ...]:
        return tuple(hierarchy / container_name(self.folder) for hierarchy in hierarchies())

    def _all_groups(self) -> tuple[Path, ...]:
        return (*self._groups(), *(path / container_name(self.folder) for path in controllers()))


def hierarchies(root: Path = CGROUPS) -> tuple[Path, ...]:
    """Return the control group hierarchies that systemd manages: one on new systems, two on older ones (hybrid)."""
    if (root / "cgroup.procs").exists():
        return (root,)
    return tuple(root / name for name in MANAGED if (root / name / "cgroup.procs").exists())


def controllers(root: Path = CGROUPS) -> tuple[Path, ...]:
    """Return the hierarchies of old control groups (v1), one for each controller; none on new systems."""
    if (root / "cgroup.procs").exists():
        return ()
    # "cpu" may be a link to "cpu,cpuacct".
    folders = sorted(path for path in root.iterdir() if not path.is_symlink()) if root.is_dir() else []
    divided = (path for path in folders if path.name not in MANAGED)
    return tuple(path for path in divided if (path / "cgroup.procs").exists())


def _fill_cpuset(group: Path) -> None:
    """Give a new group of the old cpuset controller all that its parent has: an empty one takes no process."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (group / name).exists() and (group.parent / name).exists():
            (group / name).write_text((group.parent / name).read_text())


def _pids_below(group: Path) -> Iterator[int]:
    for folder, _, _ in os.walk(group):  # groups come and go meanwhile
        with contextlib.suppress(OSError):
            yield from map(int, Path(folder, "cgroup.procs").read_text().split())


def _status(pid: int) -> str:
    """Return the letter of a process's state (proc_pid_stat(5)); X if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _remove_group(group: Path) -> bool:
    """Remove a control group and those below it, and return whether it is still there."""
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
    return group.exists()
