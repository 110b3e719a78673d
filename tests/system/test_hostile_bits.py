"""Promise S-13: one flipped bit in anything stored is never served or never used, and named."""

import contextlib
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.artifacts import Artifact
from bootstrap.disk import read_bundle, write_bundle
from bootstrap.localboot import make_localboot
from tests.system import web_bench
from tests.system.web_bench import Appliance, appliance, end, start, wait_for
from tests.tier import Promise, dice, rounds, seed
from tests.unit.hostile.damage import flipped
from tests.unit.web.fakes import W1

pytestmark = [pytest.mark.system, pytest.mark.promise]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(web_bench, "IMAGE_BYTES", 4 << 20)
        with appliance(tmp_path_factory.mktemp("bits")) as running:
            end(running.process)
            write_bundle(running.work / "bundle", read_bundle(running.work / "bundle"))  # with its sums
            make_localboot(running.work)
            running.process = start(running.work, running.cache, running.log)
            running.await_ready()
            yield running


def script(web: Appliance) -> str:
    return web.plain("GET", f"/ipxe?mac={W1}&platform=efi").body.decode()


def installs(web: Appliance) -> bool:
    return "\nkernel " in script(web)


def named(web: Appliance, after: int) -> str:
    """Return the reasons of all events of damage after a number, as one text."""
    found = web.operator.events(after=after)
    return "\n".join(event["reason"] for event in found if event["what"] == "damaged")


def last_event(web: Appliance) -> int:
    return int(web.operator.events()[-1]["seq"]) if web.operator.events() else 0


def path_of(web: Appliance, artifact: Artifact) -> Path:
    return web.cache / "sha256" / artifact.sha256


def refuse_artifact(web: Appliance, kind: str, artifact: Artifact, before: int) -> None:
    """Assert that a damaged artifact is asked for in vain, in each way there is, and named in each place."""
    text = script(web)
    assert f"is not complete: its {kind} {artifact.sha256[:12]} is damaged - image build" in text, text
    assert "\nkernel " not in text
    assert web.plain("GET", f"/artifacts/sha256/{artifact.sha256}").status == 404
    body = json.dumps({"mac": W1, "arm": web.operator.machine("w1")["arm"]})
    assert web.secure("POST", "/v1/machine/begin", body=body).status == 503
    assert artifact.sha256[:12] in web.operator.machine("w1")["message"]
    assert artifact.sha256 in named(web, before)


def test_a_flipped_bit_in_anything_stored_is_found_and_named(web: Appliance, promise: Promise) -> None:
    web.operator.act("w1", "arm")
    random, done = dice("bits"), Counter[str]()
    for _ in range(rounds(20, 200)):
        # The kernel and the initrd of this image are one file; the first that is named is the kernel.
        for kind in ("kernel", "disk"):
            artifact: Artifact = getattr(web.image, kind)
            wait_for(lambda: installs(web), lambda: script(web))
            before = last_event(web)
            with flipped(path_of(web, artifact), random):
                refuse_artifact(web, kind, artifact, before)
            done[kind] += 1
        wait_for(lambda: installs(web), lambda: script(web))
        with flipped(web.cache / "images/debian-13-cloud.json", random):
            wait_for(lambda: "debian-13-cloud.json is damaged" in script(web), lambda: script(web))
            assert not installs(web)
            done["manifest"] += 1
        wait_for(lambda: installs(web), lambda: script(web))
        for path in ("bundle/web/boot.ipxe", "run/localboot.efi", "run/localboot.pxe"):
            heal(web, path, random.randrange(1 << 30))
            done[Path(path).name] += 1
    promise(
        promise="S-13 flipped bits",
        asked="one flipped bit in any stored artifact: never served or never installed, and named",
        done=", ".join(f"{count} {kind}" for kind, count in sorted(done.items())),
        found=f"{done.total()} of {done.total()} found, named, and gone or made anew",
        seed=seed(),
    )


def heal(web: Appliance, path: str, number: int) -> None:
    """Flip a bit of a small file; assert that it is put right within moments, and named."""
    target, before = web.work / path, last_event(web)
    content = target.read_bytes()
    with target.open("r+b") as file:
        bit = number % (8 * len(content))
        file.seek(bit // 8)
        file.write(bytes([content[bit // 8] ^ 1 << bit % 8]))
    wait_for(lambda: path in named(web, before), web.text)
    wait_for(lambda: web.plain("GET", f"/{target.name}").status == 200, web.text)
    assert web.plain("GET", f"/{target.name}").body == target.read_bytes()
    assert target.name != "boot.ipxe" or target.read_bytes() == content


def test_documents_with_a_flipped_bit_are_not_loaded_and_named(web: Appliance) -> None:
    random = dice("documents")
    for path in ("machines/w1/live.ign", "machines/w2/installed.ign", "appliance/cluster.json", "SHA256SUMS"):
        with flipped(web.work / "bundle" / path, random):
            status, answer = web.operator._ask("POST", "/v1/reload")
        assert status == 409, answer
        assert path.encode() in bytes(answer) if isinstance(answer, bytes) else path in str(answer)
    web.operator.reload()


@pytest.mark.parametrize("path", ["machines/w1/live.ign", "appliance/cluster.json", "web/nginx.conf"])
def test_an_appliance_does_not_start_from_documents_with_a_flipped_bit(web: Appliance, path: str) -> None:
    end(web.process)
    mark = len(web.log.read_text())
    try:
        with flipped(web.work / "bundle" / path, dice(path)):
            web.process = start(web.work, web.cache, web.log)
            wait_for(lambda: f"{path} is damaged or was changed" in web.log.read_text()[mark:], web.text)
            assert not web.operator.is_ready()
            web.process.terminate()
            web.process.wait(20)
    finally:
        web.process = start(web.work, web.cache, web.log)
        web.await_ready()
    assert "Traceback" not in web.log.read_text()[mark:]


@contextlib.contextmanager
def rotting_disk(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Mount a file system from a file; yield where it is mounted, and the file: a bit of that is a bit of the disk."""
    backing, mount = folder / "disk.img", folder / "mnt"
    mount.mkdir()
    backing.write_bytes(b"")
    subprocess.run(["truncate", "-s", "64M", backing], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", backing], check=True)
    subprocess.run(["mount", "-o", "loop", backing, mount], check=True)
    try:
        yield mount, backing
    finally:
        subprocess.run(["umount", mount], check=True)


def test_a_disk_that_rots_under_the_store_is_found_by_reading_again(tmp_path: Path) -> None:
    """No time, size or inode changes when a disk returns other bytes than were written."""
    from bootstrap import artifacts  # noqa: PLC0415  # the only test here that takes the parts alone
    from bootstrap.scrub import Scrubber, stamp_of  # noqa: PLC0415

    content = b"".join(b"block %08d of a kernel that is about to rot\n" % number for number in range(40_000))
    with rotting_disk(tmp_path) as (mount, backing):
        (tmp_path / "kernel").write_bytes(content)
        kernel = artifacts.import_file(mount / "cache", tmp_path / "kernel")
        image = web_bench.make_image(tmp_path, mount / "cache")
        said: list[str] = []
        scrubber = Scrubber(mount / "cache", said.append)
        from dataclasses import replace  # noqa: PLC0415

        image = replace(image, kernel=kernel, initrd=kernel, disk=kernel)
        assert scrubber.is_sound(image)
        before = stamp_of(artifacts.artifact_path(mount / "cache", kernel.sha256))
        subprocess.run(["sync", "-f", mount], check=True)
        rot(backing, b"block 00012345 of a kernel")
        assert stamp_of(artifacts.artifact_path(mount / "cache", kernel.sha256)) == before

        scrubber.again()

        assert kernel.sha256 in said[0]
        assert not scrubber.is_sound(image)
        shutil.rmtree(mount / "cache")


def rot(backing: Path, where: bytes) -> None:
    """Flip a bit of the disk at the only place that holds `where`."""
    data = backing.read_bytes()
    place = data.index(where)
    assert data.count(where) == 1
    with backing.open("r+b") as disk:
        disk.seek(place)
        disk.write(bytes([data[place] ^ 4]))
