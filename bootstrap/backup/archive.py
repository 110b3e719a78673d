"""The file of a backup: a gzip of a tar of plain files, the manifest first; every byte of it is checked when read.

The headers are parsed one by one and anything but a plain file is refused: links, devices, and the extensions by which
a name or an attribute can take gigabytes of memory.
"""

import gzip
import hashlib
import io
import json
import os
import secrets
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from pydantic import ValidationError

from bootstrap import failpoints
from bootstrap.backup.manifest import FORMAT, NAME, OWNER_ONLY, Manifest, Member
from bootstrap.disk import naming, sync_folder
from bootstrap.errors import BackupError, UsageError, printable

Source = bytes | Path

BLOCK = tarfile.BLOCKSIZE
CHUNK = 1 << 20
MOST_MANIFEST_BYTES = 32 << 20
END_BYTES = tarfile.RECORDSIZE
"""A tar is filled up with zeros to a multiple of this."""
LEVEL = 6


class Part(NamedTuple):
    """A member, and where its content is until it is in the archive."""

    member: Member
    source: Source


class _Damaged(Exception):  # noqa: N818  # it says what a stream is
    """The archive is not what this program writes."""


class Content:
    """The bytes of one member, summed as they are read."""

    def __init__(self, stream: gzip.GzipFile, member: Member) -> None:
        self._stream, self._member, self._left = stream, member, member.size
        self._digest = hashlib.sha256()

    def chunks(self) -> Iterator[bytes]:
        """Yield what has not been read yet."""
        while self._left:
            chunk = _exactly(self._stream, min(CHUNK, self._left))
            self._left -= len(chunk)
            self._digest.update(chunk)
            yield chunk

    def finish(self) -> None:
        """Read what is left, and compare the sum."""
        for _ in self.chunks():
            pass
        if self._digest.hexdigest() != self._member.sha256:
            raise _Damaged(f"{self._member.path} is not what was saved")


Sink = Callable[[Member, Content], None]
"""Takes a member and its content; what does not fit raises at the end of it."""


def part(path: str, source: Source, mode: int) -> Part:
    """Return the part at `path` with the content of `source` as it is now."""
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(source):
        digest.update(chunk)
        size += len(chunk)
    member = Member.model_validate({"path": path, "size": size, "sha256": digest.hexdigest(), "mode": mode})
    return Part(member, source)


def write_archive(file: Path, manifest: Manifest, parts: tuple[Part, ...]) -> None:
    """Write a backup to `file`, which must not exist, in one step and for its owner alone; it was read again then.

    Raises:
        UsageError: there is such a file, or no such folder.
        BackupError: what was written is not what was read back.
        OSError: it could not be written; nothing is left.
    """
    _refuse_taken(file)
    new = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        _write(new, manifest, parts)
        if read_archive(new) != manifest:
            raise BackupError(f"{file}: reads back as another backup; look into dmesg for errors of the disk")
        failpoints.reached("backup.rename.before")
        _name(new, file)
        failpoints.reached("backup.rename.after")
    finally:
        new.unlink(missing_ok=True)
    sync_folder(file.parent)


def read_archive(file: Path, sink: Sink | None = None) -> Manifest:
    """Return the manifest of the backup in `file`; each member goes to `sink`, and every byte was checked.

    Raises:
        BackupError: it is damaged, holds what no backup holds, or is of a later format. What `sink` has got by then
            is not to be used.
        UsageError: it cannot be read.
    """
    with _told(file), _opened(file) as raw, gzip.GzipFile(fileobj=raw) as stream:
        manifest = _manifest(file, stream)
        for member in manifest.members:
            _member(stream, member, sink)
        _end(stream)
    return manifest


def read_manifest(file: Path) -> Manifest:
    """Return the manifest alone; what stands behind it is not looked at. Raises as `read_archive`."""
    with _told(file), _opened(file) as raw, gzip.GzipFile(fileobj=raw) as stream:
        return _manifest(file, stream)


def _refuse_taken(file: Path) -> None:
    if file.exists() or file.is_symlink():
        raise UsageError(f"{file} is there already, and no backup is written over; name another file")
    if not file.parent.is_dir():
        raise UsageError(f"{file.parent} is no folder; make it, or name another file")


def _write(new: Path, manifest: Manifest, parts: tuple[Part, ...]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with naming(new), os.fdopen(os.open(new, flags, OWNER_ONLY), "wb") as raw:
        os.fchmod(raw.fileno(), OWNER_ONLY)
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=LEVEL) as stream:
            text = manifest.model_dump_json(indent=1).encode() + b"\n"
            size = _add(stream, NAME, len(text), OWNER_ONLY, text)
            for member, source in parts:
                size += _add(stream, member.path, member.size, member.mode, source)
            stream.write(bytes(2 * BLOCK + -(size + 2 * BLOCK) % END_BYTES))
        raw.flush()
        os.fsync(raw.fileno())


def _add(stream: gzip.GzipFile, path: str, size: int, mode: int, source: Source) -> int:
    """Write header and content of one part; return the bytes that it took."""
    info = tarfile.TarInfo(path)
    info.size, info.mode = size, mode
    stream.write(info.tobuf(tarfile.GNU_FORMAT))
    for chunk in _chunks(source):
        stream.write(chunk)
    padding = -size % BLOCK
    stream.write(bytes(padding))
    return BLOCK + size + padding


def _chunks(source: Source) -> Iterator[bytes]:
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _name(new: Path, file: Path) -> None:
    """Give `new` its name unless somebody else has taken that meanwhile."""
    try:
        os.link(new, file)
    except FileExistsError:
        _refuse_taken(file)
    except OSError:  # a file system without hard links, such as a memory stick's
        new.replace(file)


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """Say in our own errors what is wrong with the archive."""
    try:
        yield
    except (_Damaged, EOFError, zlib.error, gzip.BadGzipFile) as error:
        why = printable(" ".join(str(error).split()))
        raise BackupError(f"{file}: is damaged ({why}); nothing was changed, take another backup") from error


def _opened(file: Path) -> IO[bytes]:
    try:
        return file.open("rb")
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}; name the file of a backup") from error


def _manifest(file: Path, stream: gzip.GzipFile) -> Manifest:
    info = _header(stream)
    if info.name != NAME or info.size > MOST_MANIFEST_BYTES:
        raise _Damaged("it does not begin with a manifest: perhaps it is no backup of firstlight")
    text = _exactly(stream, info.size)
    _exactly(stream, -info.size % BLOCK)
    try:
        values = json.loads(text)
        if isinstance(values, dict) and isinstance(values.get("format"), int) and values["format"] > FORMAT:
            raise BackupError(
                f"{file}: is of a later firstlight (format {values['format']}, this one reads {FORMAT}); use that one"
            )
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise _Damaged(f"its manifest: {error.errors()[0]['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise _Damaged("its manifest is no JSON") from error


def _header(stream: gzip.GzipFile) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(_exactly(stream, BLOCK), "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise _Damaged(f"a header: {error}") from error
    if info.type != tarfile.REGTYPE:
        raise _Damaged(f"{info.name!r} is no plain file")
    return info


def _member(stream: gzip.GzipFile, member: Member, sink: Sink | None) -> None:
    info = _header(stream)
    if (info.name, info.size) != (member.path, member.size):
        raise _Damaged(f"{info.name!r} where {member.path!r} should be")
    content = Content(stream, member)
    if sink is not None:
        sink(member, content)
    content.finish()
    _exactly(stream, -member.size % BLOCK)


def _end(stream: gzip.GzipFile) -> None:
    """Read the zeros at the end, which also has gzip compare its own sum."""
    rest = stream.read(2 * END_BYTES + 1)
    if len(rest) > 2 * END_BYTES or rest.strip(b"\0") or len(rest) < 2 * BLOCK:
        raise _Damaged("it does not end where it should")


def _exactly(stream: gzip.GzipFile, size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise _Damaged("it ends too early")
    return content
