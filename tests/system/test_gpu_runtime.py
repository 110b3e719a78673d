"""The image's own containerd with the registration of NVIDIA's runtime: started, asked, upgraded, edited by others.

NVIDIA's container toolkit is in no Debian package: a script stands at its place, which notes that it was called and
goes on to runc. What the toolkit does to a container is not seen.
"""

import shutil
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bootstrap import image
from bootstrap.kubernetes.places import CONTAINERD, CONTAINERD_NVIDIA, NVIDIA_RUNTIME
from bootstrap.progress import silent
from bootstrap.templates import render
from tests.kubernetes import oci_image
from tests.system import gpu_pool
from tests.system.cri import Cri
from tests.system.image_root import unpacked, within
from tests.system.spine import CACHE
from tests.unit.node.appliance import node

pytestmark = pytest.mark.system

PAUSE = "localhost/pause:1"
CALLED = "/run/nvidia-container-runtime.called"
RESOLV_CONF = "run/systemd/resolve/stub-resolv.conf"
STAND_IN = f'#!/bin/sh\necho "$*" >>{CALLED}\nexec /usr/sbin/runc "$@"\n'
# Mounts and processes of its own, and no network at all: all of it ends with the first process.
START = """
mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mount --rbind /sys "$0/sys" && exec chroot "$0" "$@"
"""
APART = (
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "--pid",
    "--fork",
    "--kill-child",
    "--net",
    "sh",
    "-c",
)


def texts() -> tuple[str, str]:
    """Return what a node with a driver gets: containerd's file, and the second one."""
    values = {"sandbox_image": PAUSE, "cni_plugins": "/usr/lib/cni", "restricted": False}
    first = render("kubernetes/containerd.toml.j2", **values)
    return first, render("kubernetes/containerd-nvidia.toml.j2", nvidia=NVIDIA_RUNTIME, **values)


def configure(root: Path) -> None:
    """Write what a node with a driver gets, as its documents say."""
    for path, text in zip((CONTAINERD, CONTAINERD_NVIDIA), texts(), strict=True):
        (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (root / path.lstrip("/")).write_text(text)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    options = gpu_pool.options()
    manifest = image.build(options, CACHE, silent)
    with unpacked(manifest, tmp_path_factory.mktemp("image")) as found:
        configure(found)
        program = found / NVIDIA_RUNTIME.lstrip("/")
        program.write_text(STAND_IN)
        program.chmod(0o755)
        (found / RESOLV_CONF).parent.mkdir(parents=True)
        (found / RESOLV_CONF).touch()
        yield found


def cri_of(root: Path) -> dict[str, Any]:
    """Return what containerd makes of all its files for the CRI."""
    dump = tomllib.loads(within(root, "containerd", "config", "dump"))
    section: dict[str, Any] = dump["plugins"]["io.containerd.grpc.v1.cri"]
    return section


@contextmanager
def containerd(root: Path) -> Iterator[Cri]:
    """Run the image's containerd; it and all that it started end with the block."""
    socket, log = root / "run/containerd/containerd.sock", root / "tmp/containerd.log"
    socket.unlink(missing_ok=True)
    with log.open("w") as said:
        process = subprocess.Popen(
            [*APART, START, str(root), "/usr/bin/containerd"], stdout=said, stderr=said
        )
    try:
        end = time.monotonic() + 60
        while not socket.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        assert socket.exists(), log.read_text()[-3000:]
        cri = Cri(socket)
        yield cri
        cri.close()
    finally:
        process.kill()
        process.wait()


def is_whole(section: dict[str, Any]) -> bool:
    """Say whether nothing of ours was lost: runc's settings, the plugins' folder, the sandbox image, CDI."""
    runc = section["containerd"]["runtimes"].get("runc", {})
    return bool(
        section["sandbox_image"] == PAUSE
        and section["cni"]["bin_dir"] == "/usr/lib/cni"
        and section["enable_cdi"]
        and runc.get("options", {}).get("SystemdCgroup")
        and section["containerd"]["default_runtime_name"] == "runc"
    )


def nvidia_of(section: dict[str, Any]) -> str:
    found: str = section["containerd"]["runtimes"]["nvidia"]["options"]["BinaryName"]
    return found


def test_both_runtimes_are_registered_and_nothing_else_is_lost(root: Path) -> None:
    section = cri_of(root)

    assert is_whole(section)
    assert nvidia_of(section) == NVIDIA_RUNTIME
    assert section["cdi_spec_dirs"] == ["/etc/cdi", "/var/run/cdi"]


def test_containerd_starts_and_its_cri_shows_the_handler(root: Path, tmp_path: Path) -> None:
    archive = tmp_path / "pause.tar"
    archive.write_bytes(oci_image.image("pause", b"#!/bin/sh\n", ()))
    shutil.copy(archive, root / "tmp/pause.tar")

    with containerd(root) as cri:
        told = cri.status()
        assert f'"BinaryName":"{NVIDIA_RUNTIME}"' in told.replace('\\"', '"').replace(" ", "")
        within(root, "ctr", "--namespace", "k8s.io", "images", "import", "/tmp/pause.tar")
        assert 'no runtime for "nope" is configured' in cri.sandbox("one", "nope")
        assert not (root / CALLED.lstrip("/")).exists()

        error = cri.sandbox("two", "nvidia")

    # There is no systemd here to make the sandbox's cgroup: runc says so, which NVIDIA's runtime had called.
    assert "no runtime for" not in error
    called = root / CALLED.lstrip("/")
    assert called.exists(), error
    assert " create " in called.read_text(), error


def test_sync_tells_of_an_edit_and_its_next_revision_has_it_whole_again(root: Path, tmp_path: Path) -> None:
    before, (first, second) = cri_of(root), texts()
    with node(tmp_path) as machine:
        machine.rack.plan(containerd=first, nvidia=second)
        assert machine.sync(FL_ROOT=f"{root}").returncode == 0
        assert cri_of(root) == before

        (root / CONTAINERD_NVIDIA.lstrip("/")).write_text("version = 2\n")
        assert list(cri_of(root)["containerd"]["runtimes"]) == ["runc"]
        said = machine.sync(FL_ROOT=f"{root}").stderr
        assert f"{CONTAINERD_NVIDIA}: firstlight's, changed by another" in said
        assert list(cri_of(root)["containerd"]["runtimes"]) == ["runc"], "it is not undone at once"

        machine.rack.plan(containerd=first, nvidia=second, kubelet="another\n")
        assert machine.sync(FL_ROOT=f"{root}").returncode == 0
        assert cri_of(root) == before


def test_a_new_containerd_package_keeps_it(root: Path) -> None:
    before = cri_of(root)
    shutil.copy("/etc/resolv.conf", root / RESOLV_CONF)  # for apt
    program = root / "usr/bin/containerd"
    inode = program.stat().st_ino
    within(root, "apt-get", "-qq", "update")
    env = (
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-qq",
        "--yes",
        "install",
        "--reinstall",
        "containerd",
    )
    within(root, *env)

    assert program.stat().st_ino != inode, "it was installed anew"
    assert cri_of(root) == before
    with containerd(root) as cri:
        assert NVIDIA_RUNTIME in cri.status()


def test_a_foreign_file_beside_ours_takes_the_whole_section(root: Path) -> None:
    """The reason why `sync` tells of such a file: containerd 1.7 merges nothing."""
    foreign = root / "etc/containerd/conf.d/99-nvidia.toml"
    foreign.write_text(
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.theirs]\n'
        '  runtime_type = "io.containerd.runc.v2"\n'
    )
    try:
        section = cri_of(root)
    finally:
        foreign.unlink()

    assert list(section["containerd"]["runtimes"]) == ["theirs"]
    assert section["sandbox_image"] != PAUSE


def test_without_our_second_file_containerd_is_as_on_any_node(root: Path) -> None:
    ours = root / CONTAINERD_NVIDIA.lstrip("/")
    text = ours.read_text()
    ours.unlink()
    try:
        section = cri_of(root)
    finally:
        ours.write_text(text)

    assert list(section["containerd"]["runtimes"]) == ["runc"]
    assert section["sandbox_image"] == PAUSE
