import copy
import hashlib
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootstrap import artifacts, binaries, download, node_programs, programs
from bootstrap.artifacts import Artifact
from bootstrap.errors import ImageError, PreflightError
from bootstrap.kubernetes.tree import LocalFile
from bootstrap.mirror import lock
from bootstrap.model import Cluster
from bootstrap.progress import silent
from tests.unit.lab.conftest import DOCUMENT

VERSION = "v1.36.4"
NAMES = (*programs.CONTROL_PLANE, *programs.DATABASE, *programs.NODE)
ELF_HEAD = bytes.fromhex("7f454c4602010100000000000000000002003e00")
"""How each program for amd64 Linux begins (readelf -h /bin/true)."""


def cluster_with(
    given: dict[str, Any], change: Callable[[dict[str, Any]], object] = lambda _: None
) -> Cluster:
    document = copy.deepcopy(DOCUMENT)
    document["controlPlane"] = {"hosts": [{"name": "m1", "address": "10.77.0.11"}]}
    document["etcd"] = {"members": ["m1"]}
    document["kubernetes"]["version"] = VERSION
    document["kubernetes"]["binaries"] = given
    change(document)
    return Cluster.model_validate(document)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that answer --version; shell scripts, which pass for ELF."""
    made = tmp_path / "k8s"
    made.mkdir()
    for name in NAMES:
        write(made / name)
    monkeypatch.setattr(binaries, "is_amd64", lambda path: b"#!/bin/sh" in path.read_bytes())
    return made


def write(path: Path, version: str = VERSION) -> None:
    path.write_text(f"#!/bin/sh\n# {path.name}\necho Kubernetes {version}\n")
    path.chmod(0o755)


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def resolve(cluster: Cluster, base: Path) -> Any:
    return binaries.resolve(cluster, base=base, cache=base / "cache")


def test_a_folder_gives_every_program_with_its_sum(folder: Path, tmp_path: Path) -> None:
    (folder / "pause.tar").write_bytes(b"image")
    found = resolve(cluster_with({"directory": "k8s"}), tmp_path)

    assert set(found) == {*NAMES, "pause.tar"}
    assert found["kubelet"] == LocalFile(folder / "kubelet", sum_of(folder / "kubelet"))
    assert resolve(cluster_with({"directory": f"{folder}"}), Path("/nowhere")) == found


def test_a_folder_gives_the_cni_plugins_that_lie_beside_the_programs(folder: Path, tmp_path: Path) -> None:
    for name in programs.CNI_PLUGINS:
        write(folder / name)

    assert set(resolve(cluster_with({"directory": "k8s"}), tmp_path)) == {*NAMES, *programs.CNI_PLUGINS}


def mirror_of(folder: Path, *members: str) -> Cluster:
    """Make a mirror that holds a release of the CNI plugins with `members`, and a cluster that names it."""
    path = "cni-plugins/v1.8.0/cni-plugins-linux-amd64-v1.8.0.tgz"
    (folder / path).parent.mkdir(parents=True)
    with tarfile.open(folder / path, "w:gz") as tar:
        for name in members:
            write(folder / name)
            tar.add(folder / name, arcname=f"./{name}")
    entry = lock.Entry(
        path=path,
        key="cni-plugins/cni-plugins/v1.8.0",
        url="http://m/cni",
        sha256=sum_of(folder / path),
        size=(folder / path).stat().st_size,
        fetched="2026-11-20T12:00:00Z",
    )
    (folder / lock.NAME).write_bytes(lock.Lock({path: entry}).to_bytes())

    def with_node(document: dict[str, Any]) -> None:
        document["controlPlane"]["hosts"][0]["node"] = True
        document["mirror"] = {"directory": f"{folder}", "cniPlugins": {"version": "v1.8.0"}}

    return cluster_with({}, with_node)


def test_a_mirror_s_release_of_the_cni_plugins_is_unpacked_once(folder: Path, tmp_path: Path) -> None:
    cluster = mirror_of(tmp_path / "mirror", *programs.CNI_PLUGINS, "vlan")
    found = binaries.plugins(cluster, tmp_path / "mirror", tmp_path / "cache")

    assert folder.is_dir()
    assert set(found) == set(programs.CNI_PLUGINS)
    assert found["bridge"].sha256 == sum_of(tmp_path / "mirror" / "bridge")
    before = found["bridge"].path.stat().st_mtime_ns
    assert binaries.plugins(cluster, tmp_path / "mirror", tmp_path / "cache") == found
    assert found["bridge"].path.stat().st_mtime_ns == before


def test_only_hosts_that_are_nodes_want_the_plugins(folder: Path, tmp_path: Path) -> None:
    made = mirror_of(tmp_path / "mirror", *programs.CNI_PLUGINS)
    hosts = tuple(host.model_copy(update={"node": False}) for host in made.control_plane.hosts)
    plane = made.control_plane.model_copy(update={"hosts": hosts})
    cluster = made.model_copy(update={"control_plane": plane})

    assert folder.is_dir()
    assert binaries.plugins(cluster, tmp_path / "mirror", tmp_path / "cache") == {}


def test_an_archive_that_holds_other_files_is_named(tmp_path: Path) -> None:
    cluster = mirror_of(tmp_path / "mirror", "bridge")

    with pytest.raises(PreflightError, match=r"v1\.8\.0\.tgz is no release of the CNI plugins: .*host-local"):
        binaries.plugins(cluster, tmp_path / "mirror", tmp_path / "cache")


def test_without_control_plane_hosts_only_nodes_have_programs(folder: Path, tmp_path: Path) -> None:
    def nodes_alone(document: dict[str, Any]) -> None:
        document["controlPlane"], document["etcd"] = {}, {}

    for name in (*programs.CONTROL_PLANE, *programs.DATABASE):
        (folder / name).unlink()
    assert set(resolve(cluster_with({"directory": "k8s"}, nodes_alone), tmp_path)) == set(programs.NODE)


def test_everything_wrong_is_said_at_once_with_the_remedy(folder: Path, tmp_path: Path) -> None:
    (folder / "etcd").unlink()
    (folder / "etcdctl").write_bytes(b"a text")
    write(folder / "kube-proxy", "v1.36.3")
    right = sum_of(folder / "kubelet")
    (folder / "sha256sums").write_text(f"{right}  kubelet\n{'0' * 64} *./kube-scheduler\n# a comment\n")

    with pytest.raises(PreflightError) as caught:
        resolve(cluster_with({"directory": "k8s"}), tmp_path)

    scheduler, etcd, etcdctl, proxy = str(caught.value).splitlines()
    assert (
        f"{folder}/kube-scheduler has sha256 {sum_of(folder / 'kube-scheduler')}, not {'0' * 64}" in scheduler
    )
    assert (
        f"{folder}/etcd cannot be read: No such file or directory; run mirror pull, or name a folder that holds all"
        in etcd
    )
    assert f"{folder}/etcdctl is no program for x86-64 Linux" in etcdctl
    assert f"{folder}/kube-proxy is v1.36.3, and kubernetes.version is v1.36.4; change one" in proxy


def test_a_sum_of_the_configuration_comes_before_that_of_the_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "sha256sums").write_text(f"{'0' * 64}  kubelet\n")
    sums = {"kubelet": sum_of(folder / "kubelet")}

    assert (
        resolve(cluster_with({"directory": "k8s", "sha256s": sums}), tmp_path)["kubelet"].sha256
        == sums["kubelet"]
    )
    with pytest.raises(PreflightError, match="kubelet has sha256"):
        resolve(cluster_with({"directory": "k8s", "sha256s": {"kubelet": "1" * 64}}), tmp_path)


@pytest.mark.parametrize(
    "answer",
    ["exit 1", "echo nonsense", "printf '\\377'", "kill -9 $$"],
    ids=["fails", "other", "bytes", "dies"],
)
def test_a_program_that_does_not_say_its_version_is_refused(
    folder: Path, tmp_path: Path, answer: str
) -> None:
    (folder / "kubelet").write_text(f"#!/bin/sh\n{answer}\n")

    with pytest.raises(
        PreflightError, match=r"kubelet is of no version, and kubernetes\.version is v1\.36\.4"
    ):
        resolve(cluster_with({"directory": "k8s"}), tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=f"there is no folder {tmp_path}/k8s; write where they are"):
        resolve(cluster_with({"directory": "k8s"}), tmp_path)


@pytest.mark.parametrize(
    "head",
    [ELF_HEAD[:-2] + b"\xb7\0", ELF_HEAD[:4] + b"\1" + ELF_HEAD[5:], b"\x7fELF", b""],
    ids=["arm64", "32 bits", "short", "empty"],
)
def test_programs_of_other_processors_are_told_apart(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "theirs").write_bytes(head)
    (tmp_path / "ours").write_bytes(ELF_HEAD + b"more")

    assert not binaries.is_amd64(tmp_path / "theirs")
    assert binaries.is_amd64(tmp_path / "ours")


def maker(tmp_path: Path, *lines: str) -> Path:
    program = tmp_path / "make"
    program.write_text("\n".join(("#!/bin/sh", *lines)))
    program.chmod(0o755)
    return program


def test_a_program_makes_the_folder_and_says_how_far_it_is(folder: Path, tmp_path: Path) -> None:
    maker(tmp_path, 'echo compiling >&2; test "$1" = ' + f"{tmp_path}/cache", f"echo {folder}")
    said: list[str] = []

    def progress(what: str, done: int | None = None, total: int | None = None) -> None:
        del done, total
        said.append(what)

    found = binaries.resolve(
        cluster_with({"build": "make"}), base=tmp_path, cache=tmp_path / "cache", progress=progress
    )

    assert set(found) == set(NAMES)
    assert "compiling" in said


def test_a_program_that_fails_or_makes_no_folder_is_an_error(tmp_path: Path) -> None:
    cluster = cluster_with({"build": "make"})
    with pytest.raises(PreflightError, match=f"there is no program {tmp_path}/make"):
        resolve(cluster, tmp_path)
    maker(tmp_path, "echo no space left; exit 3")
    with pytest.raises(ImageError, match=r"make failed \(status 3\):\nno space left"):
        resolve(cluster, tmp_path)
    maker(tmp_path, "echo done")
    with pytest.raises(PreflightError, match="printed no folder"):
        resolve(cluster, tmp_path)


def test_releases_come_from_the_server_or_a_copy_of_it() -> None:
    official, copied = cluster_with({}), cluster_with({"mirror": "http://10.0.0.1/k8s"})

    assert binaries.release_url(official, "kubelet").endswith(f"/release/{VERSION}/bin/linux/amd64/kubelet")
    assert binaries.release_url(official, "kubelet").startswith("https://")
    assert (
        binaries.release_url(copied, "kubelet")
        == f"http://10.0.0.1/k8s/release/{VERSION}/bin/linux/amd64/kubelet"
    )


def test_what_was_fetched_once_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    def fetch(url: str, target: Path, sha256: str, *_: object) -> None:
        fetched.append(url)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(url.rpartition("/")[2].encode())
        assert hashlib.sha256(target.read_bytes()).hexdigest() == sha256

    monkeypatch.setattr(download, "fetch", fetch)
    sums = {name: hashlib.sha256(name.encode()).hexdigest() for name in NAMES}
    cluster = cluster_with({"mirror": "http://10.0.0.1/k8s", "sha256s": sums})

    found = resolve(cluster, tmp_path)
    assert found["etcd"] == LocalFile(tmp_path / "cache" / "sha256" / sums["etcd"], sums["etcd"])
    assert resolve(cluster, tmp_path) == found
    assert len(fetched) == len(NAMES)

    found["etcd"].path.chmod(0o644)
    found["etcd"].path.write_bytes(b"damaged")
    assert resolve(cluster, tmp_path)["etcd"].path.read_bytes() == b"etcd"
    assert not any((tmp_path / "cache" / "downloads").iterdir())


def test_without_a_sum_only_https_is_asked_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def text(url: str) -> str:
        asked.append(url)
        return "<html>"

    monkeypatch.setattr(binaries, "_asked_sum", lambda url: binaries_asked(url, text))
    with pytest.raises(PreflightError, match=r"is no https, so its sum must be known; add it to"):
        resolve(cluster_with({"mirror": "http://10.0.0.1/k8s"}), tmp_path)
    assert asked == []
    with pytest.raises(PreflightError, match=r"\.sha256 holds no sum"):
        resolve(cluster_with({}), tmp_path)
    assert asked == [binaries.release_url(cluster_with({}), "kube-apiserver") + ".sha256"]


binaries_asked = binaries._asked_sum


def test_a_release_without_etcd_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(url: str, *_: object) -> None:
        raise PreflightError(f"{url} answers 404 Not Found")

    monkeypatch.setattr(download, "fetch", fetch)
    cluster = cluster_with({"mirror": "http://10.0.0.1/k8s", "sha256s": {"etcd": "0" * 64}})

    with pytest.raises(
        PreflightError, match="own releases hold no etcd; run mirror pull, or name a folder that holds all"
    ):
        binaries._from_release(cluster, "etcd", tmp_path, silent)


def test_what_nodes_fetch_is_in_the_store_by_its_sum(folder: Path, tmp_path: Path) -> None:
    (folder / "pause.tar").write_bytes(b"image")
    files = resolve(cluster_with({"directory": "k8s"}), tmp_path)
    cache = tmp_path / "cache"
    found = binaries.node_artifacts(files, cache)

    assert set(found) == {"kubelet", "kube-proxy", "pause.tar"}
    assert found["pause.tar"] == Artifact(hashlib.sha256(b"image").hexdigest(), 5)
    for name, artifact in found.items():
        stored = artifacts.artifact_path(cache, artifact.sha256)
        assert stored.read_bytes() == (folder / name).read_bytes()
        assert stat.S_IMODE(stored.stat().st_mode) == 0o444
    programs, images, plugins = node_programs.node_sums(found)

    assert plugins == {}
    assert images == {"pause.tar": hashlib.sha256(b"image").hexdigest()}
    assert programs == {name: found[name].sha256 for name in ("kube-proxy", "kubelet")}
    before = artifacts.artifact_path(cache, found["kubelet"].sha256).stat().st_ino
    assert binaries.node_artifacts(files, cache) == found
    assert artifacts.artifact_path(cache, found["kubelet"].sha256).stat().st_ino == before


def test_a_program_that_changes_while_it_is_copied_is_refused(folder: Path, tmp_path: Path) -> None:
    files = resolve(cluster_with({"directory": "k8s"}), tmp_path)
    write(folder / "kubelet", "v9")

    with pytest.raises(PreflightError, match="kubelet changed while it was copied"):
        binaries.node_artifacts(files, tmp_path / "cache")


def test_what_was_written_down_is_read_back(tmp_path: Path) -> None:
    found = {"kubelet": Artifact("0" * 64, 7), "kube-proxy": Artifact("1" * 64, 9)}
    assert node_programs.recorded(tmp_path) == {}

    node_programs.record(tmp_path, found)
    first = (tmp_path / "binaries.json").read_bytes()
    node_programs.record(tmp_path, dict(reversed(found.items())))

    assert node_programs.recorded(tmp_path) == found
    assert (tmp_path / "binaries.json").read_bytes() == first
    for damage in (b"{", b"[]", b'{"kubelet": 3}', b'{"kubelet": {"size": 3}}'):
        (tmp_path / "binaries.json").write_bytes(damage)
        with pytest.raises(PreflightError, match=r"binaries\.json cannot be read"):
            node_programs.recorded(tmp_path)
