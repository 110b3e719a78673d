"""What a backup says of itself: its first member, which all others must fit exactly."""

import re
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

FORMAT = 1
NAME = "manifest.json"
STATE = "state/state.db"
SNAPSHOT = "etcd.snapshot"
CONFIG = "config"
FOLDERS = ("pki", "known_hosts")
"""Folders of the work folder that a backup holds whole."""
FILES = ("accepted.json", "pod-subnets.json", "etcd.json", "binaries.json")
"""Files of the work folder that a backup holds, besides the store."""

MOST_MEMBERS = 100_000
MOST_BYTES = 32 << 30
"""Of all members together; etcd itself stops at 8 GiB."""
OWNER_ONLY, FOR_ALL = 0o600, 0o644

_PLAIN = r"[A-Za-z0-9][A-Za-z0-9._+@-]*"
_PATH = re.compile(
    rf"(?:{'|'.join(map(re.escape, (STATE, SNAPSHOT, *FILES)))})|(?:{'|'.join((*FOLDERS, CONFIG))})(?:/{_PLAIN})+"
)
LONGEST_PATH = 100
"""Bytes of a name in a tar header (POSIX.1-1988 ustar); longer ones would take a header of their own."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Member(_Model):
    """A file of the backup: its path (as in the work folder, or below config/), bytes, sha256 in hex, and mode."""

    path: Annotated[str, StringConstraints(max_length=LONGEST_PATH)]
    size: Annotated[int, Field(ge=0, le=MOST_BYTES)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    mode: Literal[0o600, 0o644]

    @model_validator(mode="after")
    def _has_its_place(self) -> Self:
        if not is_place(self.path):
            raise ValueError(f"a backup has no place for {self.path!r}")
        return self


class Manifest(_Model):
    """The table of contents, in the order of the archive; `etcd_missing` says why no snapshot of etcd is in it."""

    format: int = FORMAT
    cluster: str
    version: str
    taken_at: datetime
    etcd_missing: str = ""
    members: Annotated[tuple[Member, ...], Field(max_length=MOST_MEMBERS)]

    @model_validator(mode="after")
    def _is_a_tree(self) -> Self:
        paths = [member.path for member in self.members]
        if len(set(paths)) < len(paths):
            raise ValueError("a path is in it twice")
        folders = {path[:end] for path in paths for end, sign in enumerate(path) if sign == "/"}
        if both := folders & set(paths):
            raise ValueError(f"{min(both)!r} is a file and a folder")
        if self.size > MOST_BYTES:
            raise ValueError(f"{self.size} bytes are more than a backup has")
        return self

    @property
    def size(self) -> int:
        """Return the bytes of all members together."""
        return sum(member.size for member in self.members)

    @property
    def has_snapshot(self) -> bool:
        """Return whether a snapshot of etcd is in it."""
        return any(member.path == SNAPSHOT for member in self.members)


def is_place(path: str) -> bool:
    """Return whether a backup may hold a file at `path`: no absolute path, no hidden name, nothing that leads out."""
    return len(path.encode()) <= LONGEST_PATH and _PATH.fullmatch(path) is not None
