"""What tells one machine from another: its UUID and serial number, without the values that tell nothing. Pure.

The MAC address of the card that booted is the key under which we know a machine. UUID and serial number are claims of
its firmware: they cannot prove who it is, but two machines that make the same claim, or one that makes two, show that
something is not as the operator believes.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bootstrap.records.junk import TEXTS, UUIDS
from bootstrap.records.model import Evidence, Introduction

FEWEST_SIGNS = 4  # letters and digits; a shorter serial number is none
MOST_TOLD = 3  # clashes that are named; the rest is counted
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_NO_SIGN = re.compile(r"[^a-z0-9]")


@dataclass(frozen=True, order=True)
class Clash:
    """Another machine, known by its MAC, that claims the same `value` ("uuid 4c4c...")."""

    mac: str
    value: str


def uuid_of(text: str) -> str:
    """Return the UUID in `text` in lower case; empty if it is none, or one that tells nothing."""
    uuid = text.strip().lower()
    if not _UUID.fullmatch(uuid) or uuid in UUIDS:
        return ""
    octets = bytes.fromhex(uuid.replace("-", ""))
    return "" if len(set(octets)) == 1 else uuid


def serial_of(text: str) -> str:
    """Return the serial number in `text`, in lower case on one line; empty if it tells nothing."""
    serial = _plain(text)
    signs = _NO_SIGN.sub("", serial)
    is_junk = serial in TEXTS or len(signs) < FEWEST_SIGNS or len(set(signs)) == 1
    return "" if is_junk else serial


def evidence_of(*, uuid: str, serial: str, manufacturer: str) -> Evidence:
    """Return what these texts of a firmware are worth; serial numbers are unique for one maker only."""
    own = serial_of(serial)
    maker = _plain(manufacturer)
    return Evidence(uuid=uuid_of(uuid), serial=f"{maker} {own}".strip() if own else "")


def said_evidence(said: Introduction) -> Evidence:
    """Return what an introduction is worth."""
    return evidence_of(uuid=said.uuid, serial=said.serial, manufacturer=said.manufacturer)


def contradiction(known: Evidence, said: Evidence) -> str:
    """Return in what `said` differs from what was `known`, as a clause; empty if in nothing.

    What one of them leaves out contradicts nothing.
    """
    if known.uuid and said.uuid and not _same_uuid(known.uuid, said.uuid):
        return f"its uuid was {known.uuid} and now is {said.uuid}"
    if known.serial and said.serial and not _same_serial(known.serial, said.serial):
        return f"its serial number was {known.serial} and now is {said.serial}"
    return ""


def merged(known: Evidence, said: Evidence) -> Evidence:
    """Return `known` with what it left out taken from `said`."""
    return Evidence(uuid=known.uuid or said.uuid, serial=known.serial or said.serial)


def values(evidence: Evidence, cards: Iterable[str] = ()) -> frozenset[str]:
    """Return what no two machines may share: UUID, serial number, and the MAC addresses of its `cards`."""
    uuid = {f"uuid {evidence.uuid}"} if evidence.uuid else set()
    serial = {f"serial {evidence.serial}"} if evidence.serial else set()
    return frozenset(uuid | serial | {f"mac {card}" for card in cards})


def spellings(value: str) -> frozenset[str]:
    """Return the ways in which another machine may claim this one of `values`."""
    kind, _, text = value.partition(" ")
    return frozenset({value, f"uuid {swapped(text)}"} if kind == "uuid" else {value})


def swapped(uuid: str) -> str:
    """Return `uuid` with its first three fields in the other order of bytes: SMBIOS 2.6 changed it (DSP0134 7.2.1)."""
    first, second, third, *rest = uuid.split("-")
    return "-".join((*(bytes.fromhex(field)[::-1].hex() for field in (first, second, third)), *rest))


def told(clashes: Sequence[Clash], names: dict[str, str]) -> str:
    """Return `clashes` as a clause; `names` gives the names of machines by MAC. Empty if there is none."""
    if not clashes:
        return ""
    parts = [f"{clash.value} is also that of {names.get(clash.mac, clash.mac)}" for clash in sorted(clashes)]
    more = f" and {len(parts) - MOST_TOLD} more" if len(parts) > MOST_TOLD else ""
    return "; ".join(parts[:MOST_TOLD]) + more


def _plain(text: str) -> str:
    """Return `text` as it is compared: what is no ASCII reads differently in iPXE and in Linux."""
    ascii_only = text.encode("ascii", "ignore").decode()
    return " ".join(ascii_only.lower().split()).strip(" .")


def _same_serial(one: str, other: str) -> bool:
    """Return whether both are one serial number; one of them may come without its maker."""
    return one == other or one.endswith(f" {other}") or other.endswith(f" {one}")


def _same_uuid(one: str, other: str) -> bool:
    return other in (one, swapped(one))
