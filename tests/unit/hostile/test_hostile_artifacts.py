"""One flipped bit in what is stored: not offered, named, and taken out of the store (promise S-13)."""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bootstrap import artifacts, sums
from bootstrap.artifacts import Artifact, Manifest
from bootstrap.disk import read_bundle, write_bundle
from bootstrap.errors import ServeError
from bootstrap.render.bundle import File
from bootstrap.scrub import Scrubber
from tests.tier import dice
from tests.unit.hostile.damage import flip, flipped
from tests.unit.web.fakes import cluster
from web.images import CachedImages, lack_of

FLIPS = 40
POOL = cluster().pool("workers")


@dataclass
class Store:
    """A cache with one image, and what a scrubber said."""

    cache: Path
    image: Manifest = field(init=False)
    images: CachedImages = field(init=False)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        source = self.cache.with_name("source")
        made = []
        for content in (b"kernel " * 900, b"initrd " * 900, b"disk " * 900):
            source.write_bytes(content)
            made.append(artifacts.import_file(self.cache, source))
        self.image = Manifest(
            key="k1", family="debian", release="13", kernel_flavour="cloud", kernel_version="6.12", built="2026-01-01",
            kernel=made[0], initrd=made[1], disk=made[2], raw_size=4096,
        )  # fmt: skip
        artifacts.save_manifest(self.cache, self.image)
        self.anew()

    def anew(self) -> None:
        """Start over, as a restarted web does."""
        self.images = CachedImages(self.cache)
        self.images.scrubber.tell = self.said.append
        self.said.clear()

    def path(self, artifact: Artifact) -> Path:
        return artifacts.artifact_path(self.cache, artifact.sha256)

    @property
    def manifest(self) -> Path:
        return self.cache / "images" / "k1.json"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.mark.parametrize("kind", ["kernel", "initrd", "disk"])
def test_an_image_with_one_flipped_bit_is_not_offered_and_named(store: Store, kind: str) -> None:
    artifact: Artifact = getattr(store.image, kind)
    random = dice(kind)
    for _ in range(FLIPS):
        store.anew()
        assert store.images(POOL) == store.image
        with flipped(store.path(artifact), random):
            assert store.images(POOL) is None
            assert [artifact.sha256 in line and "is damaged" in line for line in store.said] == [True]
            assert not store.path(artifact).exists()
            store.anew()
            assert store.images(POOL) is None
            assert (
                lack_of(store.images, POOL)
                == f"is not complete: its {kind} {artifact.sha256[:12]} is damaged - image build"
            )
        store.anew()
        assert store.images(POOL) == store.image


def test_a_manifest_with_any_bit_flipped_is_not_offered_and_named(store: Store) -> None:
    random, content = dice("manifest"), store.manifest.read_bytes()
    store.manifest.chmod(0o644)
    for bit in random.sample(range(8 * len(content)), 300):
        flip(store.manifest, bit)
        assert artifacts.find_manifest(store.cache, "debian", "13", "cloud") is None, (bit, content[bit // 8])
        assert (
            artifacts.why_no_manifest(store.cache, "debian", "13", "cloud")
            == "cannot be told: k1.json is damaged - image build"
        )
        store.manifest.write_bytes(content)


def test_an_older_image_never_takes_the_place_of_a_damaged_one(store: Store) -> None:
    newer = artifacts.import_file(store.cache, _written(store.cache.with_name("newer"), b"newer disk"))
    artifacts.save_manifest(store.cache, Manifest(**{**vars(store.image), "key": "k2", "disk": newer}))
    assert artifacts.find_manifest(store.cache, "debian", "13", "cloud") is not None

    artifacts.set_aside(store.cache, newer)

    assert artifacts.find_manifest(store.cache, "debian", "13", "cloud") is None
    assert artifacts.manifests(store.cache) == (store.image,)


def test_what_rots_without_a_trace_is_found_by_reading_it_again(store: Store) -> None:
    path = store.path(store.image.kernel)
    scrubber = Scrubber(store.cache, store.said.append)
    assert scrubber.is_sound(store.image)
    scrubber._found[store.image.kernel] = (
        None,
        True,
    )  # as the next line's stamp would be, had the disk done it
    flip(path, 77)

    scrubber.again()

    assert store.image.kernel.sha256 in store.said[0]
    assert not scrubber.is_sound(store.image)


def test_a_file_that_cannot_be_read_for_a_moment_stays_in_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_handles(path: Path, mode: str) -> None:
        del path, mode
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", no_handles)
        assert not any(store.images.scrubber.is_sound(store.image) for _ in range(3))

    assert [line.endswith("cannot be read: Too many open files") for line in store.said] == [True] * 3
    assert store.images(POOL) == store.image


def test_a_store_that_cannot_be_changed_is_told_of_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path, target: Path) -> None:
        del path, target
        raise OSError(30, "Read-only file system")

    flip(store.path(store.image.disk), 5)
    monkeypatch.setattr(Path, "rename", read_only)
    for _ in range(3):
        assert store.images(POOL) is None

    assert len(store.said) == 1
    assert "could not be set aside (Read-only file system)" in store.said[0]


def test_an_image_built_again_is_offered_again(store: Store) -> None:
    flip(store.path(store.image.disk), 5)
    assert store.images(POOL) is None

    source = _written(store.cache.with_name("again"), b"disk " * 900)
    assert artifacts.import_file(store.cache, source) == store.image.disk
    store.anew()

    assert store.images(POOL) == store.image
    assert list((store.cache / "damaged").iterdir()) == []


def test_a_manifest_of_an_earlier_version_gets_its_sum_when_it_is_selected(store: Store) -> None:
    text = store.manifest.read_text()
    values = {name: value for name, value in json.loads(text).items() if name != "sum"}
    store.manifest.chmod(0o644)
    store.manifest.write_text(json.dumps(values))
    assert artifacts.load_manifest(store.cache, "k1") == store.image

    artifacts.select(store.cache, store.image)

    assert store.manifest.read_text() == text


def test_rendered_documents_with_a_flipped_bit_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    bundle = {"web/nginx.conf": File(b"a" * 50), "machines/w1/live.ign": File(b"b" * 50)}
    write_bundle(folder, bundle)
    random = dice("bundle")
    for name in (*bundle, sums.NAME):
        for _ in range(FLIPS):
            with (
                flipped(folder / name, random),
                pytest.raises(ServeError, match=re.escape(str(folder / name))),
            ):
                read_all(folder, bundle)
    assert read_all(folder, bundle) == [file.content for file in bundle.values()]


def read_all(folder: Path, names: Iterable[str]) -> list[bytes]:
    return [sums.Sums(folder).read(name) for name in names]


def test_rendering_again_heals_documents_and_their_sums(tmp_path: Path) -> None:
    folder, bundle = tmp_path / "bundle", {"web/nginx.conf": File(b"a" * 50)}
    write_bundle(folder, bundle)
    for name in ("web/nginx.conf", sums.NAME):
        flip(folder / name, 11)
        assert write_bundle(folder, bundle)
        assert sums.Sums(folder).read("web/nginx.conf") == b"a" * 50
        assert read_bundle(folder) == bundle
    assert not write_bundle(folder, bundle)


def test_documents_without_sums_are_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")

    assert sums.Sums(tmp_path).read("a") == b"x"


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    os.utime(path)
    return path
