import os
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap.errors import ImageError
from bootstrap.image import host, recipe
from bootstrap.progress import silent
from tests import samples


def test_the_root_of_hosts_is_a_plain_debian_with_ssh(tmp_path: Path) -> None:
    command = host.argv(tmp_path / "root.tar.zst", None)
    include = next(word for word in command if word.startswith("--include="))

    assert command[0] == "mmdebstrap"
    assert command[-2:] == ("trixie", f"{tmp_path}/root.tar.zst")
    assert {"openssh-server", "sudo", "systemd-sysv", "iproute2", "ca-certificates"} <= set(
        include.removeprefix("--include=").split(",")
    )
    assert "python3" not in include
    assert host.argv(tmp_path, "http://10.0.0.1/debian")[-1] == "http://10.0.0.1/debian"


def test_every_step_is_one_that_mmdebstrap_or_the_hook_prints() -> None:
    hook = (recipe.TEXTS / "host" / "customize").read_text()
    seen: list[int | None] = []

    def progress(what: str, done: int | None = None, total: int | None = None) -> None:
        del what, total
        seen.append(done)

    see = host.steps(progress)
    for text, _, _ in host.STEPS:
        see(f"I: {text} ...")
    see("something else")

    assert seen == sorted({percent for _, percent, _ in host.STEPS})
    assert 'echo "firstlight-step: clearing"' in hook


def test_a_root_that_is_there_is_not_built_again(tmp_path: Path) -> None:
    there = host.archive(tmp_path)
    there.parent.mkdir()
    there.touch()

    assert host.build(tmp_path, silent) == there


def test_a_host_that_is_to_be_a_node_has_a_root_of_its_own_with_containerd(tmp_path: Path) -> None:
    def packages(*, node: bool) -> set[str]:
        include = next(word for word in host.argv(tmp_path, None, node=node) if word.startswith("--include="))
        return set(include.removeprefix("--include=").split(","))

    more = packages(node=True) - packages(node=False)
    assert {"containerd", "runc", "containernetworking-plugins", "iptables"} <= more
    assert packages(node=False) < packages(node=True)
    assert host.archive(tmp_path, node=True) != host.archive(tmp_path)


@pytest.mark.parametrize(
    ("nodes", "kinds"), [((), [False]), (("m1",), [False, True]), (("m1", "m2", "m3"), [True])]
)
def test_a_lab_wants_the_roots_of_the_kinds_of_hosts_that_it_has(
    nodes: tuple[str, ...], kinds: list[bool], tmp_path: Path
) -> None:
    cluster = samples.cluster("lab-ha")
    hosts = tuple(one.model_copy(update={"node": one.name in nodes}) for one in cluster.control_plane.hosts)
    plane = cluster.control_plane.model_copy(update={"hosts": hosts})
    found = host.archives(cluster.model_copy(update={"control_plane": plane}), tmp_path)

    assert list(found) == kinds
    assert found == {node: host.archive(tmp_path, node=node) for node in kinds}


def test_what_this_computer_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ImageError, match="mmdebstrap, zstd missing: apt-get install debian-archive-keyring mmdebstrap zstd"
    ):
        host.build(tmp_path, silent)

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ImageError, match="sudo"):
        host.build(tmp_path, silent)


def test_a_full_disk_is_said_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(host, "NEEDS", replace(host.NEEDS, tools=(), free_bytes=1 << 62))

    with pytest.raises(ImageError, match="MiB free; a build needs"):
        host.build(tmp_path, silent)


def test_an_archive_is_kept_whole_and_read_only(tmp_path: Path) -> None:
    partial, final = tmp_path / "partial", tmp_path / "hosts" / "key.tar.zst"
    partial.write_bytes(b"root")
    host.keep(partial, final)

    assert final.read_bytes() == b"root"
    assert final.stat().st_mode & 0o777 == 0o444
    assert not partial.exists()
