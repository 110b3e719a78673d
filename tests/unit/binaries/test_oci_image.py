"""The container images of the lab: whole, named, and the same bytes each time."""

import hashlib
import io
import json
import tarfile
from typing import Any

from tests.kubernetes.oci_image import image

PROGRAM = b"\x7fELF program"


def files_of(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        members = ((member.name, opened.extractfile(member)) for member in opened)
        return {name: content.read() for name, content in members if content is not None}


def blob(files: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    content = files[f"blobs/{descriptor['digest'].replace(':', '/')}"]
    assert hashlib.sha256(content).hexdigest() == descriptor["digest"].removeprefix("sha256:")
    assert len(content) == descriptor["size"]
    return content


def test_every_blob_is_what_its_descriptor_says_and_the_image_has_its_name() -> None:
    files = files_of(image("busybox", PROGRAM, ("busybox", "ls", "sh")))
    (described,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(blob(files, described))
    config = json.loads(blob(files, manifest["config"]))
    (layer,) = manifest["layers"]

    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    assert described["annotations"]["io.containerd.image.name"] == "localhost/busybox:1"
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]
    assert config["config"]["Cmd"] == ["/bin/sh"]
    with tarfile.open(fileobj=io.BytesIO(blob(files, layer))) as root:
        members = {member.name: member for member in root}
    assert (members["bin/busybox"].mode, members["bin/busybox"].size) == (0o755, len(PROGRAM))
    assert {name: members[f"bin/{name}"].linkname for name in ("ls", "sh")} == {
        "ls": "busybox",
        "sh": "busybox",
    }
    assert members["tmp"].mode == 0o1777


def test_an_image_of_one_program_runs_that() -> None:
    files = files_of(image("pause", PROGRAM, ()))
    (described,) = json.loads(files["index.json"])["manifests"]
    config = json.loads(blob(files, json.loads(blob(files, described))["config"]))

    assert config["config"]["Cmd"] == ["/bin/pause"]


def test_the_same_program_gives_the_same_bytes() -> None:
    assert image("pause", PROGRAM, ("a",)) == image("pause", PROGRAM, ("a",))
    assert image("pause", PROGRAM, ("a",)) != image("pause", PROGRAM + b"!", ("a",))
