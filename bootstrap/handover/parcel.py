"""What goes to the cluster, as bytes: one archive for the documents and one for the state of each part; pure.

An archive is a gzip of a tar of plain files, the same for the same files. It travels in Secrets, cut in pieces: an
object of Kubernetes holds at most 1 MiB (kubernetes.io, "Secrets").
"""

import base64
import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bootstrap import sums
from bootstrap.containers.table import CONTAINERS, KEYS, Name, home, is_for
from bootstrap.errors import UsageError
from bootstrap.render.bundle import Bundle

PIECE_BYTES = 768 << 10
MOST_PIECES = 64
NAMESPACE = "firstlight"
PART, KIND = "firstlight.dev/part", "firstlight.dev/parcel"
"""Labels of our objects."""
READABLE, SECRET, OWN = 0o444, 0o400, 0o600
DIGITS = 12

Kind = Literal["documents", "state"]
Tree = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A file of a parcel: its content, permission bits, and the number of its user and group."""

    content: bytes
    mode: int = READABLE
    owner: int = 0


Entries = Mapping[str, Entry]
"""By path below the appliance's folder on the node; that is laid out as a work folder."""


@dataclass(frozen=True)
class Parcel:
    """One archive on its way: for which part, and what it holds."""

    part: Name
    kind: Kind
    archive: bytes

    @property
    def sum(self) -> str:
        """Return the SHA-256 of the archive in hex."""
        return hashlib.sha256(self.archive).hexdigest()

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """Return the archive cut in pieces that fit into a Secret each."""
        starts = range(0, len(self.archive), PIECE_BYTES)
        return tuple(self.archive[start : start + PIECE_BYTES] for start in starts)

    @property
    def secret_names(self) -> tuple[str, ...]:
        """Return the names of the Secrets, one for each piece; another content has other names."""
        stem = f"{self.part}-{self.kind}-{self.sum[:DIGITS]}"
        return tuple(f"{stem}-{number:03}" for number in range(len(self.pieces)))

    def secrets(self) -> tuple[Tree, ...]:
        """Return the Secrets that carry it, as in a manifest.

        Raises:
            UsageError: it is larger than we put into a cluster's etcd.
        """
        if len(self.pieces) > MOST_PIECES:
            raise UsageError(
                f"the {self.kind} of {self.part} take {len(self.archive) >> 20} MiB, and at most"
                f" {MOST_PIECES * PIECE_BYTES >> 20} MiB go through the cluster's API; run it where it is"
            )
        labels = {"app.kubernetes.io/name": "firstlight", PART: self.part, KIND: self.kind}
        return tuple(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
                "immutable": True,
                "type": "Opaque",
                "data": {"piece": base64.b64encode(piece).decode("ascii")},
            }
            for name, piece in zip(self.secret_names, self.pieces, strict=True)
        )


def packed(part: Name, kind: Kind, entries: Entries) -> Parcel:
    """Return the parcel of `entries`: the same entries, the same bytes."""
    target = io.BytesIO()
    # USTAR: nothing in it but names, owners, modes and bytes.
    with (
        gzip.GzipFile(fileobj=target, mode="wb", mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for path, entry in sorted(entries.items()):
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(entry.content), entry.mode
            member.uid = member.gid = entry.owner
            tar.addfile(member, io.BytesIO(entry.content))
    return Parcel(part, kind, target.getvalue())


def documents(part: Name, bundle: Bundle, pki: Mapping[str, bytes], programs: bytes | None) -> Entries:
    """Return what a part reads: its documents, and its keys and certificates of `pki` (by path there).

    `programs` is what web is told of the programs that nodes run (binaries.json). A CA's key is never among them:
    KEYS names what each may read.
    """
    owner = CONTAINERS[part].user or 0
    wanted = {path: file.content for path, file in bundle.items() if is_for(part, path)}
    texts = {**wanted, sums.NAME: sums.text_of(wanted)}
    found = {home(part, "bundle", path): Entry(content) for path, content in texts.items()}
    for path in KEYS[part]:
        if path in pki:
            mode = SECRET if path.endswith(".key") else READABLE
            found[home(part, "pki", path)] = Entry(pki[path], mode, owner)
    if part == "web" and programs is not None:
        found[home("web", "records", "binaries.json")] = Entry(programs, OWN, owner)
    return found


def state(part: Name, files: Mapping[str, bytes]) -> Entries:
    """Return the state of a part: files by path below its folder, which it goes on writing."""
    owner = CONTAINERS[part].user or 0
    return {path: Entry(content, OWN, owner) for path, content in files.items()}
