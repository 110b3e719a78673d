"""What web in its container writes for deploy.py, and reads of it: files that both have, kept alike in both places.

web accepts machines: it writes accepted.json and the pod subnets of new nodes into a folder that is its own alone.
What it writes there is read as anything that comes from outside, and becomes ours only when it makes sense; neither
list is ever made smaller. binaries.json goes the other way only.
"""

import logging
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from bootstrap import accepted, allotment
from bootstrap.disk import holding
from bootstrap.errors import StateError
from bootstrap.kubernetes import subnets
from bootstrap.model import Machine
from bootstrap.node_programs import RECORD
from bootstrap.records.model import Accepted

FILES = (accepted.FILE, allotment.FILE, RECORD)
MOST_BYTES = 16 << 20
"""Ten thousand accepted machines take 1.3 MB."""

log = logging.getLogger(__name__)
_ENTRIES = TypeAdapter(list[Accepted])
_T = TypeVar("_T")
Put = Callable[[Path, bytes], None]
Stamp = tuple[int, ...]


class Records:
    """The files of the folder `work` and of web's own folder `theirs`; `put` writes into that, owned by web."""

    def __init__(self, work: Path, theirs: Path, put: Put) -> None:
        self._work = work
        self._theirs = theirs
        self._put = put
        self._stamp: Stamp | None = None

    def follow(self) -> bool:
        """Bring both places to the same if either has changed since the last time; return whether one had.

        A file of ours that is damaged is for a person to mend; the appliance goes on.

        Raises:
            OSError: the disk does not take a file.
        """
        stamp = self._marks()
        if stamp == self._stamp or not self._theirs.is_dir():
            return False
        try:
            self.join()
        except StateError as error:
            log.warning("%s", error)
            self._stamp = stamp
        return True

    def join(self) -> None:
        """Bring both places to the same; while web changes its files, or has none, nothing is done.

        Raises:
            OSError: the disk does not take a file.
            StateError: one of our own files is damaged.
        """
        if not self._theirs.is_dir():
            return
        with holding(self._work), suppress(BlockingIOError), holding(self._theirs, is_patient=False):
            self._join_accepted()
            self._join_subnets()
            self._give(RECORD)
            self._stamp = self._marks()

    def _join_accepted(self) -> None:
        ours = {one.mac: one for one in accepted.read(self._work)}
        theirs = self._read(accepted.FILE, accepted_from) or {}
        accepted.write(self._work, {**ours, **theirs}.values())
        self._give(accepted.FILE)

    def _join_subnets(self) -> None:
        ours = allotment.recorded(self._work)
        theirs = self._read(allotment.FILE, subnets.parse) or {}
        if (both := subnets.joined(ours, theirs)) != ours:
            allotment.record(self._work, both)
        self._give(allotment.FILE)

    def _give(self, name: str) -> None:
        """Make web's file what ours is; one that we have not stays."""
        with suppress(FileNotFoundError):
            content = (self._work / name).read_bytes()
            if read_bounded(self._theirs / name) != content:
                self._put(self._theirs / name, content)

    def _read(self, name: str, parse: Callable[[bytes], _T]) -> _T | None:
        """Return what web has written, or None if that is nothing, or nothing that makes sense."""
        path = self._theirs / name
        content = read_bounded(path)
        if content is None:
            return None
        try:
            return parse(content)
        except ValueError as error:
            first = str(error).splitlines()[0]
            log.warning("%s: web wrote what is not taken over (%s); it is replaced", path, first)
            return None

    def _marks(self) -> Stamp:
        folders = (self._work, self._theirs)
        return tuple(number for folder in folders for name in FILES for number in _mark(folder / name))


def accepted_from(content: bytes) -> dict[str, Accepted]:
    """Return the accepted machines by MAC address.

    Raises:
        ValueError: one could not stand in a configuration (pydantic's own error is one).
    """
    found = _ENTRIES.validate_json(content)
    for one in found:
        Machine.model_validate(
            {"name": one.name, "mac": one.mac, "pool": one.pool, "address": one.address or None}
        )
    return {one.mac: one for one in found}


def read_bounded(path: Path) -> bytes | None:
    """Return the content of a plain file; None for anything else: a container has chosen what lies there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    return content if len(content) <= MOST_BYTES else None


def _mark(path: Path) -> Stamp:
    try:
        found = path.lstat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_ino, found.st_size)
