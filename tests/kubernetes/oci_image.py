"""Makes a container image of one static program, as an OCI archive that `ctr images import` reads; no registry.

python3 tests/kubernetes/oci_image.py NAME PROGRAM ARCHIVE: the image is called localhost/NAME:1. The same program gives
the same bytes (OCI image specification 1.0: image-layout, manifest, config).
"""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"


def image(name: str, program: bytes, links: tuple[str, ...]) -> bytes:
    """Return the archive of `localhost/<name>:1`, which runs `program`; `links` are more names of it in /bin."""
    layer = _layer(name, program, links)
    command = ["/bin/sh"] if "sh" in links else [f"/bin/{name}"]
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": command, "Env": ["PATH=/bin"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_sum(layer)}"]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(CONFIG, config),
            "layers": [_descriptor(LAYER, layer)],
        }
    )
    names = {"io.containerd.image.name": f"localhost/{name}:1", "org.opencontainers.image.ref.name": "1"}
    index = _json(
        {"schemaVersion": 2, "manifests": [{**_descriptor(MANIFEST, manifest), "annotations": names}]}
    )
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": index}
    blobs = {f"blobs/sha256/{_sum(blob)}": blob for blob in (layer, config, manifest)}
    return _archive([(_entry(path, len(content)), content) for path, content in {**files, **blobs}.items()])


def _layer(name: str, program: bytes, links: tuple[str, ...]) -> bytes:
    folders = [_folder(path, mode) for path, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777))]
    runs = _entry(f"bin/{name}", len(program), 0o755)
    return _archive(
        [
            *((folder, b"") for folder in folders),
            (runs, program),
            *((_link(f"bin/{link}", name), b"") for link in links if link != name),
            (_entry("etc/passwd", len(PASSWD)), PASSWD),
        ]
    )


def _entry(path: str, size: int, mode: int = 0o644) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = size, mode
    return entry


def _folder(path: str, mode: int) -> tarfile.TarInfo:
    entry = _entry(path, 0, mode)
    entry.type = tarfile.DIRTYPE
    return entry


def _link(path: str, target: str) -> tarfile.TarInfo:
    entry = _entry(path, 0, 0o777)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry


def _archive(entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for entry, content in entries:
            archive.addfile(entry, io.BytesIO(content))
    return whole.getvalue()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _descriptor(kind: str, content: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": f"sha256:{_sum(content)}", "size": len(content)}


def main(name: str, program: str, archive: str) -> None:
    """Write the image of the file `program` to `archive`; a busybox gets the names of all that it can be."""
    links: tuple[str, ...] = ()
    if name == "busybox":
        listed = subprocess.run([program, "--list"], check=True, capture_output=True, text=True)
        links = tuple(sorted(listed.stdout.split()))
    Path(archive).write_bytes(image(name, Path(program).read_bytes(), links))


if __name__ == "__main__":
    main(*sys.argv[1:])
