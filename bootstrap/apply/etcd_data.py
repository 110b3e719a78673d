"""Which etcd cluster a data folder belongs to, told without etcd running; and what must not be started. Pure.

An existing data folder is never written over: what is not provably this cluster's stops the run.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from bootstrap.apply.facts import Facts
from bootstrap.kubernetes.tree import HostTree

UNIT = "etcd.service"
FOLDER = "/var/lib/etcd"
DEFAULT_TOKEN = "etcd-cluster"  # noqa: S105  # etcd's own default; it is no secret

_METADATA = 1  # record type, etcd server/storage/wal/wal.go
_MASK = (1 << 56) - 1
_VARINT = 0
_BYTES = 2
_INITIAL = re.compile(rb"initial[-_]cluster(?:=|\s+)[\"']?([^\s\"'\\]+)", re.IGNORECASE)
_TOKEN = re.compile(rb"initial[-_]cluster[-_]token(?:=|\s+)[\"']?([^\s\"'\\]+)", re.IGNORECASE)


class Ids(NamedTuple):
    """Whose data a folder holds: numbers of 64 bits, as etcdctl shows them in hex."""

    cluster: int
    member: int


@dataclass(frozen=True)
class Etcd:
    """The etcd cluster of a configuration: its number, each member's number, and who has been up already."""

    cluster: int
    members: Mapping[str, int]
    seen: frozenset[str] = field(default_factory=frozenset)

    def to_json(self) -> bytes:
        """Return the record that is kept in the work folder."""
        values = {
            "clusterId": f"{self.cluster:016x}",
            "members": {name: f"{number:016x}" for name, number in sorted(self.members.items())},
            "seen": sorted(self.seen),
        }
        return json.dumps(values, indent=1).encode() + b"\n"


def from_json(content: bytes) -> Etcd:
    """Return the record that `to_json` wrote.

    Raises:
        ValueError: it is none.
    """
    try:
        values = json.loads(content)
        members = {str(name): int(number, 16) for name, number in values["members"].items()}
        return Etcd(int(values["clusterId"], 16), members, frozenset(values["seen"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


def wanted(trees: Iterable[HostTree]) -> Etcd | None:
    """Return the cluster that etcd makes of the flags in `trees` when it starts for the first time; None without etcd.

    etcd numbers a member by the SHA-1 of its peer URLs and the token, and the cluster by that of its members
    (etcd server/etcdserver/api/membership: computeMemberId, genID).
    """
    for tree in trees:
        for path, file in tree.files.items():
            if path.endswith("etcd.service") and isinstance(file.content, bytes):
                return _numbered(file.content)
    return None


def _numbered(unit: bytes) -> Etcd | None:
    initial, token = _INITIAL.search(unit), _TOKEN.search(unit)
    if initial is None:
        return None
    salt = token[1] if token else DEFAULT_TOKEN.encode()
    urls: dict[str, list[bytes]] = {}
    for part in initial[1].split(b","):
        name, _, url = part.partition(b"=")
        urls.setdefault(name.decode(), []).append(url)
    members = {name: _number(b"".join(sorted(each)) + salt) for name, each in urls.items()}
    return Etcd(_number(b"".join(number.to_bytes(8) for number in sorted(members.values()))), members)


def _number(content: bytes) -> int:
    return int.from_bytes(hashlib.sha1(content, usedforsecurity=False).digest()[:8])


def ids_in(wal: bytes) -> Ids | None:
    """Return whose data it is by the first bytes of a write-ahead log; None if they are none of etcd's.

    A log is a row of frames, each a length (8 bytes, little endian, the padding in its highest byte) and a record in
    protobuf: type, checksum, data. The first records of each file are a checksum and the metadata.
    """
    for kind, content in _records(wal):
        if kind == _METADATA:
            fields = dict(_fields(content))
            member, cluster = fields.get(1), fields.get(2)
            return Ids(cluster, member) if isinstance(cluster, int) and isinstance(member, int) else None
    return None


def _records(wal: bytes) -> Iterator[tuple[object, bytes]]:
    position = 0
    while position + 8 <= len(wal):
        head = int.from_bytes(wal[position : position + 8], "little")
        length, padding = head & _MASK, (head >> 56) & 7 if head >> 63 else 0
        if position + 8 + length > len(wal):
            return
        record = dict(_fields(wal[position + 8 : position + 8 + length]))
        content = record.get(3, b"")
        yield record.get(1), content if isinstance(content, bytes) else b""
        position += 8 + length + padding


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protobuf message; ends at what is cut off or none of etcd's."""
    position = 0
    while position < len(content):
        tag, position = _varint(content, position)
        value, position = _varint(content, position)
        if tag & 7 == _BYTES:
            yield tag >> 3, content[position : position + value]
            position += value
        elif tag & 7 == _VARINT:
            yield tag >> 3, value
        else:
            return


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    for byte in content[position : position + 10]:
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004  # the highest bit says that more follows
            break
    return value, position


def problems(etcd: Etcd, record: Etcd | None, facts: Mapping[str, Facts]) -> dict[str, str]:
    """Return what forbids to start etcd, as a line by host; `record` is what an earlier run wrote down."""
    found = {name: _problem(name, record or etcd, facts) for name in etcd.members if name in facts}
    return {name: text for name, text in found.items() if text}


def _problem(name: str, etcd: Etcd, facts: Mapping[str, Facts]) -> str:
    host = facts[name]
    if host.etcd_wal is None:
        return _lost(name, etcd) if host.had_etcd or name in etcd.seen else ""
    ids = ids_in(host.etcd_wal)
    if ids is None:
        return f"host {name}: {FOLDER} holds data that is not readable as etcd's; {_move(name)}"
    if ids.cluster != etcd.cluster:
        return (
            f"host {name}: {FOLDER} belongs to another etcd cluster ({ids.cluster:016x}; this one is "
            f"{etcd.cluster:016x}), and data is never written over; {_move(name)}"
        )
    others = [other for other, number in etcd.members.items() if number == ids.member and other != name]
    if others:
        return f"host {name}: {FOLDER} is a copy of the data of {others[0]}; {_move(name)}"
    return ""


def _move(name: str) -> str:
    return f"if nobody needs it, move it away on {name} (`mv {FOLDER} {FOLDER}.old`), then run this again"


def _lost(name: str, etcd: Etcd) -> str:
    others = [other for other in sorted(etcd.members) if other != name]
    if not others:
        return f"host {name}: the data of etcd in {FOLDER} is gone; bring it back with `restore`, then run this again"
    number = f"{etcd.members.get(name, 0):016x}"
    return (
        f"host {name}: it was a member of etcd and its data in {FOLDER} is gone; an empty member in its place could "
        f"lose writes. On {others[0]}: `etcdctl member remove {number}`, then `etcdctl member add {name}`, and start "
        f"it there once with --initial-cluster-state existing; or bring all members back with `restore`"
    )


def membership_problem(etcd: Etcd, record: Etcd | None) -> str:
    """Return why the members of the configuration cannot follow those that the cluster was made with, or nothing."""
    if record is None or not record.seen or dict(etcd.members) == dict(record.members):
        return ""
    return (
        f"etcd was made with the members {', '.join(sorted(record.members))} at their addresses; the configuration "
        f"has {', '.join(sorted(etcd.members))}: apply does not change members. Write the old ones back into "
        "etcd.members and controlPlane.hosts, or begin anew from a `backup`"
    )
