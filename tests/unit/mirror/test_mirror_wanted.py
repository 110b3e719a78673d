"""What a configuration wants of the mirror is computed, and nobody is asked."""

import copy
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import bootstrap.mirror.sources
from bootstrap import config, rooms
from bootstrap.errors import FirstlightError, PreflightError, UsageError
from bootstrap.mirror.item import Wanted
from bootstrap.mirror.places import image_name
from bootstrap.mirror.sums import first_sum, sum_for, sum_under
from bootstrap.mirror.wanted import source, wanted
from bootstrap.model import Cluster
from tests import samples
from tests.unit.lab.conftest import DOCUMENT

GOLDEN = Path(__file__).parent / "golden"
DIGEST = "2" * 64
PAUSE = f"registry.k8s.io/pause:3.10@sha256:{DIGEST}"


def cluster_with(change: Callable[[dict[str, Any]], object]) -> Cluster:
    document = copy.deepcopy(DOCUMENT)
    document["mirror"] = {}
    change(document)
    return Cluster.model_validate(document)


def pools(*releases: tuple[str, str]) -> list[dict[str, Any]]:
    select = {"select": {"type": "virtio"}}
    names = ("workers", "b", "c", "d", "e")
    return [
        {"name": name, "os": {"family": family, "release": release}, "disk": select}
        for name, (family, release) in zip(names, releases, strict=False)
    ]


def everything(document: dict[str, Any]) -> None:
    document["controlPlane"] = {"hosts": [{"name": "m1", "address": "10.77.0.11"}]}
    document["etcd"] = {"members": ["m1"]}
    document["kubernetes"]["sandboxImage"] = "registry.k8s.io/pause:3.10"
    document["kubernetes"]["binaries"] = {"sha256s": {"kubelet": "1" * 64}}
    document["pools"] = pools(
        ("flatcar", "4593.2.5"),
        ("flatcar", "lts"),
        ("fedora-coreos", "44.20260707.2.1"),
        ("fedora-coreos", "next"),
        ("debian", "13"),
    )
    document["mirror"] = {
        "keys": {"flatcar": "keys/flatcar.asc", "fedoraCoreos": "keys/fedora.gpg"},
        "etcd": {"version": "v3.6.5", "sha256": "3" * 64},
        "cniPlugins": {"version": "v1.8.0"},
        "images": [PAUSE, f"quay.io/a/b@sha256:{DIGEST}"],
        "registries": {"registry.k8s.io": "mirror.example.net:5000/k8s"},
        "files": [{"url": "https://example.net/x/nvidia.raw?version=1", "sha256": "4" * 64}],
    }


def test_a_rack_of_all_families_wants_what_is_committed(*, update_golden: bool) -> None:
    found = [asdict(item) for item in wanted(cluster_with(everything))]
    text = json.dumps(found, indent=1) + "\n"
    if update_golden:
        (GOLDEN / "everything.json").write_text(text)

    assert text == (GOLDEN / "everything.json").read_text()


@pytest.mark.parametrize("name", samples.NAMES)
def test_the_same_configuration_wants_the_same(name: str) -> None:
    cluster = samples.cluster(name)
    if name == "lab":
        assert wanted(cluster) == wanted(cluster.model_copy(deep=True))
        return
    with pytest.raises(
        UsageError, match=r"mirror\.etcd is needed: add"
    ):  # the samples leave out what has no default
        wanted(cluster)


def test_copies_stand_for_the_makers_servers() -> None:
    def copies(document: dict[str, Any]) -> None:
        everything(document)
        document["mirror"] |= {
            "kubernetes": "http://m/k8s/",
            "flatcar": "http://m/flatcar/",
            "fedoraCoreos": "http://m/fcos/",
            "etcd": {"version": "v3.6.5", "url": "http://m/etcd/"},
            "cniPlugins": {"version": "v1.8.0", "url": "http://m/cni/"},
            "registries": {"registry.k8s.io": "m", "quay.io": "m/quay"},
            "files": [],
        }

    urls = {item.url for item in wanted(cluster_with(copies))}

    assert {url.removeprefix("docker://").removeprefix("http://").partition("/")[0] for url in urls} == {"m"}
    assert "http://m/flatcar/stable/amd64-usr" in urls
    assert "http://m/fcos/streams/testing.json" in urls
    assert f"docker://m/quay/a/b@sha256:{DIGEST}" in urls


def test_a_folder_of_programs_needs_no_mirror() -> None:
    def with_folder(document: dict[str, Any]) -> None:
        everything(document)
        document["kubernetes"]["binaries"] = {"directory": "k8s"}
        document["mirror"]["images"] = []
        del document["mirror"]["etcd"]

    sources = {item.source for item in wanted(cluster_with(with_folder))}

    assert sources == {"cni-plugins", "fedora-coreos", "files", "flatcar"}


def test_everything_that_lacks_is_said_at_once() -> None:
    def bare(document: dict[str, Any]) -> None:
        everything(document)
        document["mirror"] = {"images": [PAUSE]}

    with pytest.raises(UsageError) as caught:
        wanted(cluster_with(bare))

    assert caught.value.exit_code == 2
    assert [line.partition(" is needed: add ")[0] for line in str(caught.value).splitlines()] == [
        "mirror.keys.fedoraCoreos",
        "mirror.keys.flatcar",
        "mirror.etcd",
    ]


def test_a_sandbox_image_without_a_digest_is_asked_for() -> None:
    def without(document: dict[str, Any]) -> None:
        everything(document)
        document["mirror"]["images"] = []

    with pytest.raises(
        UsageError, match=r"add registry\.k8s\.io/pause:3\.10@sha256:<digest> to mirror\.images"
    ):
        wanted(cluster_with(without))


class Says:
    """Servers that say what they are told to."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts

    def stated(self, url: str, *, remedy: str, longest: int = 4096) -> str:
        del remedy, longest
        return self.texts[url]

    def signed(self, url: str, keys: str | None) -> str:
        del keys
        return self.texts[url]

    signed_if_there = signed


@pytest.mark.parametrize("name", rooms.names(bootstrap.mirror.sources))
def test_every_source_makes_nothing_of_nonsense(name: str) -> None:
    class Nonsense(Says):
        def stated(self, url: str, *, remedy: str, longest: int = 4096) -> str:
            del url, remedy, longest
            return "<html>{}"

        def signed(self, url: str, keys: str | None) -> str:
            return self.stated(url, remedy=keys or "")

        signed_if_there = signed

    room = source(name)
    assert room.title
    for item in room.wanted(cluster_with(everything)):
        if item.sha256 is not None or room.is_image:
            assert room.items(item, Nonsense({}))
            continue
        with pytest.raises(PreflightError, match=r"; |: ask"):
            room.items(item, Nonsense({}))


STREAM = "https://builds/streams/stable.json"


def stream(**change: Any) -> str:
    def entry(name: str) -> dict[str, str]:
        url = f"https://builds/prod/fedora-coreos-44.1.3.1-{name}"
        return {"location": url, "signature": f"{url}.sig", "sha256": "5" * 64}

    pxe = {name: entry(f"live-{name}.x86_64") for name in ("kernel", "initramfs", "rootfs")}
    formats = {"pxe": {**pxe, **change}, "raw.xz": {"disk": entry("metal.x86_64.raw.xz")}}
    metal = {"release": "44.1.3.1", "formats": formats}
    return json.dumps({"architectures": {"x86_64": {"artifacts": {"metal": metal}}}})


def fcos(text: str, version: str = "44.1.3.1") -> Any:
    item = Wanted(source="fedora-coreos", name="fedora-coreos", version=version, url=STREAM)
    return source("fedora-coreos").items(item, Says({STREAM: text}))


def test_a_stream_gives_kernel_initramfs_rootfs_and_disk() -> None:
    assert [item.path.rpartition("-")[2] for item in fcos(stream())] == [
        "kernel.x86_64",
        "initramfs.x86_64",
        "rootfs.x86_64",
        "metal.x86_64.raw.xz",
    ]
    with pytest.raises(
        FirstlightError, match=r"is at 44\.1\.3\.1, and tells nothing of 43\.1\.3\.1 any more; write"
    ):
        fcos(stream(), "43.1.3.1")


@pytest.mark.parametrize(
    "kernel",
    [
        {},
        [],
        None,
        {"location": "https://builds/x", "signature": "https://builds/x.sig", "sha256": "5" * 64},
        {
            "location": "https://b/fedora-coreos-44.1.3.1-live-kernel",
            "signature": "https://other/.sig",
            "sha256": "5" * 64,
        },
        {"location": "https://b/fedora-coreos-44.1.3.1-live-kernel/..", "signature": "", "sha256": "5" * 64},
        {
            "location": "https://b/fedora-coreos-44.1.3.0-live-kernel",
            "signature": "https://b/fedora-coreos-44.1.3.0-live-kernel.sig",
            "sha256": "5" * 64,
        },
    ],
)
def test_an_entry_of_a_stream_that_is_not_whole_is_refused(kernel: Any) -> None:
    with pytest.raises(PreflightError, match=r"stable\.json"):
        fcos(stream(kernel=kernel))


def test_sums_are_read_as_makers_write_them() -> None:
    one, long = "a" * 64, "b" * 128
    digests = f"# MD5 HASH\n{'c' * 32}  x\n# SHA1 HASH\n{'d' * 40}  x\n# SHA512 HASH\n{long}  x\n{long}  y\n"

    assert first_sum(f"{one}\n") == first_sum(f"{one}  kubelet") == one
    assert first_sum("") is first_sum("<html>") is None
    assert sum_for("x", f"{one}  x\n") == sum_for("x", f"{one} *./x") == one
    assert sum_for("x", f"{one}  y\n{one[:-1]}  x") is None
    assert sum_under("SHA512", "x", digests, 128) == long
    assert sum_under("SHA256", "x", digests, 64) is None
    assert sum_under("SHA512", "z", digests, 128) is None


def test_the_file_name_of_an_image_is_one_name_without_surprises() -> None:
    assert image_name(PAUSE) == "registry.k8s.io-pause-3.10-222222222222.tar"
    assert "/" not in image_name(f"a.b/../../x:{'y' * 20}@sha256:{DIGEST}")


def test_the_configuration_in_the_documentation_wants_something(tmp_path: Path) -> None:
    text = (samples.ROOT / "docs/mirror.md").read_text()
    block = text.partition("<!-- config: run over configs/ha.yaml -->\n```yaml\n")[2].partition("```")[0]
    (tmp_path / "site.yaml").write_text(block)

    found = wanted(config.load([samples.ROOT / "configs/ha.yaml", tmp_path / "site.yaml"]))

    assert {"etcd", "kubernetes", "images", "files", "cni-plugins"} <= {item.source for item in found}
