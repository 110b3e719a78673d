"""The mirror fetched whole, cut, killed and on a full disk: nothing half-written stays, and it goes on where it was.

Real HTTPS on loopback, a real full disk, a real SIGKILL.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bootstrap import download
from tests.system import mirror_site as makers
from tests.system.mirror_rack import (
    INITRD,
    KERNEL,
    ROOT,
    SECONDS,
    Rack,
    command,
    environment,
    files_of,
    nothing_wrong_is_there,
)
from tests.system.mirror_site import FCOS, FLATCAR, FLATCAR_FILES, STREAM, Gpg, Image, Server, Site

pytestmark = pytest.mark.system
WRITTEN = 130_000
"""Bytes on the disk of 150,000 that were sent: the last record of TLS may still be on its way."""


def test_all_that_a_rack_needs_is_fetched_once_locked_and_found_again(
    rack: Rack, server: Server, whole: Site
) -> None:
    code, out, _ = rack("--output", "json", "mirror", "pull", "--dry-run")
    rows = {row["path"]: row for row in json.loads(out)}
    assert code == 0
    assert not rack.mirror.exists(), "a dry run writes nothing"
    assert {row["state"] for row in rows.values()} == {"fetch"}
    kernel = f"flatcar/amd64-usr/{FLATCAR}/{FLATCAR_FILES[0]}"
    assert rows[kernel]["size"] == len(whole.files[KERNEL])

    code, _, err = rack("mirror", "pull")

    assert code == 0, err
    nothing_wrong_is_there(rack.mirror, whole)
    names = set(files_of(rack.mirror))
    assert {kernel, f"{kernel}.sig", "kubernetes/v1.36.4/kubelet", "etcd/v3.6.5/etcd"} <= names
    assert f"fedora-coreos/x86_64/{FCOS}/fedora-coreos-{FCOS}-metal.x86_64.raw.xz" in names
    assert set(rows) < names
    listed = {row["path"]: row for row in json.loads(rack("--output", "json", "mirror", "list")[1])}
    assert set(listed) == names - {"mirror.lock.json"}
    assert len(listed[kernel]["signer"]) == 40
    assert listed[kernel]["sha256"] == makers.sha256(whole.files[KERNEL])
    assert rack("mirror", "verify")[0] == 0
    (image,) = (rack.mirror / "images").iterdir()
    look = ("skopeo", "inspect", "--raw", f"oci-archive:{image}")
    manifest = subprocess.run(look, capture_output=True, check=True, timeout=SECONDS).stdout
    assert ("application/vnd.oci.image.manifest.v1+json", manifest) in server_image(server).blobs.values()
    shown = rack("mirror", "list")[1]
    assert listed[kernel]["signer"][-16:] in shown
    assert "fetched:" in rack("--output", "yaml", "mirror", "list")[1]


def test_a_second_pull_fetches_nothing_and_asks_only_where_channels_are(rack: Rack, server: Server) -> None:
    assert rack("mirror", "pull")[0] == 0
    lock = (rack.mirror / "mirror.lock.json").read_bytes()
    server.asked.clear()
    assert rack("mirror", "pull")[0] == 0
    assert {path for path, _ in server.asked} == {STREAM}, "only a channel is asked where it is"
    assert (rack.mirror / "mirror.lock.json").read_bytes() == lock


def server_image(server: Server) -> Image:
    assert server.site is not None
    return server.site.image


def test_the_commands_of_the_document_run(rack: Rack) -> None:
    text = (ROOT / "docs/mirror.md").read_text()
    lines = text.partition("```sh\n")[2].partition("```")[0].splitlines()

    assert len(lines) == 4
    for line in lines:
        verb = line.removeprefix("python3 deploy.py --config rack.yaml ").split()
        assert verb[0] == "mirror"
        code, _, err = rack(*verb)
        assert code == 0, err


def test_a_server_that_goes_silent_is_left_and_what_came_is_kept(
    rack: Rack, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "READ_SECONDS", 0.3)
    server.silent[KERNEL] = 100_000

    rack.refused(KERNEL, "cannot be fetched", "what came so far is kept, so try again")

    assert server.stalled.is_set()
    server.silent.clear()
    server.asked.clear()
    monkeypatch.undo()
    assert rack("mirror", "pull")[0] == 0
    (asked,) = [begin for path, begin in server.asked if path == KERNEL]
    assert int(asked.removeprefix("bytes=").removesuffix("-")) >= 100_000


def test_what_is_cut_again_and_again_goes_on_where_it_was(rack: Rack, server: Server) -> None:
    server.cuts = {KERNEL: 70_000, INITRD: 1}

    assert rack("mirror", "pull")[0] == 0

    assert [begin for path, begin in server.asked if path == KERNEL] == ["", "bytes=70000-"]


@contextmanager
def stalled_pull(rack: Rack, server: Server, sent: int) -> Iterator[None]:
    """Have a pull wait for a server that went silent after `sent` bytes of the kernel; at the end it is killed."""
    server.silent[KERNEL] = sent
    with subprocess.Popen(
        command(rack, "mirror", "pull"), env=environment(), stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert server.stalled.wait(SECONDS)
            yield
        finally:
            process.kill()


def test_a_pull_killed_in_the_middle_of_a_file_goes_on(rack: Rack, server: Server, whole: Site) -> None:
    with stalled_pull(rack, server, 150_000):
        part = rack.mirror / ".partial"
        for _ in range(600):
            if any(path.stat().st_size >= WRITTEN for path in part.iterdir()):
                break
            server.released.wait(0.1)
    nothing_wrong_is_there(rack.mirror, whole)
    server.silent.clear()
    server.released.set()
    server.asked.clear()

    assert rack("mirror", "pull")[0] == 0

    (begin,) = [begin for path, begin in server.asked if path == KERNEL]
    assert int(begin.removeprefix("bytes=").removesuffix("-")) >= WRITTEN
    assert rack("mirror", "verify")[0] == 0


@pytest.mark.parametrize("number", [1, 9, 14])
@pytest.mark.parametrize("place", ["mirror.rename.before", "mirror.rename.after", "disk.file.before"])
def test_a_pull_killed_beside_a_rename_goes_on(rack: Rack, whole: Site, place: str, number: int) -> None:
    number = min(number, 9) if place.startswith("disk") else number
    done = subprocess.run(
        command(rack, "mirror", "pull"),
        env=environment(FIRSTLIGHT_FAILPOINTS=f"{place}=kill@{number}"),
        capture_output=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == -9, done.stderr

    nothing_wrong_is_there(rack.mirror, whole)
    assert rack("mirror", "pull")[0] == 0
    assert rack("mirror", "verify")[0] == 0
    assert list((rack.mirror / ".partial").iterdir()) == [rack.mirror / ".partial/lock"]


@pytest.mark.parametrize("kib", [16, 300, 2000, 3900, 4660, 4740])
def test_a_full_disk_ends_in_one_line_and_goes_on_with_more_room(rack: Rack, whole: Site, kib: int) -> None:
    rack.mirror.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "mirror", f"{rack.mirror}"], check=True)
    try:
        line = rack.refused("No space left on device", "the disk is full: make room there and run this again")
        assert line.startswith(f"{rack.mirror}"), line
        nothing_wrong_is_there(rack.mirror, whole)
        subprocess.run(["mount", "-o", "remount,size=64m", f"{rack.mirror}"], check=True)
        assert rack("mirror", "pull")[0] == 0
        assert rack("mirror", "verify")[0] == 0
    finally:
        subprocess.run(["umount", f"{rack.mirror}"], check=True)


def test_two_pulls_into_one_folder_do_not_mix(rack: Rack, server: Server) -> None:
    with stalled_pull(rack, server, 10):
        code, _, err = rack("mirror", "pull")
    assert code == 2
    assert "another mirror pull is at work there; wait for it" in err


def test_verify_names_what_is_damaged_swapped_missing_foreign_or_signed_by_nobody_we_know(
    rack: Rack, gpg: Gpg
) -> None:
    assert rack("mirror", "pull")[0] == 0
    folder = rack.mirror / f"flatcar/amd64-usr/{FLATCAR}"
    kernel, initrd = (folder / name for name in FLATCAR_FILES[:2])
    one, other = kernel.read_bytes(), initrd.read_bytes()
    kernel.write_bytes(other)
    initrd.write_bytes(one)
    (rack.mirror / "kubernetes/v1.36.4/kubelet").unlink()
    (rack.mirror / "kubernetes/v1.36.4/kubectl").write_bytes(b"evil")
    (rack.mirror / "stray").write_bytes(b"")

    code, _, err = rack("mirror", "verify")

    assert code == 1
    for words in (
        f"{kernel} is damaged or another file",
        f"{initrd} is damaged or another file",
        "kubelet is missing; run mirror pull",
        "kubectl is damaged or another file",
        "stray is not in mirror.lock.json; remove it",
    ):
        assert words in err
    (rack.mirror / "stray").unlink()
    assert rack("mirror", "pull")[0] == 0, "a pull mends it"
    assert rack("mirror", "verify")[0] == 0
    (rack.folder / "flatcar.asc").write_bytes(gpg.public("stranger@example.net", "--armor"))
    assert "which is not in" in rack("mirror", "verify")[2]
    lock = rack.mirror / "mirror.lock.json"
    lock.write_bytes(lock.read_bytes().replace(b'"size": ', b'"size": 1', 1))
    code, _, err = rack("mirror", "verify")
    assert code == 1
    assert "is damaged (its own sum is wrong): copy it anew" in err
