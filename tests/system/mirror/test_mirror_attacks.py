"""The mirror against servers that lie and are attacked: what is not its maker's is refused and never gets its name.

Real HTTPS on loopback, real OpenPGP keys, the real gpgv and skopeo.
"""

import copy
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system import mirror_site as makers
from tests.system.mirror_rack import INITRD, KERNEL, Rack, files_of, nothing_wrong_is_there
from tests.system.mirror_site import BOARD, FCOS, FLATCAR, FLATCAR_FILES, K8S, STREAM, Server, Site

pytestmark = pytest.mark.system
FCOS_KERNEL = f"/fcos/prod/{FCOS}/x86_64/fedora-coreos-{FCOS}-live-kernel.x86_64"

Attack = Callable[[Site], object]


def by(who: str, path: str, *clock: str) -> Attack:
    return lambda site: site.signed(path, site.files[path], who, *clock)


def swapped(site: Site) -> None:
    """Kernel and initrd change places, each with the signature that is right for it."""
    for end in ("", ".sig"):
        one, other = KERNEL + end, INITRD + end
        site.files[one], site.files[other] = site.files[other], site.files[one]


def truncated(site: Site) -> None:
    """The sums are those of half a file, which nobody has signed."""
    half = site.files[KERNEL][:100_000]
    site.digests(KERNEL, half)
    site.files[KERNEL] = half


def mixed_up(site: Site) -> None:
    """kube-proxy's name gives kubelet, and kubelet's sum."""
    for end in ("", ".sha256"):
        site.files[f"{K8S}/kube-proxy{end}"] = site.files[f"{K8S}/kubelet{end}"]


def other_release(site: Site) -> None:
    """The folder of the version holds an older one, all of it truly signed."""
    site.flatcar("4459.2.0", current=False)
    for path in [path for path in site.files if path.startswith(f"{BOARD}/4459.2.0/")]:
        site.files[path.replace("4459.2.0", FLATCAR)] = site.files.pop(path)


def stream_with(change: Callable[[dict[str, Any]], object]) -> Attack:
    def attack(site: Site) -> None:
        stream = json.loads(site.files[STREAM])
        change(stream["architectures"]["x86_64"]["artifacts"]["metal"])
        site.files[STREAM] = json.dumps(stream).encode()

    return attack


def other_role(metal: dict[str, Any]) -> None:
    """The rootfs is announced as the initramfs, with its own sum and signature."""
    metal["formats"]["pxe"]["initramfs"] = metal["formats"]["pxe"]["rootfs"]


def file_url(metal: dict[str, Any]) -> None:
    kernel = metal["formats"]["pxe"]["kernel"]
    kernel["location"] = f"file:///etc/fedora-coreos-{FCOS}-live-kernel"
    kernel["signature"] = kernel["location"] + ".sig"


def layer(site: Site) -> None:
    """The registry sends another layer under the digest."""
    for digest, (kind, content) in site.image.blobs.items():
        if "layer" in kind:
            site.image.blobs[digest] = (kind, gzip.compress(b"evil")[: len(content)])


def other_index(site: Site) -> None:
    site.image.blobs[site.image.digest] = site.image.blobs[next(iter(site.image.blobs))]


def changed(path: str, content: bytes) -> Attack:
    def attack(site: Site) -> None:
        site.files[path] = content

    return attack


EXPIRED = ("--faked-system-time", "20200101T010000")
ATTACKS: dict[str, tuple[Attack, tuple[str, ...]]] = {
    "signature of other bytes": (
        lambda site: site.files.update({f"{KERNEL}.sig": site.files[f"{INITRD}.sig"]}),
        (FLATCAR_FILES[0], "signature is not of these bytes"),
    ),
    "truncated, and announced as so long": (
        lambda site: site.files.update({KERNEL: site.files[KERNEL][:100_000]}),
        (FLATCAR_FILES[0], "has sha512", "thrown away"),
    ),
    "truncated with its sum": (truncated, (FLATCAR_FILES[0], "signature is not of these bytes")),
    "signature by a stranger": (
        by("stranger@example.net", KERNEL),
        ("which is not in", "flatcar.asc; add it"),
    ),
    "signature by an expired key": (
        by("expired@example.net", FCOS_KERNEL, *EXPIRED),
        ("live-kernel", "has expired; put the maker's current keys"),
    ),
    "signature that is none": (changed(f"{KERNEL}.sig", b"hello"), ("is no signature; ask",)),
    "signature that is missing": (
        lambda site: site.files.pop(f"{FCOS_KERNEL}.sig"),
        ("answers 404", "look at"),
    ),
    "version by a stranger": (
        by("stranger@example.net", f"{BOARD}/{FLATCAR}/version.txt"),
        ("version.txt", "which is not in"),
    ),
    "sums by a stranger": (by("stranger@example.net", f"{KERNEL}.DIGESTS"), (".DIGESTS", "which is not in")),
    "swapped, each truly signed": (
        swapped,
        (FLATCAR_FILES[0], "has sha512", "thrown away: try again, or ask"),
    ),
    "mixed up, with the right sum": (mixed_up, ("kube-proxy", "is the same file as", "ask its owner")),
    "another release in the folder": (other_release, ("holds Flatcar 4459.2.0, not 4593.2.5; write",)),
    "announced as another": (stream_with(other_role), ("rootfs", "for the initramfs of", "ask its owner")),
    "program of other bytes": (changed(f"{K8S}/kubelet", b"evil"), ("kubelet has sha256", "thrown away")),
    "archive of other bytes": (
        changed(f"/etcd/{makers.ETCD}/etcd-{makers.ETCD}-linux-amd64.tar.gz", b"evil"),
        ("has sha256", "thrown away"),
    ),
    "file of other bytes": (changed("/files/nvidia.raw", b"evil"), ("nvidia.raw has sha256", "thrown away")),
    "sum that is none": (changed(f"{K8S}/kubelet.sha256", b"<html>"), ("holds no sum; add its sum to",)),
    "stream that is none": (changed(STREAM, b"[]"), ("is no stream of Fedora CoreOS", "right?")),
    "stream that leads out of the folder": (
        stream_with(lambda metal: metal.update(release="../../../etc")),
        ("is no version; ask",),
    ),
    "stream that names a file of this computer": (
        stream_with(file_url),
        ("leads to what is no address", "ask its owner"),
    ),
    "layer of other bytes": (layer, ("pause:3.10", "run mirror pull again")),
    "index of other bytes": (other_index, ("pause:3.10", "sent sha256:")),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_not_its_makers_is_refused_and_never_gets_its_name(
    rack: Rack, site: Site, whole: Site, name: str
) -> None:
    attack, words = ATTACKS[name]
    attack(site)

    rack.refused(*words)

    nothing_wrong_is_there(rack.mirror, whole)
    site.files, site.image = copy.copy(whole.files), copy.deepcopy(whole.image)
    site.files[STREAM] = site.files[STREAM].replace(b"{url}", site.url.encode())
    code, _, err = rack("mirror", "pull")
    assert code == 0, f"once its maker serves it again, it is taken: {err}"
    assert rack("mirror", "verify")[0] == 0


def test_a_channel_never_goes_back_unless_that_is_allowed(rack: Rack, site: Site) -> None:
    rack.edit(lambda document: document["pools"][0]["os"].update(release="stable"))
    assert rack("mirror", "pull")[0] == 0
    lock = (rack.mirror / "mirror.lock.json").read_bytes()

    site.flatcar("4459.2.0")
    rack.refused("flatcar stable is at 4459.2.0, and it was at 4593.2.5", "--allow-downgrade")
    site.flatcar(FLATCAR)
    site.fcos("43.20260101.3.0")
    rack.refused("fedora-coreos stable is at 43.20260101.3.0, and it was at", "--allow-downgrade")

    assert (rack.mirror / "mirror.lock.json").read_bytes() == lock
    assert rack("mirror", "pull", "--allow-downgrade")[0] == 0
    assert (rack.mirror / "fedora-coreos/x86_64/43.20260101.3.0").is_dir()
    assert rack("mirror", "pull")[0] == 0, "what was allowed once is where it is now"


def test_a_release_that_changed_since_it_was_fetched_is_refused(rack: Rack, site: Site) -> None:
    assert rack("mirror", "pull")[0] == 0
    (rack.mirror / "kubernetes/v1.36.4/kubelet").unlink()
    site.put(f"{K8S}/kubelet", makers.program("kubelet, but evil", "Kubernetes v1.36.4"))

    rack.refused("kubelet has sha256", "a release does not change; ask its maker")

    assert not (rack.mirror / "kubernetes/v1.36.4/kubelet").exists()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (f"{K8S}/kubelet", ("more than 5 times", "ask its owner")),
        ("http://127.0.0.1:9/kubelet", ("leads to http://127.0.0.1:9/kubelet", "less safe than https")),
        ("file:///etc/passwd", ("leads to file:///etc/passwd", "less safe than https")),
        ("ftp://127.0.0.1/kubelet", ("leads to ftp://127.0.0.1/kubelet", "less safe than https")),
        ("https://[", ("leads to what is no address", "ask its owner")),
    ],
    ids=["loop", "http", "file", "ftp", "nonsense"],
)
def test_redirects_that_lead_astray_are_refused(
    rack: Rack, server: Server, whole: Site, target: str, words: tuple[str, ...]
) -> None:
    server.redirects[f"{K8S}/kubelet"] = target

    rack.refused("kubelet", *words)

    nothing_wrong_is_there(rack.mirror, whole)


def test_a_redirect_to_https_is_followed(rack: Rack, server: Server, site: Site) -> None:
    site.files["/elsewhere"] = site.files[f"{K8S}/kubelet"]
    server.redirects[f"{K8S}/kubelet"] = f"{server.url}/elsewhere"

    assert rack("mirror", "pull")[0] == 0


def test_plain_http_states_no_sums_and_no_versions(rack: Rack, site: Site) -> None:
    with makers.serving(None) as plain:
        plain.site = site
        rack.edit(lambda document: document["mirror"].update(kubernetes=f"{plain.url}/k8s"))
        rack.refused(
            "is no https, so what it says may be anybody's; add its sum to kubernetes.binaries.sha256s"
        )
        sums = {name: makers.sha256(site.files[f"{K8S}/{name}"]) for name in makers.PROGRAMS}
        rack.edit(lambda document: document["kubernetes"].update(binaries={"sha256s": sums}))
        assert rack("mirror", "pull")[0] == 0, "with sums of the configuration anybody may bring the bytes"


def test_a_server_that_another_authority_vouches_for_is_refused(rack: Rack, tmp_path: Path) -> None:
    (rack.folder / "ca.pem").write_bytes(makers.certificate(tmp_path).read_bytes())

    rack.refused("cannot be trusted", "name its certificate in mirror.caFile")

    assert files_of(rack.mirror) == {}
