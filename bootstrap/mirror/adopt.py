"""Takes a maker's image from the mirror's folder into the artifact store, whence machines boot and install it."""

import bz2
import hashlib
import json
import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from bootstrap import artifacts, families, rooms
from bootstrap.artifacts import Artifact, Manifest
from bootstrap.errors import MirrorError, PreflightError
from bootstrap.families import Maker, OSFamily
from bootstrap.mirror import files, lock
from bootstrap.mirror.folder import folder_of
from bootstrap.mirror.lock import Entry, Lock
from bootstrap.model import Cluster, Os
from bootstrap.progress import Progress

PULL = "run mirror pull with this configuration"
SECTOR = 512
MOST_RAW = 1 << 38  # bytes: what unpacks to more is no system's image
X86_KERNEL = (514, b"HdrS")  # where a kernel says that it is one for x86: Linux, arch/x86/boot.rst
GPT = b"EFI PART"  # how the second sector of a disk with a partition table begins: UEFI 2.10, 5.3.2
_UNPACK: Mapping[str, type[bz2.BZ2File] | type[lzma.LZMAFile]] = {".bz2": bz2.BZ2File, ".xz": lzma.LZMAFile}


@dataclass(frozen=True)
class Release:
    """What the mirror has of one image: the version that it is at, and the file of each part."""

    version: str
    parts: Mapping[str, Entry]


def makers(cluster: Cluster) -> Mapping[Os, Maker]:
    """Return the images that machines of `cluster` boot and that are their maker's."""
    used = {machine.pool for machine in cluster.machines}
    systems = dict.fromkeys(pool.os for pool in cluster.pools if pool.name in used)
    found = {
        os_: rooms.load(families, os_.family, OSFamily, where="pools[].os.family").maker for os_ in systems
    }
    return {os_: maker for os_, maker in found.items() if maker is not None}


def lacks(cluster: Cluster, base: Path, cache: Path) -> tuple[str, ...]:
    """Return a line for each image that neither the store in `cache` nor the mirror has, with what to run.

    Relative paths in the configuration begin at `base`.

    Raises:
        MirrorError: the lock is damaged.
    """
    folder = folder_of(cluster, base, cache)
    lines = (lack(os_, maker, folder) for os_, maker in makers(cluster).items() if not _stored(os_, cache))
    return tuple(line for line in lines if line is not None)


def not_yet(cluster: Cluster, base: Path, cache: Path) -> tuple[str, ...]:
    """Return `lacks`, each line as a part of a plan; a mirror that cannot be read is one of them, and no error."""
    try:
        lines = lacks(cluster, base, cache)
    except (MirrorError, OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        lines = (f"{error}",)
    return tuple(f"not yet: {line}\n" for line in lines)


def _stored(os_: Os, cache: Path) -> Manifest | None:
    return artifacts.find_manifest(cache, os_.family, os_.release, os_.kernel)


def lack(os_: Os, maker: Maker, folder: Path) -> str | None:
    """Return what the mirror in `folder` lacks of the image of `os_`, with the remedy, in one line; None if nothing.

    No file is read but the lock.

    Raises:
        MirrorError: the lock is damaged.
    """
    found = _release(os_, maker, lock.read(folder), folder)
    return found if isinstance(found, str) else None


def _release(os_: Os, maker: Maker, known: Lock, folder: Path) -> Release | str:
    """Return the release that `os_` names, or why the mirror does not have it."""
    version = known.channels.get(f"{os_.family}/{os_.family}/{os_.release}", os_.release)
    entries = known.of(f"{os_.family}/{os_.family}/{version}")
    if not entries:
        there = ", ".join(_versions(os_.family, known)) or "none"
        return f"{os_.family} {os_.release} is not in the mirror {folder} (it has: {there}); {PULL}"
    parts = {}
    for name, pattern in maker.parts.items():
        named = [entry for entry in entries if fnmatchcase(PurePosixPath(entry.path).name, pattern)]
        if len(named) != 1 or not files.place(folder, named[0].path).is_file():
            return (
                f"{os_.family} {version} in the mirror {folder} has no {name} for x86_64 ({pattern}); {PULL}"
            )
        parts[name] = named[0]
    return Release(version, parts)


def _versions(family: str, known: Lock) -> list[str]:
    begin = f"{family}/{family}/"
    return sorted({e.key.removeprefix(begin) for e in known.entries.values() if e.key.startswith(begin)})


def adopt(os_: Os, maker: Maker, folder: Path, cache: Path, progress: Progress) -> tuple[Manifest, bool]:
    """Return the image of `os_`, and whether it was taken now: from the mirror in `folder` into the store in `cache`.

    One that the store has is enough where the mirror has none. Every file is summed while it is copied, and is what
    the lock says; the image of the disk is unpacked once, to know that it is whole, and how large. A channel is at the
    version that the last pull has found.

    Raises:
        PreflightError: the mirror lacks it, or it is for other machines.
        MirrorError: a file is damaged, or the lock is.
        OSError: the disk does not take it.
    """
    found = _release(os_, maker, lock.read(folder), folder)
    if isinstance(found, str):
        if manifest := _stored(os_, cache):
            return manifest, False
        raise PreflightError(found)
    key = key_of(os_, found)
    manifest = artifacts.load_manifest(cache, key)
    is_new = manifest is None
    if manifest is None:
        manifest = _taken(os_, found, folder, cache, progress)
    artifacts.select(cache, manifest)
    return manifest, is_new


def key_of(os_: Os, found: Release) -> str:
    """Return the name of all that the image is; the same files for a channel and for a version are two."""
    sums = {name: entry.sha256 for name, entry in found.parts.items()}
    what = [os_.family, os_.release, os_.kernel, found.version, sums]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _taken(os_: Os, found: Release, folder: Path, cache: Path, progress: Progress) -> Manifest:
    paths = {name: files.place(folder, entry.path) for name, entry in found.parts.items()}
    _refuse_other_machines(paths["kernel"])
    parts = {}
    for name, entry in found.parts.items():
        progress(f"taking {paths[name].name} into the store")
        parts[name] = _imported(cache, paths[name], entry)
    progress(f"unpacking {paths['disk'].name} once, to know its size")
    raw_size = _raw_size(paths["disk"])
    return Manifest(
        key=key_of(os_, found),
        family=os_.family,
        release=os_.release,
        kernel_flavour=os_.kernel,
        kernel_version="",
        built=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        kernel=parts["kernel"],
        initrd=parts["initrd"],
        disk=parts["disk"],
        rootfs=parts.get("rootfs"),
        raw_size=raw_size,
        version=found.version,
    )


def _imported(cache: Path, path: Path, entry: Entry) -> Artifact:
    known = Artifact(entry.sha256, entry.size)
    if artifacts.present(cache, known):
        return known
    stored = artifacts.import_file(cache, path)
    if stored != known:
        artifacts.artifact_path(cache, stored.sha256).unlink(missing_ok=True)
        raise MirrorError(
            f"{path} is damaged or another file: its sha256 is not {entry.sha256}; run mirror pull"
        )
    return stored


def _refuse_other_machines(kernel: Path) -> None:
    """Raise PreflightError for a kernel that machines of ours cannot start."""
    at, magic = X86_KERNEL
    with kernel.open("rb") as content:
        content.seek(at)
        if content.read(len(magic)) != magic:
            raise PreflightError(f"{kernel} is no kernel for x86_64; take that architecture's release")


def _raw_size(disk: Path) -> int:
    """Return how many bytes the image has when it is unpacked, as machines will.

    Raises:
        MirrorError: it is cut, damaged, or no image of a disk.
    """
    try:
        with _UNPACK[disk.suffix](disk) as content:
            head = content.read(artifacts.BLOCK)
            size = len(head)
            while block := content.read(artifacts.BLOCK):
                size += len(block)
                if size > MOST_RAW:
                    raise MirrorError(f"{disk} unpacks to more than {MOST_RAW >> 30} GiB; ask its maker")
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise MirrorError(
            f"{disk} cannot be unpacked ({error}); run mirror verify, and ask its maker"
        ) from error
    if head[SECTOR : SECTOR + len(GPT)] != GPT or size % SECTOR:
        raise MirrorError(f"{disk} holds no image of a disk with a partition table; ask its maker")
    return size
