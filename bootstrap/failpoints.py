"""Named places where a test can make this program fail; without FIRSTLIGHT_FAILPOINTS they do nothing.

The variable is set by tests only: `store.commit.before=kill@3,pxe.report.before=sleep:2`. Each entry is NAME=ACTION,
with `@N` for the Nth time in a process alone, or `%N` for every Nth time; else each time.

Actions: `kill` (SIGKILL to ourselves, as the kernel does when memory runs out), `raise` (OSError EIO, as a dying disk
does), `sleep:SECONDS`.
"""

import errno
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType

VARIABLE = "FIRSTLIGHT_FAILPOINTS"
EXIT_REFUSED = 70  # EX_SOFTWARE of sysexits.h: whoever sets the variable made a mistake

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "store.commit.before": "A transaction is complete and not committed.",
        "store.commit.after": "A transaction is committed, and nobody knows it yet.",
        "etcd.commit.before": "A transaction is complete and not sent to etcd.",
        "etcd.commit.after": "A majority of etcd has committed, and nobody here knows it yet.",
        "ledger.batch.before": "Decisions are made, and their writes not handed to the store.",
        "ignition.answer.before": "A machine's stage A document was found, and is not sent.",
        "web.answer.before": "What a request changed is on the disk, and its sender has no answer.",
        "claim.bind.before": "A claim was found right, and its key is not bound.",
        "claim.bind.after": "A key is bound, and the cluster knows nothing of it.",
        "claim.approve.before": "A request is in the cluster, and not approved.",
        "claim.approve.after": "A request is approved, and nobody waits for its certificate yet.",
        "claim.issue.before": "The cluster has made a certificate, and we have not written it down.",
        "claim.issue.after": "A certificate is written down, and its machine has not got it.",
        "pxe.report.before": "Events of the wire are about to be posted to web.",
        "pxe.report.after": "Web has taken events, and pxe still holds them.",
        "disk.file.before": "A file is complete under its passing name.",
        "disk.file.after": "A file has its name, and its folder is not synced.",
        "disk.bundle.before": "A bundle is complete under its passing name.",
        "disk.bundle.after": "A bundle has its name, and the old one is not removed.",
        "apply.step.before": "A step on a control-plane host is about to be done.",
        "apply.step.after": "A step on a control-plane host is done, and nothing on this computer knows it.",
        "artifact.rename.before": "An artifact or manifest is complete under its passing name.",
        "artifact.rename.after": "An artifact or manifest has its name, and its folder is not synced.",
        "mirror.rename.before": "A file of the mirror is complete and checked under its passing name.",
        "mirror.rename.after": "A file of the mirror has its name, and the lock does not know it.",
        "handover.fence.after": "A fence is written, and what it allows or forbids not done.",
        "handover.step.before": "A step of a handover is about to be done.",
        "handover.step.after": "A step of a handover is done, and the next one not begun.",
        "backup.rename.before": "A backup is complete under its passing name, and was read again.",
        "backup.rename.after": "A backup has its name, and its folder is not synced.",
        "move.mark.after": "The store that the state moves to is marked as a copy.",
        "move.leaving.after": "The store that the state leaves is closed, and nothing is copied.",
        "move.copy.after": "A part of the state is copied.",
        "move.compare.after": "Both stores are equal, and neither is the state's home.",
        "move.left.after": "The old store says where the state went, and the new one is still closed.",
        "restore.swap.before": "A backup is unpacked beside the work folder, which is as it was.",
        "restore.swap.after": "The work folder is the backup's, and what it was has its passing name.",
    }
)

log = logging.getLogger(__name__)

_ENTRY = re.compile(
    r"(?P<name>[a-z.]+)=(?P<action>kill|raise|sleep:\d+(?:\.\d+)?)(?:(?P<how>[@%])(?P<n>[1-9]\d*))?"
)


class Failpoint:
    """What happens at one name, and how often it was reached in this process."""

    def __init__(self, name: str, action: str, *, how: str | None, number: int) -> None:
        self._name = name
        self._action = action
        self._how = how
        self._number = number
        self._count = 0
        self._lock = threading.Lock()

    def reached(self) -> None:
        """Do the action if it is its turn.

        Raises:
            OSError: the action is `raise`.
        """
        with self._lock:
            self._count += 1
            count = self._count
        if self._is_due(count):
            self._act()

    def _is_due(self, count: int) -> bool:
        if self._how == "@":
            return count == self._number
        return count % self._number == 0

    def _act(self) -> None:
        os.write(2, f"failpoint {self._name}: {self._action}\n".encode())
        kind, _, seconds = self._action.partition(":")
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif kind == "raise":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        else:
            time.sleep(float(seconds))


def parse(text: str) -> dict[str, Failpoint]:
    """Return the failpoints that `text` arms, by name.

    Raises:
        ValueError: an entry is not NAME=ACTION, or there is no such name.
    """
    return dict(map(_parse_entry, filter(None, text.split(","))))


def _parse_entry(entry: str) -> tuple[str, Failpoint]:
    match = _ENTRY.fullmatch(entry.strip())
    if match is None:
        raise ValueError(f"{entry!r} is not NAME=kill|raise|sleep:SECONDS, perhaps with @N or %N behind it")
    if match["name"] not in NAMES:
        raise ValueError(f"no failpoint is called {match['name']!r}; there are: {', '.join(NAMES)}")
    return match["name"], Failpoint(
        match["name"], match["action"], how=match["how"], number=int(match["n"] or 1)
    )


def _from_environment() -> dict[str, Failpoint]:
    text = os.environ.get(VARIABLE)
    if not text:
        return {}
    try:
        armed = parse(text)
    except ValueError as error:
        sys.stderr.write(f"{VARIABLE}: {error}\n")
        raise SystemExit(EXIT_REFUSED) from error
    log.warning("%s is set: this process fails on purpose (%s)", VARIABLE, text)
    return armed


_ARMED = _from_environment()


def reached(name: str) -> None:
    """Do what a test wants to happen here; nothing else than that, and nothing without a test.

    Raises:
        OSError: the test wants the disk to fail here.
    """
    if _ARMED and (failpoint := _ARMED.get(name)):
        failpoint.reached()
