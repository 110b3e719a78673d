"""The big files that machines fetch, kept by what they contain, and the manifests that name them.

`cache/sha256/<hex>` holds each file once, read-only; a name can never come to mean other bytes.
`cache/images/<key>.json` says which of them make up one operating system image, with a sum over what it says.
`cache/damaged/<hex>` holds what was found not to be what its name says: there nobody is served from.
"""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from bootstrap import failpoints
from bootstrap.errors import ImageError

BLOCK = 1 << 20
SHOWN = 12  # digits of a sum that stand for it in a message
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Artifact:
    """One file of the store: its `sha256` in hex, its `size` in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One operating system image: what boots the installer, and what it writes to the disk.

    `raw_size` is the size of `disk` in bytes when decompressed; `built` is an RFC 3339 time; `key` names all
    that went in. `rootfs` is the third file of live systems that have one; `version` what a channel was at.

    `driver` is the branch and flavour of the NVIDIA driver in it, `535 (closed)`, and `driver_version` its version;
    `recipe` names what was asked for, and `key` that and the pair of kernel and driver that came of it.
    """

    key: str
    family: str
    release: str
    kernel_flavour: str
    kernel_version: str
    built: str
    kernel: Artifact
    initrd: Artifact
    disk: Artifact
    raw_size: int
    rootfs: Artifact | None = None
    version: str = ""
    driver: str = ""
    driver_version: str = ""
    recipe: str = ""

    @property
    def parts(self) -> Mapping[str, Artifact]:
        """Return the files that the image is made of, by what they are for."""
        found = {"kernel": self.kernel, "initrd": self.initrd, "rootfs": self.rootfs, "disk": self.disk}
        return {name: artifact for name, artifact in found.items() if artifact is not None}

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Return the files that the image is made of."""
        return tuple(self.parts.values())


_PARTS = ("kernel", "initrd", "rootfs", "disk")


def artifact_path(cache: Path, sha256: str) -> Path:
    """Return where the file with this sum lies; raises ImageError for what is no sum in lower-case hex."""
    if not SHA256.fullmatch(sha256):
        raise ImageError(f"{sha256!r} is not a sha256 in lower-case hex")
    return cache / "sha256" / sha256


def import_file(cache: Path, source: Path) -> Artifact:
    """Copy `source` into the store and return its name.

    The file appears under its name whole or not at all: summed while copied, flushed, made read-only,
    renamed, and its folder flushed (R-07). Raises OSError when the disk does not take it.
    """
    folder = cache / "sha256"
    folder.mkdir(parents=True, exist_ok=True)
    with _unfinished(folder) as (target, path), source.open("rb") as content:
        digest = hashlib.sha256()
        while block := content.read(BLOCK):
            digest.update(block)
            target.write(block)
        size = target.tell()
        artifact = Artifact(digest.hexdigest(), size)
        _finish(target, path, artifact_path(cache, artifact.sha256))
    _damaged(cache, artifact).unlink(missing_ok=True)
    return artifact


def verify(cache: Path, artifact: Artifact) -> None:
    """Read the whole file; raises ImageError when it is missing or not what its name says."""
    path = artifact_path(cache, artifact.sha256)
    try:
        with path.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(f"artifact {artifact.sha256} cannot be read: {error.strerror}") from error
    if found != artifact.sha256:
        raise ImageError(f"{path} is damaged (its sha256 is {found}): build the image again")


def set_aside(cache: Path, artifact: Artifact) -> None:
    """Take a damaged file out of the store, so that it is served no more; raises OSError if that fails."""
    aside = _damaged(cache, artifact)
    aside.parent.mkdir(parents=True, exist_ok=True)
    artifact_path(cache, artifact.sha256).rename(aside)


def _damaged(cache: Path, artifact: Artifact) -> Path:
    return cache / "damaged" / artifact.sha256


def present(cache: Path, artifact: Artifact) -> bool:
    """Say whether the file is in the store with its full size, without reading it."""
    try:
        return artifact_path(cache, artifact.sha256).stat().st_size == artifact.size
    except OSError:
        return False


def save_manifest(cache: Path, manifest: Manifest) -> None:
    """Write `manifest` under its key, whole or not at all."""
    folder = cache / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with _unfinished(folder) as (target, path):
        values = asdict(manifest)
        target.write(json.dumps({**values, "sum": _sum(values)}, indent=2, sort_keys=True).encode() + b"\n")
        _finish(target, path, folder / f"{manifest.key}.json")


def load_manifest(cache: Path, key: str) -> Manifest | None:
    """Return the image with this key if it is there with all its files."""
    manifest = _read(cache / "images" / f"{key}.json")
    if manifest is None or not all(present(cache, artifact) for artifact in manifest.artifacts):
        return None
    return manifest


def select(cache: Path, manifest: Manifest) -> None:
    """Make `manifest` the one that `find_manifest` prefers among those of its kind."""
    save_manifest(cache, manifest)  # written anew: one of an earlier version gets its sum


def manifests(cache: Path) -> tuple[Manifest, ...]:
    """Return all complete images of the cache, the one selected last first."""
    files = sorted((cache / "images").glob("*.json"), key=_age)
    found = (load_manifest(cache, file.stem) for file in files)
    return tuple(manifest for manifest in found if manifest is not None)


def made_by(cache: Path, recipe: str) -> Manifest | None:
    """Return the complete image of this recipe that was selected last."""
    return next((manifest for manifest in manifests(cache) if manifest.recipe == recipe), None)


def find_manifest(cache: Path, family: str, release: str, kernel: str, driver: str = "") -> Manifest | None:
    """Return the image for an OS family, its release, kernel flavour and driver (none) that was selected last.

    If that one lacks a file, or a manifest is damaged that may be its, there is none: an older image in its place
    would be a surprise.
    """
    _, manifest = _selected(cache, (family, release, kernel, driver))
    return manifest if manifest is not None and _lack(cache, manifest) is None else None


def why_no_manifest(cache: Path, family: str, release: str, kernel: str, driver: str = "") -> str:
    """Return what is wrong with the image that `find_manifest` does not find, and the remedy."""
    file, manifest = _selected(cache, (family, release, kernel, driver))
    if manifest is not None:
        return _lack(cache, manifest) or "was just built"
    return f"cannot be told: {file.name} is damaged - image build" if file else "is not built - image build"


def is_known(cache: Path, family: str, release: str, kernel: str, driver: str = "") -> bool:
    """Return whether an image of this kind was ever made here, or may have been: whole or not."""
    return _selected(cache, (family, release, kernel, driver)) != (None, None)


Kind = tuple[str, str, str, str]
"""What tells images apart that a pool may want: OS family, release, kernel flavour, driver (or none)."""


def kind_of(manifest: Manifest) -> Kind:
    """Return the kind of an image."""
    return (manifest.family, manifest.release, manifest.kernel_flavour, manifest.driver)


def _selected(cache: Path, wanted: Kind) -> tuple[Path | None, Manifest | None]:
    """Return the newest manifest of a kind and its file; a file alone if one that may be of the kind is damaged."""
    for file in sorted((cache / "images").glob("*.json"), key=_age):
        manifest = _read(file)
        if manifest is None or wanted == kind_of(manifest):
            return file, manifest
    return None, None


def _lack(cache: Path, manifest: Manifest) -> str | None:
    for name, artifact in manifest.parts.items():
        if not present(cache, artifact):
            found = "is damaged" if _damaged(cache, artifact).exists() else "is missing"
            return f"is not complete: its {name} {artifact.sha256[:SHOWN]} {found} - image build"
    return None


def _age(file: Path) -> tuple[int, str]:
    return (-file.stat().st_mtime_ns, file.name)


def _read(file: Path) -> Manifest | None:
    try:
        values = json.loads(file.read_bytes())
        # One of an earlier version has no sum; where one bit changed its name, the rest is refused as well.
        if values.pop("sum", None) not in {None, _sum(values)}:
            return None
        files = {name: Artifact(**values[name]) for name in _PARTS if values.get(name) or name != "rootfs"}
        return Manifest(**{**values, **files})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        # Written by another version, or damaged: an image that we cannot read is an image to build again.
        return None


def _sum(values: Mapping[str, object]) -> str:
    """Return the sha256 in hex of what a manifest says."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def _unfinished(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    handle, name = tempfile.mkstemp(dir=folder, prefix=".unfinished-")
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as target:
            yield target, path
    finally:
        path.unlink(missing_ok=True)


def _finish(target: BinaryIO, path: Path, final: Path) -> None:
    target.flush()
    path.chmod(0o444)
    os.fsync(target.fileno())
    failpoints.reached("artifact.rename.before")
    path.rename(final)
    failpoints.reached("artifact.rename.after")
    folder = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
