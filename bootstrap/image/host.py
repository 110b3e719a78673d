"""Builds the root file system that the lab's control-plane hosts start from: a plain Debian that answers SSH."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from bootstrap import packages
from bootstrap.image import builder, recipe
from bootstrap.image.command import APART, run, terminable
from bootstrap.model import Cluster
from bootstrap.progress import Progress

HOST_PACKAGES = ("debian-archive-keyring", "mmdebstrap", "zstd")
HOST_TOOLS = ("mmdebstrap", "zstd")
SUITE = "trixie"
NEEDS = builder.Needs(
    what="the root of the lab's hosts", packages=HOST_PACKAGES, tools=HOST_TOOLS, free_bytes=2 << 30
)
STEPS = (
    ("downloading packages", 10, "downloading packages"),
    ("extracting archives", 30, "unpacking packages"),
    ("installing remaining", 50, "installing packages"),
    ("firstlight-step: clearing", 80, "clearing what must differ between hosts"),
    ("creating tarball", 90, "compressing the root"),
)


def archive(cache: Path, mirror: str | None = None, *, node: bool = False) -> Path:
    """Return where the root for `mirror` (None: mmdebstrap's own) lies, as a tar archive; it may not be there.

    A host that is to be a `node` too has another one, which also holds containerd.
    """
    return cache / "hosts" / f"{recipe.host_key(mirror, node=node)}.tar.zst"


def archives(cluster: Cluster, cache: Path) -> dict[bool, Path]:
    """Return the roots that the lab's hosts start from, by whether they are for nodes; they may not be there."""
    mirror = cluster.images.debian.mirror
    return {node: archive(cache, mirror, node=node) for node in _kinds(cluster)}


def _kinds(cluster: Cluster) -> list[bool]:
    virtual = {host.name for host in cluster.lab.hosts} if cluster.lab else set()
    return sorted({host.node for host in cluster.control_plane.hosts if host.name in virtual})


def for_lab(cluster: Cluster, cache: Path, progress: Progress) -> dict[bool, Path]:
    """Return what the hosts of the cluster's lab start from, built if need be, by whether they are to be nodes.

    Raises as `build`; PreflightError if a Debian package is missing that cannot be installed.
    """
    if cluster.lab is None or not cluster.lab.hosts:
        return {}
    packages.ensure(HOST_PACKAGES, progress)
    mirror = cluster.images.debian.mirror
    return {node: build(cache, progress, mirror, node=node) for node in _kinds(cluster)}


def build(cache: Path, progress: Progress, mirror: str | None = None, *, node: bool = False) -> Path:
    """Return the root as a tar archive, building it unless the cache holds it already; about a minute.

    Needs root and the programs of HOST_PACKAGES. Raises ImageError with what to install or which step failed.
    """
    final = archive(cache, mirror, node=node)
    if final.is_file():
        progress("root of the lab's hosts is already built", 100, 100)
        return final
    builder.check(cache, NEEDS)
    with terminable(), builder.work_folder(cache) as work:
        partial = work / final.name
        env = {"TMPDIR": f"{work}", "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": f"{int(time.time())}"}
        run(argv(partial, mirror, node=node), env=env, apart=APART, on_line=steps(progress))
        keep(partial, final)
    progress("root of the lab's hosts is built", 100, 100)
    return final


def argv(target: Path, mirror: str | None, *, node: bool = False) -> tuple[str, ...]:
    """Return the command that makes the root and packs it into `target`."""
    texts = recipe.TEXTS / "host"
    more = recipe.listed(texts / "node-packages") if node else ()
    return builder.mmdebstrap_argv(
        SUITE,
        target,
        packages=(*recipe.listed(texts / "packages"), *more),
        components="main",
        hook=texts / "customize",
        mirror=mirror,
        form="auto",
    )


def steps(progress: Progress) -> Callable[[str], None]:
    """Return what turns the lines of mmdebstrap into progress."""

    def see(line: str) -> None:
        for text, percent, what in STEPS:
            if text in line:
                progress(f"root of the lab's hosts: {what}", percent, 100)

    return see


def keep(partial: Path, final: Path) -> None:
    """Put the archive under its name, whole and on the disk."""
    partial.chmod(0o444)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    final.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(final)
