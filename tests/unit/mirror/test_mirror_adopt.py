"""Images of makers come from the mirror into the store whole and right, or one line says what to do."""

import bz2
import hashlib
from pathlib import Path

import pytest

from bootstrap import artifacts
from bootstrap.artifacts import Manifest, artifact_path
from bootstrap.errors import FirstlightError, MirrorError, PreflightError
from bootstrap.mirror import lock
from bootstrap.mirror.adopt import adopt, lack
from bootstrap.model import Os
from bootstrap.progress import silent
from tests.maker_images import RAW, RELEASES, kernel, maker, mirrored, release

FAMILIES = sorted(RELEASES)
DISKS = {
    "flatcar": "flatcar_production_image.bin.bz2",
    "fedora-coreos": "fedora-coreos-{}-metal.x86_64.raw.xz",
}


def os_of(family: str, named: str = "") -> Os:
    return Os.model_validate({"family": family, "release": named or RELEASES[family]})


def take(tmp_path: Path, family: str, named: str = "") -> tuple[Manifest, bool]:
    return adopt(os_of(family, named), maker(family), tmp_path / "mirror", tmp_path / "cache", silent)


def why(tmp_path: Path, family: str, named: str = "") -> str:
    line = lack(os_of(family, named), maker(family), tmp_path / "mirror")
    assert line is not None
    assert "\n" not in line
    return line


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mirrored_release_becomes_an_image_of_the_store(family: str, tmp_path: Path) -> None:
    mirrored(tmp_path / "mirror", family)
    manifest, is_new = take(tmp_path, family)

    assert is_new
    assert (manifest.family, manifest.release, manifest.version) == (family, *[RELEASES[family]] * 2)
    assert manifest.raw_size == RAW
    assert (manifest.rootfs is not None) == (family == "fedora-coreos")
    made = {hashlib.sha256(content).hexdigest(): content for content in release(family).values()}
    assert {part.sha256 for part in manifest.artifacts} == set(made)
    for part in manifest.artifacts:
        assert artifact_path(tmp_path / "cache", part.sha256).read_bytes() == made[part.sha256]
    assert artifacts.find_manifest(tmp_path / "cache", family, RELEASES[family], "server") == manifest


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_taken_is_not_taken_again(family: str, tmp_path: Path) -> None:
    mirrored(tmp_path / "mirror", family)
    first, _ = take(tmp_path, family)

    assert take(tmp_path, family) == (first, False)


def test_a_channel_is_at_what_the_last_pull_found(tmp_path: Path) -> None:
    mirrored(tmp_path / "mirror", "flatcar", "4593.2.4", channel="stable")
    old, _ = take(tmp_path, "flatcar", "stable")
    mirrored(tmp_path / "mirror", "flatcar", "4593.2.5", channel="stable")
    new, is_new = take(tmp_path, "flatcar", "stable")

    assert (old.version, new.version, is_new) == ("4593.2.4", "4593.2.5", True)
    assert old.release == new.release == "stable"
    assert artifacts.find_manifest(tmp_path / "cache", "flatcar", "stable", "server") == new


def test_an_empty_mirror_says_what_to_run(tmp_path: Path) -> None:
    line = why(tmp_path, "flatcar")

    assert line == (
        f"flatcar 4593.2.5 is not in the mirror {tmp_path / 'mirror'} (it has: none); "
        "run mirror pull with this configuration"
    )
    with pytest.raises(PreflightError, match="run mirror pull"):
        take(tmp_path, "flatcar")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_release_that_is_not_there_is_named_with_those_that_are(family: str, tmp_path: Path) -> None:
    mirrored(tmp_path / "mirror", family)

    assert f"{family} 1.2.3 is not in the mirror" in why(tmp_path, family, "1.2.3")
    assert f"(it has: {RELEASES[family]})" in why(tmp_path, family, "1.2.3")


def test_a_release_of_one_family_is_none_of_another(tmp_path: Path) -> None:
    mirrored(tmp_path / "mirror", "flatcar")

    assert "is not in the mirror" in why(tmp_path, "fedora-coreos", RELEASES["flatcar"])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("part", ["kernel", "initrd", "disk"])
def test_a_part_that_is_not_there_is_named(family: str, part: str, tmp_path: Path) -> None:
    mirrored(tmp_path / "mirror", family)
    manifest, _ = take(tmp_path, family)
    paths = {entry.sha256: entry.path for entry in lock.read(tmp_path / "mirror").entries.values()}
    (tmp_path / "mirror" / paths[manifest.parts[part].sha256]).unlink()

    assert f"has no {part} for x86_64" in why(tmp_path, family)


def test_files_of_another_architecture_are_none(tmp_path: Path) -> None:
    version = RELEASES["fedora-coreos"]
    files = {name.replace("x86_64", "aarch64"): text for name, text in release("fedora-coreos").items()}
    mirrored(tmp_path / "mirror", "fedora-coreos", version, files)

    assert "has no kernel for x86_64" in why(tmp_path, "fedora-coreos")


def refused(tmp_path: Path, family: str, kind: type[FirstlightError], **files: bytes) -> str:
    """Try to take a release some of whose files are others; nothing may be offered then."""
    made = {**release(family), **{name.replace("__", "."): content for name, content in files.items()}}
    mirrored(tmp_path / "mirror", family, files=made)
    with pytest.raises(kind) as caught:
        take(tmp_path, family)
    assert artifacts.manifests(tmp_path / "cache") == ()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_kernel_for_arm64_is_refused(tmp_path: Path) -> None:
    text = refused(
        tmp_path, "flatcar", PreflightError, flatcar_production_pxe__vmlinuz=kernel("1", b"\0\0\0\0")
    )

    assert "flatcar_production_pxe.vmlinuz is no kernel for x86_64" in text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (bz2.compress(b"x" * 4096), "holds no image of a disk"),
        (release("flatcar")["flatcar_production_image.bin.bz2"][:-40], "cannot be unpacked"),
        (b"no archive at all", "cannot be unpacked"),
        (b"", "cannot be unpacked"),
    ],
)
def test_what_is_no_whole_disk_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    text = refused(tmp_path, "flatcar", MirrorError, flatcar_production_image__bin__bz2=content)

    assert reason in text


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_archive_is_refused(family: str, tmp_path: Path) -> None:
    name = DISKS[family].format(RELEASES[family])
    mirrored(tmp_path / "mirror", family, files={**release(family), name: release(family)[name][:-40]})

    with pytest.raises(MirrorError, match="cannot be unpacked"):
        take(tmp_path, family)


def test_a_file_that_is_not_what_the_lock_says_is_refused(tmp_path: Path) -> None:
    mirrored(tmp_path / "mirror", "flatcar")
    path = tmp_path / "mirror/flatcar/amd64-usr/4593.2.5/flatcar_production_pxe_image.cpio.gz"
    path.write_bytes(b"X" + path.read_bytes()[1:])

    with pytest.raises(MirrorError, match=r"cpio\.gz is damaged or another file"):
        take(tmp_path, "flatcar")
    assert artifacts.manifests(tmp_path / "cache") == ()
    swapped = hashlib.sha256(path.read_bytes()).hexdigest()
    assert not artifact_path(tmp_path / "cache", swapped).exists()


def test_a_damaged_lock_is_refused(tmp_path: Path) -> None:
    mirrored(tmp_path / "mirror", "flatcar")
    (tmp_path / "mirror" / lock.NAME).write_text("{}")

    with pytest.raises(MirrorError, match="is damaged"):
        take(tmp_path, "flatcar")


def test_what_the_store_has_is_used_where_the_mirror_is_not(tmp_path: Path) -> None:
    mirrored(tmp_path / "mirror", "flatcar")
    first, _ = take(tmp_path, "flatcar")
    (tmp_path / "mirror").rename(tmp_path / "elsewhere")

    assert take(tmp_path, "flatcar") == (first, False)
