"""A tar of new files as a stream of chunks: whatever is big passes through and is never held in memory."""

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from bootstrap.errors import UsageError
from bootstrap.kubernetes.tree import HostFile, LocalFile
from certs.secret import Secret

CHUNK = 256 * 1024
PRIVATE = 0o600
"""Mode of every file on its way; its own owner and mode come when it is whole."""


def new_name(path: str) -> str:
    """Return where the new content of `path` waits until it takes its place: beside it (configs/hosts/apply)."""
    place = PurePosixPath(path)
    return str(place.with_name(f".{place.name}.firstlight"))


def size_of(file: HostFile) -> int:
    """Return the size of a file in bytes.

    Raises:
        UsageError: it is a file of this computer that is not there.
    """
    match file.content:
        case LocalFile(path=path):
            try:
                return path.stat().st_size
            except OSError as error:
                raise UsageError(
                    f"{path}: {error.strerror}; it is to go onto a control-plane host"
                ) from error
        case Secret() as secret:
            return len(secret.reveal())
        case bytes() as content:
            return len(content)


def tar(files: Mapping[str, HostFile]) -> Iterator[bytes]:
    """Yield a tar of `files`, each under its waiting name, relative to the root folder.

    Raises:
        UsageError: a file of this computer cannot be read.
    """
    for path, file in files.items():
        size = size_of(file)
        header = tarfile.TarInfo(new_name(path).lstrip("/"))
        header.size, header.mode = size, PRIVATE
        yield header.tobuf(tarfile.GNU_FORMAT)
        yield from _content(file)
        yield bytes(-size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _content(file: HostFile) -> Iterator[bytes]:
    match file.content:
        case LocalFile(path=path):
            with path.open("rb") as source:
                while chunk := source.read(CHUNK):
                    yield chunk
        case Secret() as secret:
            yield secret.reveal()
        case bytes() as content:
            yield content
