"""What stands in a folder of keys, as a table for people; needs no key and no passphrase."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from certs.errors import DamagedFile
from certs.folder import Folder
from certs.pem import certificate_from
from certs.review import Facts, facts, is_near_end
from certs.wanted import LEAF_LIFE, Wanted, WantedCa, WantedKeyPair


class Condition(enum.Enum):
    """How a certificate does, worst thing first."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    EXPIRED = "expired"
    NOT_YET = "not yet valid"
    DUE = "due for renewal"
    UNUSED = "not in the configuration"
    OK = "ok"


@dataclass(frozen=True, kw_only=True)
class StatusRow:
    """One certificate: `file` is relative to the folder; `left` is negative once it expired.

    `expires` and `left` are None for a file that is missing or cannot be read.
    """

    file: str
    condition: Condition
    common_name: str = ""
    organization: str = ""
    sans: tuple[str, ...] = ()
    issuer: str = ""
    expires: datetime | None = None
    left: timedelta | None = None


def status(folder: Path, rows: Sequence[Wanted], now: datetime) -> tuple[StatusRow, ...]:
    """Return a row for each certificate of `rows`, in their order, then for files that `rows` do not name.

    Raises:
        UnusableFolder: the folder cannot be read.
    """
    shelf = Folder(folder)
    wanted = {f"{row.name}.crt": row for row in rows if not isinstance(row, WantedKeyPair)}
    unused = tuple(name for name in shelf.names(".crt") if name not in wanted)
    return (
        *(_row(shelf, file, row, now) for file, row in wanted.items()),
        *(_row(shelf, file, None, now) for file in unused),
    )


def _row(shelf: Folder, file: str, row: Wanted | None, now: datetime) -> StatusRow:
    content = shelf.read(file)
    if content is None:
        return StatusRow(file=file, condition=Condition.MISSING)
    try:
        certificate = certificate_from(content, where=file, remedy="renew it")
    except DamagedFile:
        return StatusRow(file=file, condition=Condition.UNREADABLE)
    return _readable_row(file, facts(certificate), row, now)


def _readable_row(file: str, said: Facts, row: Wanted | None, now: datetime) -> StatusRow:
    return StatusRow(
        file=file,
        condition=_condition(said, row, now),
        common_name=said.common_name,
        organization=said.organization or "",
        sans=said.sans,
        issuer=said.issuer,
        expires=said.end,
        left=said.end - now,
    )


def _condition(said: Facts, row: Wanted | None, now: datetime) -> Condition:
    if now >= said.end:
        return Condition.EXPIRED
    if row is None:
        return Condition.UNUSED
    if now < said.start:
        return Condition.NOT_YET
    return Condition.DUE if _is_due(said, row, now) else Condition.OK


def _is_due(said: Facts, row: Wanted, now: datetime) -> bool:
    # From one leaf's life before its end on, an authority can no longer give its leaves a full one.
    if isinstance(row, WantedCa):
        return said.end - now <= LEAF_LIFE
    return is_near_end(said.start, said.end, now)
