"""Brings everything that a configuration wants into the mirror's folder, checked, and writes down what it is."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from bootstrap.errors import MirrorError
from bootstrap.mirror import files, lock, signature, skopeo
from bootstrap.mirror.item import SIGNATURE, Digest, Item, Wanted
from bootstrap.mirror.lock import Entry, Lock
from bootstrap.mirror.server import Server
from bootstrap.mirror.wanted import source
from bootstrap.progress import Progress


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a pull would do about one file: `state` is there or fetch; `size` in bytes, where it is known."""

    path: str
    version: str
    url: str
    state: str
    size: int | None


@dataclass(frozen=True, kw_only=True)
class Pull:
    """One run: the folder, the way to the servers, and what the operator allows."""

    folder: Path
    server: Server
    progress: Progress
    allow_downgrade: bool = False
    now: Callable[[], datetime] = _now

    def all(self, wanted: tuple[Wanted, ...]) -> tuple[Entry, ...]:
        """Bring all of `wanted`; return the files that were fetched.

        What is there already is read, not fetched. The lock is written after each thing, so that the next run knows
        what a cut one has brought.

        Raises:
            FirstlightError: something cannot be fetched or believed; what came before it stays.
            OSError: the disk does not take it.
        """
        self._ready(wanted)
        with lock.held(self.folder):
            known = lock.read(self.folder)
            self._tidy(is_done=False)
            fetched: list[Entry] = []
            for each in wanted:
                entries, known = self._one(each, known)
                fetched += entries
            self._tidy(is_done=True)
        return tuple(fetched)

    def _ready(self, wanted: tuple[Wanted, ...]) -> None:
        """Raise PreflightError for what would be missed after gigabytes have come."""
        for keys in dict.fromkeys(item.keys for item in wanted if item.keys is not None):
            signature.ready(self.server.keys(keys))
        if any(source(item.source).is_image for item in wanted):
            skopeo.ready()

    def rows(self, wanted: tuple[Wanted, ...]) -> tuple[Row, ...]:
        """Return what `all` would do; writes nothing. Raises FirstlightError as `all`."""
        known = lock.read(self.folder)
        return tuple(row for each in wanted for row in self._rows(self._fixed(each, known), known))

    def _rows(self, wanted: Wanted, known: Lock) -> tuple[Row, ...]:
        if self._is_whole(wanted, known):
            there = known.of(wanted.key)
            return tuple(
                Row(path=e.path, version=wanted.version, url=e.url, state="there", size=e.size) for e in there
            )
        room = source(wanted.source)
        return tuple(
            Row(
                path=item.path,
                version=wanted.version,
                url=item.url,
                state="fetch",
                size=None if room.is_image else self.server.size(item.url),
            )
            for item in room.items(wanted, self.server)
        )

    def _one(self, wanted: Wanted, known: Lock) -> tuple[tuple[Entry, ...], Lock]:
        """Bring one thing; return the files that were fetched, and the lock with them."""
        fixed = self._fixed(wanted, known)
        channels = {wanted.line: fixed.version} if wanted.is_channel else {}
        fresh = () if self._is_whole(fixed, known) else self._brought(fixed, known)
        after = known.with_(fresh, channels)
        if after != known:
            lock.write(self.folder, after)
        return fresh, after

    def _fixed(self, wanted: Wanted, known: Lock) -> Wanted:
        """Return `wanted` with a version in place of a channel.

        Raises:
            MirrorError: the channel is at an older version than it was, and that is not allowed.
        """
        if not wanted.is_channel:
            return wanted
        self.progress(f"asking {wanted.url}")
        version = source(wanted.source).newest(wanted, self.server)
        before = known.channels.get(wanted.line, version)
        if _numbers(version) < _numbers(before) and not self.allow_downgrade:
            raise MirrorError(
                f"{wanted.url} says that {wanted.source} {wanted.version} is at {version}, and it was at {before}: "
                "somebody may hold back what is newer; ask its owner, or add --allow-downgrade"
            )
        return replace(wanted, version=version, is_channel=False)

    def _is_whole(self, wanted: Wanted, known: Lock) -> bool:
        """Return whether all files of `wanted` are there, by reading them."""
        entries = known.of(wanted.key)
        if entries:
            self.progress(f"checking {wanted.key}")
        return bool(entries) and all(is_whole(self.folder, entry) for entry in entries)

    def _brought(self, wanted: Wanted, known: Lock) -> tuple[Entry, ...]:
        """Bring each file of `wanted` to its place."""
        room = source(wanted.source)
        self.progress(f"asking {wanted.url}")
        for item in room.items(wanted, self.server):
            bring = self._image if room.is_image else self._file
            known = known.with_(bring(wanted, item, known), {})
        return known.of(wanted.key)

    def _file(self, wanted: Wanted, item: Item, known: Lock) -> tuple[Entry, ...]:
        """Bring the file of `item`, its signature, and what is inside of it."""
        target = files.place(self.folder, item.path)
        part = target
        if not files.has(target, item.digest):
            part = files.part(self.folder, item.url, item.digest)
            self.server.fetch(item.url, part, item.digest, self.progress)
        entry = self._entry(wanted, item.path, item.url, part)
        try:
            refuse_other(entry, known)
            signed = self._signed(wanted, item, part) if item.is_signed else None
        except MirrorError:
            part.unlink()
            raise
        found = [entry]
        if signed is not None:
            signer, sig = signed
            found = [
                replace(entry, signer=signer),
                self._placed(wanted, item.path + SIGNATURE, item.url + SIGNATURE, sig),
            ]
        if part != target:
            files.finish(part, target, item.mode)
        return (*found, *(self._member(wanted, item, name, path) for name, path in item.members.items()))

    def _signed(self, wanted: Wanted, item: Item, content: Path) -> tuple[str, Path]:
        """Return who signed `content`, and the file of the signature."""
        sig = content.with_name(content.name + SIGNATURE)
        if content.parent.name != lock.PARTS:  # one that is in its place already
            sig = files.part(self.folder, item.url + SIGNATURE, item.digest)
        sig.write_bytes(self.server.signature(item.url))
        self.progress(f"checking the signature of {item.path}")
        return signature.signer(item.url, content, sig, self.server.keys(wanted.keys)), sig

    def _member(self, wanted: Wanted, item: Item, member: str, path: str) -> Entry:
        """Take one file out of an archive, and put it into its place."""
        archive = files.place(self.folder, item.path)
        part = files.part(self.folder, f"{item.url}#{member}", item.digest)
        files.take_out(archive, member, part)
        return self._placed(wanted, path, f"{item.url}#{member}", part, files.PROGRAM)

    def _image(self, wanted: Wanted, item: Item, known: Lock) -> tuple[Entry, ...]:
        """Bring a container image; its parts were checked by their digests."""
        part = files.part(self.folder, item.url, item.digest)
        name = wanted.name if ":" in wanted.name.rpartition("/")[2] else f"{wanted.name}@{wanted.version}"
        skopeo.fetch(item.url, name, part, self.server.ca, self.progress)
        refuse_other(self._entry(wanted, item.path, item.url, part), known)
        return (self._placed(wanted, item.path, item.url, part),)

    def _placed(self, wanted: Wanted, path: str, url: str, part: Path, mode: int = 0o644) -> Entry:
        entry = self._entry(wanted, path, url, part)
        files.finish(part, files.place(self.folder, path), mode)
        return entry

    def _entry(self, wanted: Wanted, path: str, url: str, content: Path) -> Entry:
        sha256, size = files.summed(content)
        fetched = self.now().isoformat(timespec="seconds")
        return Entry(path=path, key=wanted.key, url=url, sha256=sha256, size=size, fetched=fetched)

    def _tidy(self, *, is_done: bool) -> None:
        """Remove what a cut run cannot go on with; once all is there, what no run will go on with too."""
        for path in self.folder.glob(f".{lock.NAME}.*"):
            path.unlink()
        for path in (self.folder / lock.PARTS).iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif is_done and path.name != lock.HELD:
                path.unlink()


def is_whole(folder: Path, entry: Entry) -> bool:
    """Return whether the file of `entry` is what it was when it was fetched, by reading it."""
    return files.has(files.place(folder, entry.path), Digest("sha256", entry.sha256))


def refuse_other(entry: Entry, known: Lock) -> None:
    """Refuse what cannot be the file of its name.

    Raises:
        MirrorError: it is not what it was when first fetched, or is the same as its neighbour.
    """
    before = known.entries.get(entry.path)
    if before is not None and before.sha256 != entry.sha256:
        raise MirrorError(
            f"{entry.url} has sha256 {entry.sha256}, and had {before.sha256} on {before.fetched}: a release does not "
            f"change; ask its maker, or remove {lock.NAME} to begin anew"
        )
    folder = PurePosixPath(entry.path).parent
    for other in known.entries.values():
        is_neighbour = PurePosixPath(other.path).parent == folder and other.path != entry.path
        if is_neighbour and other.sha256 == entry.sha256:
            raise MirrorError(
                f"{entry.url} is the same file as {other.url}: its server mixes them up; ask its owner, or name another"
            )


def _numbers(version: str) -> tuple[int, ...]:
    """Return a version such as 4593.2.5 so that newer ones are greater."""
    return tuple(int(word) for word in version.split(".") if word.isdigit())
