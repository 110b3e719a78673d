"""`python -m bootstrap.handover.unpack web|pxe ...`: lays a parcel on the node, before the part itself starts.

Runs as root in an init container of the part's own image, with the standard library and our table alone. Documents
are made what the parcel holds each time. The state is laid once for each handover: from then on it is the node's, and
the cluster has it no more. What lies beside it a container has written: no link there is followed.
"""

import argparse
import hashlib
import io
import json
import os
import shutil
import stat
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from bootstrap.containers.table import CONTAINERS, Container, Name, home

NODE, PARCELS = Path("/node"), Path("/parcel")
"""Where the container sees the appliance's folder of the node, and the pieces of the parcels."""
MARK = "handover.json"
MOST_MARK_BYTES = 4096
BEFORE = "before-"
OPEN_FOLDER, OWN_FOLDER = 0o755, 0o700
STATE_FOLDERS = {"web": ("state", home("web", "records")), "pxe": (home("pxe", "run"),)}
"""What of the state lies where; the mark is in the first."""

Own = Callable[[Path, int], None]


class Damaged(Exception):  # noqa: N818  # it says what a parcel or a node's folder is
    """A parcel is not what was sent, or what lies on the node is not what was laid there."""


def main() -> int:
    """Unpack what the arguments name; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bootstrap.handover.unpack", description=__doc__)
    parser.add_argument("part", choices=["web", "pxe"])
    parser.add_argument("--handover", required=True, help="the id of the handover")
    for kind in ("documents", "state"):
        parser.add_argument(f"--{kind}", required=True, help=f"the SHA-256 of the {kind}")
    parser.add_argument("--node", type=Path, default=NODE)
    parser.add_argument("--parcels", type=Path, default=PARCELS)
    given = parser.parse_args()
    os.umask(0o077)
    try:
        documents = read(given.parcels / "documents", given.documents)
        lay(
            given.part,
            given.node,
            documents=documents,
            state=lambda: first_state(given.parcels / "state", given.state, given.handover),
            handover=given.handover,
        )
    except (Damaged, OSError, tarfile.TarError) as error:
        sys.stderr.write(f"unpack: {error}\n")
        return 1
    return 0


def read(folder: Path, wanted: str) -> bytes:
    """Return the archive whose pieces lie in `folder`.

    Raises:
        Damaged: its SHA-256 is not `wanted`.
    """
    archive = b"".join(path.read_bytes() for path in sorted(folder.glob("piece-*")))
    if hashlib.sha256(archive).hexdigest() != wanted:
        raise Damaged(f"{folder}: the pieces do not make what was sent; run handover --to cluster again")
    return archive


def first_state(folder: Path, wanted: str, handover: str) -> bytes:
    """Return the archive of the state, as `read` does, for a node that has none of this handover's yet.

    Raises:
        Damaged: the cluster has it no more: it was laid, and is elsewhere.
    """
    if not any(folder.glob("piece-*")):
        raise Damaged(
            f"the state of handover {handover} was laid on this node once, and is not there: is its disk mounted, and"
            " the same one? Nothing was written. If the disk is lost, handover --back --lost is the way back"
        )
    return read(folder, wanted)


def lay(
    part: Name,
    node: Path,
    *,
    documents: bytes,
    state: Callable[[], bytes],
    handover: str,
    own: Own | None = None,
) -> None:
    """Make the folders of a part on the node, its documents what the archive holds, and its state once.

    `state` is asked for its archive only if the node has none of this handover's.

    Raises:
        Damaged: an archive holds what none of ours does, or the node's mark cannot be read; nothing was written.
        OSError: the disk does not take it.
    """
    give = own or _own
    row = CONTAINERS[part]
    is_laid = id_in(node / STATE_FOLDERS[part][0] / MARK) == handover
    archive = b"" if is_laid else state()
    _folders(row, node, give)
    kept = {path for path, member, content in _files(documents) if _put(node / path, member, content, give)}
    for top in (home(part, "bundle"), home(part, "pki")):
        for path in [*(node / top).rglob("*")]:
            if not path.is_dir() and path.relative_to(node).as_posix() not in kept:
                path.unlink()
    if not is_laid:
        _lay_state(part, node, archive, handover, give)


def _folders(row: Container, node: Path, give: Own) -> None:
    node.chmod(OWN_FOLDER)
    for mount in row.mounts:
        if mount.root == "work":
            path = node / mount.path
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(OWN_FOLDER if mount.is_writable else OPEN_FOLDER)
            give(path, (row.user or 0) if mount.is_writable else 0)


def _lay_state(part: Name, node: Path, archive: bytes, handover: str, give: Own) -> None:
    """Lay the state; what another handover has left is put aside, and never removed."""
    folders = [node / name for name in STATE_FOLDERS[part]]
    for folder in folders:
        _put_aside(folder)
    for path, member, content in _files(archive):
        _put(node / path, member, content, give)
    text = json.dumps({"id": handover}).encode() + b"\n"
    _write(folders[0] / MARK, text, 0o600, CONTAINERS[part].user or 0, give)
    for folder in folders:
        _sync(folder)


def id_in(mark: Path) -> str:
    """Return the id of the handover whose state lies beside `mark`; empty if there is no mark.

    Raises:
        Damaged: there is one, and it cannot be read or is not ours: then nobody knows whose state that is.
    """
    try:
        return str(json.loads(_read_mark(mark))["id"])
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{mark}: cannot be read ({error}); nothing beside it was touched") from error


def _read_mark(mark: Path) -> bytes:
    """Return the mark's content; its folder is the container's, which may have put anything there."""
    descriptor = os.open(mark, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no plain file")
        return file.read(MOST_MARK_BYTES)


def _put_aside(folder: Path) -> None:
    there = [path for path in folder.iterdir() if not path.name.startswith((BEFORE, "binaries.json"))]
    if not there:
        return
    number = next(n for n in range(1, sys.maxsize) if not (folder / f"{BEFORE}{n}").exists())
    aside = folder / f"{BEFORE}{number}"
    aside.mkdir(mode=OWN_FOLDER)
    for path in there:
        shutil.move(path, aside / path.name)


def _files(archive: bytes) -> Iterator[tuple[str, tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            path = PurePosixPath(member.name)
            if content is None or path.is_absolute() or ".." in path.parts:
                raise Damaged(f"{member.name!r} is nothing that a parcel holds")
            yield str(path), member, content.read()


def _put(target: Path, member: tarfile.TarInfo, content: bytes, give: Own) -> bool:
    made = [folder for folder in target.parents if not folder.exists()]
    for folder in reversed(made):
        folder.mkdir()
        folder.chmod(OPEN_FOLDER)
    _write(target, content, member.mode, member.uid, give)
    return True


def _write(target: Path, content: bytes, mode: int, owner: int, give: Own) -> None:
    """Put a file there in one step; it never has other rights than these."""
    fresh = target.with_name(f".{target.name}.fresh")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        give(fresh, owner)
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    fresh.replace(target)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _own(path: Path, owner: int) -> None:
    os.chown(path, owner, owner, follow_symlinks=False)


if __name__ == "__main__":
    sys.exit(main())
