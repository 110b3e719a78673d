"""Shows how a file on a host differs from what it will be; secrets and binaries are named, never shown. Pure."""

import difflib

from bootstrap.kubernetes.tree import HostFile, LocalFile
from certs.secret import Secret

LONGEST = 64 * 1024
"""Bytes of a file from which on its diff is not shown."""
_SECRET_MARKS = (b"PRIVATE KEY-----", b"client-key-data:")


def is_shown(file: HostFile) -> bool:
    """Return whether people may see the content of this file, on the host and here."""
    match file.content:
        case Secret() | LocalFile():
            return False
        case bytes() as content:
            return not _holds_secret(content) and len(content) <= LONGEST and _is_text(content)


def diff(path: str, old: bytes | None, file: HostFile) -> str:
    """Return the unified diff from `old` (None: absent, or not looked at) to `file`."""
    if isinstance(file.content, Secret) or _holds_secret(old or b""):
        return _note(path, "holds a secret: not shown")
    if isinstance(file.content, LocalFile) or not is_shown(file) or not _is_text(old or b""):
        return _note(path, "not text: not shown")
    lines = difflib.unified_diff(
        (old or b"").decode().splitlines(keepends=True),
        file.content.decode().splitlines(keepends=True),
        "/dev/null" if old is None else path,
        path,
    )
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def _note(path: str, text: str) -> str:
    return f"--- {path}\n+++ {path}\n({text})\n"


def _holds_secret(content: bytes) -> bool:
    return any(mark in content for mark in _SECRET_MARKS)


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False
