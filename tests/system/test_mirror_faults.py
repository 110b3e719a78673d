"""The mirror against servers that fail, lie and are attacked: nothing wrong is taken, nothing half-written stays.

Real HTTPS on loopback, real OpenPGP keys, the real gpgv and skopeo, a real full disk, a real SIGKILL.
"""

import copy
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bootstrap import download
from bootstrap.cli import run
from tests.system import mirror_site as makers
from tests.system.mirror_site import (
    BOARD,
    FCOS,
    FLATCAR,
    FLATCAR_FILES,
    K8S,
    STREAM,
    Gpg,
    Image,
    Server,
    Site,
)

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[2]
KERNEL = f"{BOARD}/{FLATCAR}/{FLATCAR_FILES[0]}"
INITRD = f"{BOARD}/{FLATCAR}/{FLATCAR_FILES[1]}"
FCOS_KERNEL = f"/fcos/prod/{FCOS}/x86_64/fedora-coreos-{FCOS}-live-kernel.x86_64"
SECONDS = 120
WRITTEN = 130_000
"""Bytes on the disk of 150,000 that were sent: the last record of TLS may still be on its way."""


@pytest.fixture(scope="module")
def gpg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpg]:
    with makers.keys(tmp_path_factory.mktemp("gpg") / "home") as made:
        yield made


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def whole(gpg: Gpg) -> Site:
    """Everything signed once; `{url}` stands where the server's address will."""
    site = Site(gpg, "{url}", Image.made())
    site.fill()
    return site


@pytest.fixture
def server(pem: Path, whole: Site) -> Iterator[Server]:
    with makers.serving(pem) as made:
        files = copy.copy(whole.files)
        files[STREAM] = files[STREAM].replace(b"{url}", made.url.encode())
        made.site = Site(whole.gpg, made.url, copy.deepcopy(whole.image), files)
        yield made


@pytest.fixture
def site(server: Server) -> Site:
    assert server.site is not None
    return server.site


@dataclass(frozen=True)
class Rack:
    """A configuration in a folder of its own, and the command line over it."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    @property
    def mirror(self) -> Path:
        return self.folder / "mirror"

    def words(self, *verb: str) -> list[str]:
        return ["--config", f"{self.folder / 'rack.yaml'}", "--deploy", f"{self.folder / 'deploy'}", *verb]

    def __call__(self, *verb: str) -> tuple[int, str, str]:
        code = run(self.words(*verb))
        said = self.capture.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    def refused(self, *words: str) -> str:
        """Pull, which must fail with exit 1 and one line that holds `words`; return it."""
        code, _, err = self("mirror", "pull")
        line = err.splitlines()[-1]
        assert code == 1, err
        assert [word for word in words if word not in line] == [], line
        assert "stopped after" in err.splitlines()[-2], "the error is one line"
        return line

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        file = self.folder / "rack.yaml"
        document = json.loads(file.read_text())
        change(document)
        file.write_text(json.dumps(document))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed tries follow each other at once, and no cache of the user's is touched."""
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    monkeypatch.delenv("FIRSTLIGHT_CACHE", raising=False)


@pytest.fixture
def rack(site: Site, pem: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], quick: None) -> Rack:
    del quick
    gpg = site.gpg
    folder = tmp_path / "rack"
    folder.mkdir()
    (folder / "rack.yaml").write_text(makers.configuration(site))
    (folder / "flatcar.asc").write_bytes(gpg.public("maker@example.net", "--armor"))
    (folder / "fedora.gpg").write_bytes(gpg.public("maker@example.net") + gpg.public("expired@example.net"))
    (folder / "ca.pem").write_bytes(pem.read_bytes())
    return Rack(folder, capsys)


def files_of(mirror: Path) -> dict[str, bytes]:
    paths = (path for path in sorted(mirror.rglob("*")) if path.is_file())
    found = {path.relative_to(mirror).as_posix(): path.read_bytes() for path in paths}
    return {name: content for name, content in found.items() if not name.startswith(".partial/")}


def nothing_wrong_is_there(mirror: Path, whole: Site) -> None:
    """Whatever lies under a real name is what its maker made: whole, and of that name."""
    for name, content in files_of(mirror).items():
        last = name.rpartition("/")[2]
        if "mirror.lock.json" in last or name.startswith(("images/", "etcd/")):
            continue
        made = [made for path, made in whole.files.items() if path.rpartition("/")[2] == last]
        assert content in made, f"{name} is no file of a maker"


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


def command(rack: Rack, *verb: str, **more: str) -> list[str]:
    del more
    return [sys.executable, f"{ROOT / 'deploy.py'}", *rack.words(*verb)]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "FIRSTLIGHT_NO_VENV": "1", **more}


def test_a_pull_killed_in_the_middle_of_a_file_goes_on(rack: Rack, server: Server, whole: Site) -> None:
    server.silent[KERNEL] = 150_000
    with subprocess.Popen(
        command(rack, "mirror", "pull"), env=environment(), stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert server.stalled.wait(SECONDS)
            part = rack.mirror / ".partial"
            for _ in range(600):
                if any(path.stat().st_size >= WRITTEN for path in part.iterdir()):
                    break
                server.released.wait(0.1)
        finally:
            process.kill()
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
    server.silent[KERNEL] = 10
    with subprocess.Popen(
        command(rack, "mirror", "pull"), env=environment(), stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert server.stalled.wait(SECONDS)
            code, _, err = rack("mirror", "pull")
        finally:
            process.kill()
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


OFFLINE = """
import sys
from pathlib import Path
from bootstrap import binaries, config
cluster = config.load([Path(sys.argv[1])])
found = binaries.resolve(cluster, base=Path(sys.argv[1]).parent, cache=Path(sys.argv[2]))
print("\\n".join(f"{name} {file.path}" for name, file in sorted(found.items())))
"""


def offline(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run `argv` in a network namespace of its own, which has no route anywhere."""
    return subprocess.run(
        ["unshare", "--net", *argv],
        cwd=ROOT,
        env=environment(PYTHONPATH=f"{ROOT}"),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def test_another_appliance_starts_from_the_folder_with_no_internet(
    rack: Rack, server: Server, tmp_path: Path
) -> None:
    assert rack("mirror", "pull")[0] == 0
    server.site = None  # and no server answers either
    other = tmp_path / "stick"
    rack.folder.rename(other)
    moved = Rack(other, rack.capture)

    assert offline("ip", "route").stdout == ""
    for verb in (
        ("check",),
        ("mirror", "verify"),
        ("mirror", "list"),
        ("render", "--output", f"{tmp_path}/bundle"),
    ):
        done = offline(*command(moved, *verb))
        assert done.returncode == 0, done.stderr
    found = offline(sys.executable, "-c", OFFLINE, f"{other}/rack.yaml", f"{tmp_path}/cache")

    assert found.returncode == 0, found.stderr
    names = dict(line.split(" ") for line in found.stdout.splitlines())
    image = next(name for name in names if name.endswith(".tar"))
    assert set(names) == {*makers.PROGRAMS, "etcd", "etcdctl", image}
    assert image.startswith("registry.example.net-k8s-pause-3.10-")
    assert all(path.startswith(f"{other}/mirror/") for path in names.values())
    (other / "mirror/kubernetes/v1.36.4/kubelet").write_bytes(makers.program("evil", "Kubernetes v1.36.4"))
    found = offline(sys.executable, "-c", OFFLINE, f"{other}/rack.yaml", f"{tmp_path}/cache")
    assert "kubelet has sha256" in found.stderr, "what was changed on the way is refused"
