"""What is ours on a host, as its /var/lib/firstlight/manifest.json lists it: one file a line, sorted. Pure."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from bootstrap.errors import RenderError
from bootstrap.kubernetes.tree import HostFile, HostTree, LocalFile, Unit
from certs.secret import Secret

FILE = "/var/lib/firstlight/manifest.json"
JOURNAL = "/var/lib/firstlight/journal.json"

_PATH = re.compile(r"(/[A-Za-z0-9._@:+-]+)+")
_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


def sha256_of(file: HostFile) -> str:
    """Return the SHA-256 of a file's content in hex."""
    match file.content:
        case LocalFile(sha256=sha256):
            return sha256
        case Secret() as secret:
            return hashlib.sha256(secret.reveal()).hexdigest()
        case bytes() as content:
            return hashlib.sha256(content).hexdigest()


def entry(path: str, file: HostFile) -> dict[str, str]:
    """Return what the manifest holds of a file."""
    return {
        "path": path,
        "sha256": sha256_of(file),
        "mode": f"{file.mode:04o}",
        "owner": file.owner,
        "group": file.group,
    }


def manifest(cluster: str, tree: HostTree) -> bytes:
    """Return the manifest of a host that holds exactly `tree`; the same tree gives the same bytes.

    Raises:
        RenderError: a path or owner has characters that the script on the host could misread.
    """
    for path, file in tree.files.items():
        if not _PATH.fullmatch(path) or not all(map(_NAME.fullmatch, (file.owner, file.group))):
            raise RenderError(f"{path} ({file.owner}:{file.group}): no name for a file on a host")
    return _document(cluster, tree.host, [entry(path, file) for path, file in tree.files.items()])


def journal(cluster: str, tree: HostTree, going: Iterable[str]) -> bytes:
    """Return what is ours while `tree` is being put in place and `going` is not yet removed."""
    gone = HostFile(b"")
    entries = [entry(path, tree.files.get(path, gone)) for path in sorted({*tree.files, *going})]
    return _document(cluster, tree.host, entries)


def _document(cluster: str, host: str, entries: Iterable[Mapping[str, str]]) -> bytes:
    # One entry a line, `path` first: the host reads it with sed.
    lines = ",\n".join(json.dumps(values) for values in entries)
    names = f'"cluster": {json.dumps(cluster)}, "host": {json.dumps(host)}'
    return f'{{{names}, "files": [\n{lines}\n]}}\n'.encode()


def sums_of(content: bytes | None) -> dict[str, str]:
    """Return the SHA-256 of each path that a manifest lists; nothing of one that cannot be read."""
    return {str(values["path"]): str(values["sha256"]) for values in _read(content).get("files", ())}


def _read(content: bytes | None) -> dict[str, Any]:
    try:
        read = json.loads(content or b"{}")
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def stamp_of(unit: Unit, tree: HostTree) -> str:
    """Return a digest of everything in `tree` that `unit` reads, with owners and modes."""
    read = [entry(path, file) for path, file in tree.files.items() if unit.is_touched_by(path)]
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()
