"""The documents that machines get: rendered ahead, copied into the store when the bundle has changed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from bootstrap.state import Delete, Put, Store, Write, parted, room_of

LIVE = "live"  # Ignition of stage A: holds no secret by type
INSTALLED = "installed"  # Ignition of the installed system: over HTTPS, for the machine's own arm
NODE = "node"  # what a running node runs with (bootstrap/render/node.py): all of it public, over HTTPS
FILES = {LIVE: "live.ign", INSTALLED: "installed.ign", NODE: "node.json"}
"""Where the documents of a machine stand in its folder of the bundle; machines that do not join have no NODE."""

_DIGEST = "meta/documents"


@dataclass(frozen=True, kw_only=True)
class Document:
    """A rendered document; `etag` is the sha256 of its content in hex. One that `is_stale` may be of the past."""

    content: bytes
    revision: int
    etag: str
    is_stale: bool = False


class Documents:
    """The table of documents by MAC and kind; a read costs the same for one machine or ten thousand."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, mac: str, kind: str) -> Document | None:
        """Return the machine's document of this kind, or None."""
        entry = self._store.get(key_of(mac, kind))
        if entry is None:
            return None
        etag = hashlib.sha256(entry.value).hexdigest()
        return Document(content=entry.value, revision=entry.revision, etag=etag)

    def replace(self, documents: Mapping[tuple[str, str], bytes]) -> bool:
        """Make `documents` (keyed MAC, kind) the whole table; return whether anything changed.

        It is one commit, or as few as the store takes: then nothing says that the table is whole before the last, and
        whoever was interrupted does the rest the next time. A document that stays the same keeps its revision.
        """
        wanted = {key_of(*key): content for key, content in documents.items()}
        digest = _digest(wanted)
        stored = self._store.get(_DIGEST)
        if stored is not None and stored.value == digest:
            return False
        found = {entry.key: entry.value for entry in self._store.scan("document/")}
        writes: list[Write] = [Delete(key=key) for key in found if key not in wanted]
        writes += [Put(key=key, value=text) for key, text in wanted.items() if found.get(key) != text]
        *earlier, last = [*parted([*writes, Put(key=_DIGEST, value=digest)], room_of(self._store))]
        for some in earlier:
            self._store.commit([Put(key=_DIGEST, value=b"in parts"), *some])
        self._store.commit(last)
        return True

    def are_loaded(self) -> bool:
        """Return whether a bundle was ever loaded."""
        return self._store.get(_DIGEST) is not None


def key_of(mac: str, kind: str) -> str:
    """Return where the store has a machine's document of this kind."""
    return f"document/{mac}/{kind}"


def _digest(wanted: Mapping[str, bytes]) -> bytes:
    whole = hashlib.sha256()
    for key in sorted(wanted):
        whole.update(f"{key}\0{hashlib.sha256(wanted[key]).hexdigest()}\n".encode())
    return whole.hexdigest().encode()
