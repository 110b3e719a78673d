"""Secrets that a file holds: a password, a community, a token, a passphrase; one line, for its owner alone."""

from pathlib import Path

from bootstrap.errors import UsageError
from certs.secret import Secret


def secret_in(file: Path, what: str) -> Secret:
    """Return the first line of `file`; `what` it is stands in the error texts ("the passphrase").

    Raises:
        UsageError: the file cannot be read, holds nothing, or other users can read it.
    """
    try:
        line = file.read_bytes().partition(b"\n")[0].removesuffix(b"\r")
        mode = file.stat().st_mode
    except OSError as error:
        raise UsageError(f"{file}: cannot read {what}: {error.strerror}; write it there") from error
    if mode & 0o077:
        raise UsageError(f"{file}: other users can read {what}; chmod 600 {file}")
    if not line:
        raise UsageError(f"{file}: its first line is empty; write {what} there")
    return Secret(line)
