"""The folder of each container: copies of just what it reads, owned so that it can, and what it writes.

Copies, because web is no root there and may see no other key, and because a bundle is replaced as a folder: who has
mounted the old one never sees the new one. They follow the originals while the appliance runs, and go when it ends.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bootstrap import sums
from bootstrap.containers.records import Records
from bootstrap.containers.table import (
    CONTAINERS,
    HOMES,
    KEPT_BY_PXE,
    KEYS,
    Container,
    Name,
    is_for,
)
from bootstrap.workplace import Workplace

LINKS = {
    "operator.sock": "web/run/operator.sock",
    "pxe.pid": "pxe/run/pxe.pid",
    "pxe.ready": "pxe/run/pxe.ready",
}
"""In `run`: where the other verbs look, and what is there while containers run."""
LAST = ("web/boot.ipxe", sums.NAME)
"""Copied after the rest: web looks at both all the time, and they must agree."""
READABLE, SECRET, OWN_FILE = 0o444, 0o400, 0o600
OPEN_FOLDER, OWN_FOLDER = 0o755, 0o700

Stamp = tuple[int, ...]


class Homes:
    """The folders of both containers of one cluster."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._stamp: Stamp | None = None
        self._records = Records(place.work, self._home("web") / "records", _put_for_web)

    def run_folder(self, name: Name) -> Path:
        """Return what a container calls /work/run."""
        return self._home(name) / "run"

    def make(self) -> None:
        """Make all folders that the containers mount, and bring documents, keys and leases there.

        Raises:
            OSError: the disk does not take them.
        """
        for name, row in CONTAINERS.items():
            _folder(self._home(name), OPEN_FOLDER, 0)
            for mount in row.mounts:
                if mount.root == "work":
                    owner = (row.user or 0) if mount.is_writable else 0
                    mode = OWN_FOLDER if mount.is_writable else OPEN_FOLDER
                    _folder(self._place.work / mount.path, mode, owner)
        _hand_over(self._place.work / "state", CONTAINERS["web"].user or 0)
        _hand_over(self._place.work / "log" / "web", CONTAINERS["web"].user or 0)
        _open_cache(self._place.cache, CONTAINERS["web"])
        for kept in KEPT_BY_PXE:
            _move(self._place.work / HOMES / kept, self.run_folder("pxe") / kept)
        for link, target in LINKS.items():
            path = self._place.work / HOMES / link
            path.unlink(missing_ok=True)
            path.symlink_to(target)
        self._records.join()
        self.publish()

    def forget(self, name: Name) -> None:
        """Remove what a container that no longer runs has said of itself: the next one may get the same pids."""
        for path in ("pxe.pid", "pxe.ready", "operator.sock", "web.sock", "web.pid"):
            (self.run_folder(name) / path).unlink(missing_ok=True)

    def follow(self) -> bool:
        """Bring over what has changed since the last time, also what web has accepted; return whether anything had.

        Raises:
            OSError: the disk does not take it.
        """
        has_joined = self._records.follow()
        if self.stamp() == self._stamp:
            return has_joined
        self.publish()
        return True

    def bring_back(self) -> None:
        """Take over what web has accepted.

        Raises:
            OSError: the disk does not take it.
            StateError: a file of the work folder is damaged.
        """
        self._records.join()

    def publish(self) -> None:
        """Make documents and keys of both homes what the originals are now.

        Raises:
            OSError: one is missing, or the disk does not take it.
        """
        stamp = self.stamp()
        for name in CONTAINERS:
            self._publish_documents(name)
            self._publish_keys(name)
        self._records.follow()
        self._stamp = stamp

    def stamp(self) -> Stamp:
        """Return what changes when a document or a key is replaced."""
        keys = (self._place.work / "pki" / path for name in CONTAINERS for path in KEYS[name])
        return tuple(number for path in (self._place.bundle / sums.NAME, *keys) for number in _mark(path))

    def remove(self) -> bool:
        """Take everything away but what outlives the appliance: leases go back; return whether there was anything."""
        found = False
        self._records.join()
        for kept in KEPT_BY_PXE:
            _move(self.run_folder("pxe") / kept, self._place.work / HOMES / kept)
        for name in CONTAINERS:
            found = found or self._home(name).exists()
            shutil.rmtree(self._home(name), ignore_errors=True)
        for link in LINKS:
            if (path := self._place.work / HOMES / link).is_symlink():
                path.unlink()
        return found

    def _home(self, name: Name) -> Path:
        return self._place.work / HOMES / name

    def _publish_documents(self, name: Name) -> None:
        source, target = self._place.bundle, self._home(name) / "bundle"
        # As published last time, and as rendered now: equal sums are equal files.
        before, now = sums.Sums(target).known or {}, sums.Sums(source).known or {}
        wanted = [path for path in now if is_for(name, path)]
        for path in sorted(wanted, key=lambda path: (path in LAST, path)):
            if before.get(path) != now[path] or not (target / path).exists():
                _put(target, path, (source / path).read_bytes(), READABLE, 0)
        _put(target, sums.NAME, (source / sums.NAME).read_bytes(), READABLE, 0)
        for path in set(_files(target)) - {*wanted, sums.NAME}:
            (target / path).unlink()

    def _publish_keys(self, name: Name) -> None:
        owner = CONTAINERS[name].user or 0
        for path in KEYS[name]:
            source = self._place.work / "pki" / path
            target = self._home(name) / "pki"
            if not source.exists():
                (target / path).unlink(missing_ok=True)
                continue
            mode = SECRET if path.endswith(".key") else READABLE
            content = source.read_bytes()
            if not (target / path).exists() or (target / path).read_bytes() != content:
                _put(target, path, content, mode, owner)


def _files(folder: Path) -> Iterator[str]:
    return (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _mark(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_ino)


def _put(root: Path, path: str, content: bytes, mode: int, owner: int) -> None:
    """Put a file at `path` below `root` in one step; it never has other rights than these."""
    target = root / path
    for parent in reversed([folder for folder in target.parents if folder.is_relative_to(root)]):
        _folder(parent, OPEN_FOLDER, 0)
    _put_file(target, content, mode, owner)


def _put_file(target: Path, content: bytes, mode: int, owner: int) -> None:
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchown(descriptor, owner, owner)
            os.fchmod(descriptor, mode)
            file.write(content)
        fresh.replace(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _put_for_web(target: Path, content: bytes) -> None:
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)  # web has put that there itself
    _put_file(target, content, OWN_FILE, CONTAINERS["web"].user or 0)


def _folder(path: Path, mode: int, owner: int) -> None:
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    path.chmod(mode)
    os.chown(path, owner, owner, follow_symlinks=False)


def _hand_over(folder: Path, owner: int) -> None:
    """Make `owner` own all that is in `folder`; links are not followed."""
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(root) / name, owner, owner, follow_symlinks=False)


def _open_cache(cache: Path, row: Container) -> None:
    """Let everyone read what web hands to everyone."""
    for mount in row.mounts:
        if mount.root == "cache":
            folder = cache / mount.path
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(OPEN_FOLDER)


def _move(source: Path, target: Path) -> None:
    with suppress(FileNotFoundError):
        if not source.is_symlink():
            shutil.copyfile(source, target, follow_symlinks=False)
            target.chmod(0o600)
            source.unlink()
