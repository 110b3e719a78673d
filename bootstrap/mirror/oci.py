"""Checks every byte of a container image that skopeo brought, and packs it so that nodes can import it.

OCI image specification 1.1: image-layout.md, descriptor.md, image-index.md.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bootstrap.errors import MirrorError
from bootstrap.mirror.sums import SHA256

MANIFEST = "manifest.json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
NAME = "io.containerd.image.name"
"""The annotation by which containerd names what it imports."""
PLATFORM = {"os": "linux", "architecture": "amd64"}
LONGEST_DOCUMENT = 4 << 20


def instance(name: str, document: bytes, digest: str) -> str:
    """Return the digest of the linux/amd64 image that `document` (a manifest or an index) with `digest` leads to.

    Raises:
        MirrorError: the document is not the one with that digest, or has no such image.
    """
    found = f"sha256:{hashlib.sha256(document).hexdigest()}"
    if found != digest:
        raise MirrorError(f"{name}: its registry sent {found} for {digest}; ask its owner")
    parts = _parsed(name, document).get("manifests")
    if parts is None:
        return digest
    for part in parts:
        platform = part.get("platform", {})
        if {key: platform.get(key) for key in PLATFORM} == PLATFORM:
            return _digest(name, part)
    raise MirrorError(f"{name}: {digest} has no image for linux/amd64; write the digest of one that has")


def pack(folder: Path, name: str, digest: str, archive: Path) -> None:
    """Write the image that skopeo copied to `folder` (dir:) to `archive`; the same image gives the same bytes.

    `name` is what nodes call it.

    Raises:
        MirrorError: its manifest is not the one with `digest`, or a blob is not what it is called.
        OSError: the disk does not take it.
    """
    manifest = (folder / MANIFEST).read_bytes()
    if instance(name, manifest, digest) != digest:
        raise MirrorError(f"{name}: {digest} is an index in an index; write the digest of an image")
    said = _parsed(name, manifest)
    blobs = {_blob(name, folder, part) for part in (said["config"], *said["layers"])}
    described = {
        "mediaType": said.get("mediaType", MANIFEST_TYPE),
        "digest": digest,
        "size": len(manifest),
        "annotations": {NAME: name},
    }
    index = json.dumps({"schemaVersion": 2, "manifests": [described]}, sort_keys=True).encode()
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(tar, "index.json", index)
        _add(tar, _place(digest), manifest)
        for blob in sorted(blobs):
            _add_file(tar, f"blobs/sha256/{blob}", folder / blob)


def _blob(name: str, folder: Path, described: Mapping[str, Any]) -> str:
    """Return the file name of a part of the image, after reading all of it."""
    digest = _digest(name, described).removeprefix("sha256:")
    try:
        with (folder / digest).open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise MirrorError(f"{name}: its part {digest} did not come; run mirror pull again") from error
    if found != digest:
        raise MirrorError(f"{name}: its part {digest} came with sha256 {found}; run mirror pull again")
    return digest


def _digest(name: str, described: Mapping[str, Any]) -> str:
    digest = str(described["digest"])
    if not SHA256.fullmatch(digest.removeprefix("sha256:")):
        raise MirrorError(f"{name}: {digest[:80]!r} is no sha256 digest; ask its registry's owner")
    return f"sha256:{digest.removeprefix('sha256:')}"


def _parsed(name: str, document: bytes) -> dict[str, Any]:
    try:
        found = json.loads(document[:LONGEST_DOCUMENT])
        if "manifests" not in found:
            _ = found["config"], found["layers"]
    except (ValueError, TypeError, KeyError) as error:
        raise MirrorError(
            f"{name}: its manifest cannot be read ({error}); ask its registry's owner"
        ) from error
    return dict(found)


def _place(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add(tar: tarfile.TarFile, path: str, content: bytes) -> None:
    entry = tarfile.TarInfo(path)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _add_file(tar: tarfile.TarFile, path: str, source: Path) -> None:
    entry = tarfile.TarInfo(path)
    entry.size = source.stat().st_size
    with source.open("rb") as content:
        tar.addfile(entry, content)
