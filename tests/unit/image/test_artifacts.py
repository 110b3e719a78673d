import hashlib
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap import artifacts
from bootstrap.artifacts import Artifact, Manifest
from bootstrap.errors import ImageError


def stored(cache: Path, content: bytes) -> Artifact:
    source = cache.parent / "source"
    source.write_bytes(content)
    return artifacts.import_file(cache, source)


def image(
    cache: Path, key: str, kernel: str = "cloud", release: str = "13", *, driver: str = "", recipe: str = ""
) -> Manifest:
    made = Manifest(
        key=key,
        family="debian",
        release=release,
        kernel_flavour=kernel,
        kernel_version="6.12.1-cloud-amd64",
        built="2026-11-22T02:32:05Z",
        kernel=stored(cache, b"kernel"),
        initrd=stored(cache, b"initrd" + key.encode()),
        disk=stored(cache, b"disk"),
        raw_size=4096,
        driver=driver,
        recipe=recipe,
    )
    artifacts.save_manifest(cache, made)
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_a_file_is_stored_under_its_sum_and_read_only(cache: Path) -> None:
    content = os.urandom(3 * artifacts.BLOCK + 17)
    artifact = stored(cache, content)

    path = artifacts.artifact_path(cache, artifact.sha256)
    assert artifact == Artifact(hashlib.sha256(content).hexdigest(), len(content))
    assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_the_same_file_twice_is_one_file(cache: Path) -> None:
    assert stored(cache, b"same") == stored(cache, b"same")
    assert len(list((cache / "sha256").iterdir())) == 1


def test_a_cut_import_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        del descriptor
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="No space left"):
        stored(cache, b"half")
    assert list((cache / "sha256").iterdir()) == []


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n"])
def test_a_name_that_is_no_sum_is_refused(cache: Path, name: str) -> None:
    with pytest.raises(ImageError, match="is not a sha256"):
        artifacts.artifact_path(cache, name)


def test_verify_finds_one_changed_bit(cache: Path) -> None:
    artifact = stored(cache, b"exact bytes")
    artifacts.verify(cache, artifact)

    path = artifacts.artifact_path(cache, artifact.sha256)
    path.chmod(0o644)
    path.write_bytes(b"exact bytez")

    assert artifacts.present(cache, artifact)
    with pytest.raises(ImageError, match="is damaged"):
        artifacts.verify(cache, artifact)


def test_verify_says_what_is_missing(cache: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read: No such file"):
        artifacts.verify(cache, Artifact("0" * 64, 1))


def test_a_manifest_comes_back_as_it_was(cache: Path) -> None:
    made = image(cache, "k1")

    assert artifacts.load_manifest(cache, "k1") == made
    assert artifacts.find_manifest(cache, "debian", "13", "cloud") == made


def test_the_kind_of_image_must_match(cache: Path) -> None:
    image(cache, "k1")

    assert artifacts.find_manifest(cache, "debian", "13", "server") is None
    assert artifacts.find_manifest(cache, "debian", "12", "cloud") is None
    assert artifacts.find_manifest(cache, "flatcar", "13", "cloud") is None


def test_the_image_that_was_selected_last_is_found(cache: Path) -> None:
    first, second = image(cache, "k1"), image(cache, "k2")
    for age, key in ((200, "k1"), (100, "k2")):
        os.utime(cache / "images" / f"{key}.json", (1e9 - age, 1e9 - age))
    assert artifacts.find_manifest(cache, "debian", "13", "cloud") == second

    artifacts.select(cache, first)
    assert artifacts.manifests(cache) == (first, second)


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_an_image_without_its_files_is_no_image(cache: Path, damage: str) -> None:
    made = image(cache, "k1")
    path = artifacts.artifact_path(cache, made.disk.sha256)
    path.unlink()
    if damage == "short":
        path.write_bytes(b"d")

    assert artifacts.load_manifest(cache, "k1") is None
    assert artifacts.manifests(cache) == ()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"key": "k1"}', "\x00"])
def test_a_manifest_that_cannot_be_read_is_an_image_to_build_again(cache: Path, text: str) -> None:
    made = image(cache, "k1")
    path = cache / "images" / "k1.json"
    path.chmod(0o644)
    path.write_text(text)

    assert artifacts.load_manifest(cache, "k1") is None
    artifacts.save_manifest(cache, made)
    assert artifacts.load_manifest(cache, "k1") == made


def test_a_manifest_with_a_key_of_another_version_is_left_alone(cache: Path) -> None:
    image(cache, "k1")
    path = cache / "images" / "k1.json"
    path.chmod(0o644)
    path.write_text(json.dumps({**json.loads(path.read_text()), "signature": "?"}))

    assert artifacts.load_manifest(cache, "k1") is None


def test_an_empty_cache_holds_no_image(cache: Path) -> None:
    assert artifacts.manifests(cache) == ()


def test_artifacts_of_an_image_are_its_three_files(cache: Path) -> None:
    made = image(cache, "k1")

    assert made.artifacts == (made.kernel, made.initrd, made.disk)
    assert replace(made, disk=made.kernel).artifacts[2] == made.kernel


def test_images_with_and_without_a_driver_are_two_kinds(cache: Path) -> None:
    plain, other = image(cache, "k1"), image(cache, "k2", driver="535 (closed)")

    assert artifacts.find_manifest(cache, "debian", "13", "cloud") == plain
    assert artifacts.find_manifest(cache, "debian", "13", "cloud", "535 (closed)") == other
    assert artifacts.find_manifest(cache, "debian", "13", "cloud", "550 (open)") is None
    assert (
        artifacts.why_no_manifest(cache, "debian", "13", "cloud", "550 (open)")
        == "is not built - image build"
    )


def test_of_one_recipe_the_pair_that_was_built_last_is_taken(cache: Path) -> None:
    first = image(cache, "k1", driver="535 (closed)", recipe="r1")
    second = image(cache, "k2", driver="535 (closed)", recipe="r1")
    image(cache, "k3", driver="535 (closed)", recipe="r2")
    os.utime(cache / "images" / "k1.json", (1, 1))

    assert artifacts.made_by(cache, "r1") == second
    artifacts.select(cache, first)
    assert artifacts.made_by(cache, "r1") == first
    assert artifacts.made_by(cache, "r3") is None
