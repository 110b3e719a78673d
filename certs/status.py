"""What stands in a folder of keys, as a table for people; needs no key and no passphrase."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from certs.errors import DamagedFile
from certs.folder import Folder
from certs.pem import certificate_from
from certs.review import Facts, facts, is_near_end
from certs.wanted import Wanted, WantedKeyPair


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
    wanted = tuple(f"{row.name}.crt" for row in rows if not isinstance(row, WantedKeyPair))
    unused = tuple(name for name in shelf.names(".crt") if name not in wanted)
    return (
        *(_row(shelf, file, now, otherwise=Condition.OK) for file in wanted),
        *(_row(shelf, file, now, otherwise=Condition.UNUSED) for file in unused),
    )


def _row(shelf: Folder, file: str, now: datetime, *, otherwise: Condition) -> StatusRow:
    content = shelf.read(file)
    if content is None:
        return StatusRow(file=file, condition=Condition.MISSING)
    try:
        certificate = certificate_from(content, where=file, remedy="renew it")
    except DamagedFile:
        return StatusRow(file=file, condition=Condition.UNREADABLE)
    return _readable_row(file, certificate, now, otherwise)


def _readable_row(file: str, certificate: x509.Certificate, now: datetime, otherwise: Condition) -> StatusRow:
    said = facts(certificate)
    return StatusRow(
        file=file,
        condition=_condition(said, now, otherwise),
        common_name=said.common_name,
        organization=said.organization or "",
        sans=said.sans,
        issuer=said.issuer,
        expires=said.end,
        left=said.end - now,
    )


def _condition(said: Facts, now: datetime, otherwise: Condition) -> Condition:
    if now >= said.end:
        return Condition.EXPIRED
    if otherwise is Condition.UNUSED:
        return otherwise
    if now < said.start:
        return Condition.NOT_YET
    return Condition.DUE if is_near_end(said.start, said.end, now) else otherwise
