"""Where a cluster's generated things live: `deploy/<cluster>/`, the shared cache, and the folder under /run."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bootstrap.environment import ROOT
from bootstrap.errors import UsageError

PRIVATE = 0o700
FENCE = "handed-over.json"
"""File of a work folder whose appliance was handed over (bootstrap/handover/fence.py)."""


def why_closed(work: Path) -> str:
    """Return why nothing may answer machines from the work folder `work`; empty if it may."""
    if not (work / FENCE).exists():
        return ""
    return (
        f"{work / FENCE}: this appliance was handed over to its cluster, and two of it would give out the same"
        " addresses; bring it back first: deploy.py handover --back"
    )


@dataclass(frozen=True)
class Workplace:
    """The folders of the cluster called `name` below `deploy`; nothing is made before it is needed."""

    deploy: Path
    name: str

    @property
    def work(self) -> Path:
        """Return `deploy/<cluster>`, which holds keys and state: mode 0700."""
        return self.deploy / self.name

    @property
    def cache(self) -> Path:
        """Return the folder of images and artifacts, shared by all clusters."""
        return Path(os.environ.get("FIRSTLIGHT_CACHE") or self.deploy / "cache").resolve()

    @property
    def runtime(self) -> Path:
        """Return the folder for what dnsmasq, which drops its privileges, must reach; `down` removes it.

        Clusters of one name in two work folders have one each.
        """
        owner = hashlib.sha256(bytes(self.work.resolve())).hexdigest()[:8]
        return Path("/run/firstlight") / f"{self.name}-{owner}"

    @property
    def bundle(self) -> Path:
        """Return the folder of the rendered documents."""
        return self.work / "bundle"

    @property
    def serve_pid(self) -> Path:
        """Return the file that holds the pid of the running appliance."""
        return self.work / "run" / "serve.pid"

    @property
    def serve_log(self) -> Path:
        """Return the log of the appliance that runs in the background."""
        return self.work / "log" / "serve.log"

    def make(self) -> None:
        """Make the work folder, for its owner alone."""
        self.work.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        self.work.chmod(PRIVATE)
        for name in ("run", "log"):
            (self.work / name).mkdir(mode=PRIVATE, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the cluster for one command that changes it; the kernel frees the lock of a killed one.

        Raises:
            UsageError: another command holds it.
        """
        self.make()
        with (self.work / "run" / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                owner = file.read().strip() or "unknown"
                raise UsageError(
                    f"cluster {self.name}: another deploy.py works on it (pid {owner})"
                ) from error
            file.truncate(0)
            with suppress(OSError):  # it is for people only, and `down` must work on a full disk
                os.write(file.fileno(), str(os.getpid()).encode())
            yield


def default_deploy() -> Path:
    """Return `deploy/` of this checkout, or the folder that FIRSTLIGHT_DEPLOY names."""
    return Path(os.environ.get("FIRSTLIGHT_DEPLOY") or ROOT / "deploy").resolve()
