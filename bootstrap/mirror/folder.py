"""Where a cluster's mirror is, and which programs and images it has for it."""

from pathlib import Path

from bootstrap.adding.images import mirrored
from bootstrap.errors import PreflightError
from bootstrap.mirror import files, lock, places
from bootstrap.mirror.lock import Lock
from bootstrap.model import Cluster
from bootstrap.programs import DATABASE, OPTIONAL, needed

PULL = "run mirror pull with this configuration where there is a network, and bring its folder here"


def folder_of(cluster: Cluster, base: Path, cache: Path) -> Path:
    """Return the folder of the mirror; relative paths begin at `base`, and without one it is in `cache`."""
    given = cluster.mirror.directory
    return cache / "mirror" if given is None else (base / given).resolve()


def is_used(cluster: Cluster, folder: Path) -> bool:
    """Return whether programs come from the mirror: it is configured, or has those of the configured version.

    Raises:
        MirrorError: the lock is damaged.
    """
    given = cluster.kubernetes.binaries
    if given.directory is not None or given.build is not None:
        return False
    if cluster.mirror.directory is not None:
        return True
    return any(path in lock.read(folder).entries for path in _paths(cluster).values())


def programs(cluster: Cluster, folder: Path) -> dict[str, tuple[Path, str]]:
    """Return path and sha256 of each program and image that the mirror has for `cluster`, by name.

    Raises:
        PreflightError: the mirror lacks some that are needed; a line for each.
        MirrorError: the lock is damaged.
    """
    known, wanted = lock.read(folder), _paths(cluster)
    lacks = [name for name, path in wanted.items() if path not in known.entries and name not in OPTIONAL]
    if lacks:
        raise PreflightError("\n".join(f"{folder} has no {wanted[name]}; {PULL}" for name in lacks))
    return {name: _found(folder, known, path) for name, path in wanted.items() if path in known.entries}


def cni_archive(cluster: Cluster, folder: Path) -> tuple[Path, str] | None:
    """Return path and sha256 of the CNI plugins' release that the configuration names; None if the mirror has none.

    Raises:
        MirrorError: the lock is damaged.
    """
    if cluster.mirror.cni_plugins is None:
        return None
    known, begin = lock.read(folder), places.cni_folder(cluster.mirror.cni_plugins.version)
    return next((_found(folder, known, path) for path in known.entries if path.startswith(begin)), None)


def _found(folder: Path, known: Lock, path: str) -> tuple[Path, str]:
    return files.place(folder, path), known.entries[path].sha256


def _paths(cluster: Cluster) -> dict[str, str]:
    """Return where the mirror has what the cluster runs, by name."""
    version, etcd = cluster.kubernetes.version, cluster.mirror.etcd
    names = (name for name in (*needed(cluster), *OPTIONAL) if name not in DATABASE)
    found = {name: places.program_path(version, name) for name in names}
    if cluster.etcd.members:
        found |= {name: places.etcd_path(etcd.version if etcd else "?", name) for name in DATABASE}
    images = {places.image_name(image): places.image_path(image) for image in mirrored(cluster)}
    return {**found, **images}
