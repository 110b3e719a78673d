"""What a host says of itself, parsed: everything that `configs/hosts/apply look` prints. Pure."""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bootstrap.apply.manifest import sums_of
from bootstrap.host_errors import StepFailed

_ID = re.compile(r"^(ID|ID_LIKE|VERSION_ID|PRETTY_NAME)=(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Found:
    """What stands at a path: `kind` is file, link, folder, other or absent; the rest is of a file alone.

    `content` is there only where it was asked for, and differs from what is wanted.
    """

    kind: str = "absent"
    sha256: str = ""
    mode: int = 0
    owner: str = ""
    group: str = ""
    content: bytes | None = None


@dataclass(frozen=True)
class UnitFacts:
    """How a unit is doing; `stamp` is the digest of what it read when we last started it.

    `kind` is a service's Type: one that is "oneshot" has done its work when it is over.
    """

    load: str = "not-found"
    active: str = "inactive"
    pid: int = 0
    enabled: str = ""
    stamp: str = ""
    kind: str = ""

    @property
    def is_up(self) -> bool:
        """Return whether it runs, or need not."""
        return self.active in {"active", "reloading"} or (self.kind == "oneshot" and self.active != "failed")


@dataclass(frozen=True)
class Space:
    """The free bytes for a folder, and the number of the file system that it is on."""

    free: int
    device: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything that a look at the host `name` found; `clock` is its time in seconds since 1970.

    `certificate` is that of its kubelet in PEM; it and `tools`, what a node needs and has, are asked of nodes only.
    """

    name: str
    os: Mapping[str, str] = field(default_factory=dict)
    arch: str = ""
    systemd: int = 0
    clock: int = 0
    space: Mapping[str, Space] = field(default_factory=dict)
    manifest: bytes | None = None
    journal: bytes | None = None
    is_cut: bool = False
    files: Mapping[str, Found] = field(default_factory=dict)
    units: Mapping[str, UnitFacts] = field(default_factory=dict)
    etcd_wal: bytes | None = None
    had_etcd: bool = False
    has_node_key: bool = False
    certificate: bytes = b""
    tools: frozenset[str] = frozenset()

    @property
    def ours(self) -> frozenset[str]:
        """Return the paths that are ours: those listed, and those that a cut run was about to make."""
        return frozenset({*sums_of(self.manifest), *sums_of(self.journal)})

    def is_as_left(self, path: str) -> bool:
        """Return whether the file at `path` holds what an earlier run put there, or was about to."""
        sha256 = self.files.get(path, Found()).sha256
        return sha256 in {sums_of(self.manifest).get(path), sums_of(self.journal).get(path)}


@dataclass(frozen=True)
class Said:
    """One line of a host's answer."""

    fact: str
    name: str
    value: str

    @property
    def content(self) -> bytes:
        """Return the value of a line that is base64."""
        return base64.b64decode(self.value, validate=True)


def lines_of(host: str, stdout: bytes) -> tuple[Said, ...]:
    """Return the lines of an answer.

    Raises:
        StepFailed: it is not what our script prints; something else wrote there, a login script for instance.
    """
    try:
        return tuple(_lines(stdout.decode()))
    except (ValueError, KeyError, TypeError) as error:
        shown = stdout[:80].decode(errors="replace")
        raise StepFailed(
            host,
            f"host {host}: an answer cannot be read ({shown!r}); does a login script of its user print something?",
        ) from error


def _lines(text: str) -> Iterator[Said]:
    for line in text.splitlines():
        values = json.loads(line)
        yield Said(str(values["fact"]), str(values["name"]), str(values["value"]))


def facts_from(host: str, stdout: bytes) -> Facts:
    """Return the facts in what `look` printed.

    Raises:
        HostError: the answer is cut off or is none of ours.
    """
    said = lines_of(host, stdout)
    words = {line.name: line.value for line in said if line.fact == "word"}
    if "end" not in words:
        raise StepFailed(host, f"host {host}: its answer is cut off; run this again")
    try:
        return _facts(host, said, words)
    except (ValueError, binascii.Error) as error:
        raise StepFailed(host, f"host {host}: an answer cannot be read: {error}") from error


def _facts(host: str, said: tuple[Said, ...], words: Mapping[str, str]) -> Facts:
    texts = {line.name: line.content for line in said if line.fact == "text"}
    return Facts(
        name=host,
        os=_os_from(texts.get("os-release", b"")),
        arch=words.get("arch", ""),
        systemd=int(words.get("systemd") or 0),
        clock=int(words.get("clock") or 0),
        space={line.name: _space_from(line.value) for line in said if line.fact == "space"},
        manifest=texts.get("manifest"),
        journal=texts.get("journal"),
        is_cut="leftover" in words,
        files=_files_from(said),
        units=_units_from(said, texts.get("units", b"")),
        etcd_wal=texts.get("etcd-wal"),
        had_etcd="etcd-marked" in words,
        has_node_key="node-key" in words,
        certificate=texts.get("certificate", b""),
        tools=frozenset(line.name for line in said if line.fact == "tool"),
    )


def _os_from(content: bytes) -> dict[str, str]:
    found = _ID.findall(content.decode(errors="replace"))
    return {name: value.strip("\"'") for name, value in found}


def _space_from(value: str) -> Space:
    kib, device = value.split()
    return Space(int(kib) * 1024, device)


def _files_from(said: tuple[Said, ...]) -> dict[str, Found]:
    contents = {line.name: line.content for line in said if line.fact == "content"}
    return {
        line.name: _found_from(line.value, contents.get(line.name)) for line in said if line.fact == "file"
    }


def _found_from(value: str, content: bytes | None) -> Found:
    kind, *rest = value.split()
    if not rest:
        return Found(kind)
    sha256, mode, owner, group = rest
    return Found(kind, sha256, int(mode, 8), owner, group, content)


def _units_from(said: tuple[Said, ...], shown: bytes) -> dict[str, UnitFacts]:
    stamps = {line.name: line.value for line in said if line.fact == "stamp"}
    blocks = (
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in shown.decode(errors="replace").split("\n\n")
    )
    return {
        block["Id"]: UnitFacts(
            load=block.get("LoadState", ""),
            active=block.get("ActiveState", ""),
            pid=int(block.get("MainPID") or 0),
            enabled=block.get("UnitFileState", ""),
            stamp=stamps.get(block["Id"], ""),
            kind=block.get("Type", ""),
        )
        for block in blocks
        if "Id" in block
    }
