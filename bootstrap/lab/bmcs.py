"""All BMCs of a rack: one ipmi_sim each, in the rack's network, whose chassis is the virtual machine."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bootstrap.config import dump
from bootstrap.disk import write_file
from bootstrap.environment import ROOT
from bootstrap.errors import LabError
from bootstrap.lab import bmc as description
from bootstrap.lab.bmc import Bmc, bmcs_from
from bootstrap.lab.chassis import CLUSTER
from bootstrap.lab.network import Network, in_namespace
from bootstrap.model import Cluster
from bootstrap.processes import end, is_gone, running_pid, wait_until
from bootstrap.progress import Progress, silent
from bootstrap.secret_file import secret_in

PRIVATE = 0o700
START_SECONDS = 30.0
END_SECONDS = 5.0
LOG_SHOWN = 500  # bytes


@dataclass(frozen=True)
class Bmcs:
    """The BMCs of the rack of `cluster` in `work` (absolute), by the names of their machines."""

    work: Path
    network: Network
    cluster: Cluster
    all: Mapping[str, Bmc]

    @classmethod
    def of(cls, cluster: Cluster, work: Path, network: Network) -> "Bmcs":
        """Return the BMCs of `cluster`."""
        return cls(work, network, cluster, bmcs_from(cluster))

    def start(self, base: Path, progress: Progress = silent) -> None:
        """Have every BMC answer, and no other; one that runs goes on, unless what it was told has changed.

        Relative paths of the configuration begin in `base`.

        Raises:
            LabError: one did not start, or its user or password cannot be one.
            UsageError: a password file cannot be read, or others can read it.
        """
        for folder in self._folders():
            if folder.parent.name not in self.all:
                _end(folder)
                shutil.rmtree(folder)
        if self.all:
            (self.work / CLUSTER).parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            write_file(self.work / CLUSTER, dump(self.cluster), 0o600)
        for name, bmc in self.all.items():
            folder = self._folder(name)
            is_new = self._furnish(bmc, folder, base)
            if is_new or _pid(folder) is None:
                progress(f"lab: BMC of {name} at {bmc.address} port {bmc.power.port}")
                _end(folder)
                self._boot(bmc, folder)

    def end(self) -> None:
        """End every BMC of the work folder, also those of machines that left the configuration."""
        for folder in self._folders():
            _end(folder)

    def _folder(self, name: str) -> Path:
        return self.work / "lab" / name / "bmc"

    def _folders(self) -> Iterator[Path]:
        yield from sorted(self.work.glob("lab/*/bmc"))

    def _furnish(self, bmc: Bmc, folder: Path, base: Path) -> bool:
        """Write what ipmi_sim reads; return whether any of it is new."""
        password = secret_in(base / bmc.power.password_file, f"the password of {bmc.name}'s BMC")
        folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        wanted = {
            "lan": description.lan_text(bmc, password, str(folder)),
            "emulation": description.EMULATION.encode(),
            description.PROGRAM: description.program_text(
                sys.executable, str(ROOT), str(self.work), bmc.name
            ),
        }
        stale = [name for name, content in wanted.items() if not _holds(folder / name, content)]
        for name in stale:
            write_file(folder / name, wanted[name], 0o600)
        return bool(stale)

    def _boot(self, bmc: Bmc, folder: Path) -> None:
        """Start ipmi_sim and wait until it answers at its address."""
        state = folder / "state"
        # What it keeps there outranks its configuration, the password too.
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(mode=PRIVATE)
        command = ("ipmi_sim", "-n", "-c", "lan", "-f", "emulation", "-s", str(state))
        pid = _started(in_namespace(self.network.namespace, command), folder)
        _pid_file(folder).write_text(f"{pid}\n")
        listens = wait_until(lambda: is_gone(pid) or _listens(pid, bmc), START_SECONDS)
        if not listens or is_gone(pid):
            said = (folder / "log").read_bytes()[-LOG_SHOWN:].decode(errors="replace").strip()
            _end(folder)
            raise LabError(f"the BMC of {bmc.name} does not answer at {bmc.address}; ipmi_sim said: {said}")


def _started(command: tuple[str, ...], folder: Path) -> int:
    """Start a program in `folder` and return its pid; its output goes to `folder`/log."""
    # ipmi_sim reads its input even where it is told not to, and again and again once that has ended: it gets a pipe
    # that never ends, since it holds the other end itself.
    read_end, write_end = os.pipe()
    try:
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=read_end,
                stdout=log,
                stderr=log,
                pass_fds=(write_end,),
                start_new_session=True,
            )
    except OSError as error:
        raise LabError(f"{command[0]} cannot be started: {error.strerror}") from error
    finally:
        os.close(read_end)
        os.close(write_end)
    process.returncode = 0  # it outlives us: nobody here waits for it, and Popen is not to complain
    return process.pid


def _listens(pid: int, bmc: Bmc) -> bool:
    """Return whether a socket of the network that `pid` lives in listens at the BMC's address and port."""
    address = int.from_bytes(bmc.address.packed, "little")
    place = f"{address:08X}:{bmc.power.port:04X}"
    try:
        lines = Path(f"/proc/{pid}/net/udp").read_text().splitlines()[1:]
    except OSError:
        return False
    return any(line.split()[1] == place for line in lines)


def _pid_file(folder: Path) -> Path:
    return folder / "pid"


def _pid(folder: Path) -> int | None:
    return running_pid(_pid_file(folder), "ipmi_sim", str(folder / "state"))


def _end(folder: Path) -> None:
    pid = _pid(folder)
    if pid is not None:
        end(pid, patience_seconds=END_SECONDS)
    _pid_file(folder).unlink(missing_ok=True)


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content
