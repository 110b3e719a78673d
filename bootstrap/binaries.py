"""Finds the programs that a cluster runs, and makes sure that they are what the configuration names.

They come from one place: a folder, a program that makes a folder, the mirror, or Kubernetes' release server or a copy
of it.
"""

import hashlib
import re
import struct
import subprocess
import tarfile
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bootstrap import artifacts, download
from bootstrap.artifacts import Artifact
from bootstrap.disk import write_file
from bootstrap.errors import ImageError, PreflightError
from bootstrap.image.command import run
from bootstrap.kubernetes.nodes import pools_without_plugins
from bootstrap.kubernetes.tree import LocalFile
from bootstrap.mirror import folder as mirror
from bootstrap.mirror.sources.kubernetes import RELEASES
from bootstrap.model import Cluster
from bootstrap.programs import CNI_PLUGINS, CONTROL_PLANE, DATABASE, IMAGE, NODE, OPTIONAL, needed
from bootstrap.progress import Progress, silent

VERSIONED = frozenset({*CONTROL_PLANE, *NODE})
"""Those that answer --version with "Kubernetes v1.36.4"."""
SUMS_FILES = ("sha256sums", "SHA256SUMS")
SUM_LINE = re.compile(r"([0-9a-f]{64})[ *]+(\S+)")
VERSION_SECONDS = 30.0
ELF = struct.Struct("<4sBB10xHH")
"""Magic, class, byte order, type, machine (ELF-64 object file format, figure 2)."""
AMD64 = (b"\x7fELF", 2, 1, 62)
MIRROR_TEXT = "run mirror pull, or name a folder that holds all of them in kubernetes.binaries.directory"

Sums = Mapping[str, str]


def resolve(
    cluster: Cluster, *, base: Path, cache: Path, progress: Progress = silent
) -> Mapping[str, LocalFile]:
    """Return every program of `cluster` by name; those of `OPTIONAL`, and images, only where they are there.

    Relative paths in the configuration begin at `base`. Every file was read and has its sum.

    Raises:
        PreflightError: some are missing, damaged, of another processor or version; names all of them.
        ImageError: the program that makes them failed.
    """
    given = cluster.kubernetes.binaries
    if given.directory is not None:
        return from_folder(cluster, base / given.directory, progress)
    if given.build is not None:
        return from_folder(cluster, built((base / given.build).resolve(), cache, progress), progress)
    mirrored = mirror.folder_of(cluster, base, cache)
    if mirror.is_used(cluster, mirrored):
        return {**from_mirror(cluster, mirrored, progress), **plugins(cluster, mirrored, cache)}
    return from_releases(cluster, cache, progress)


def from_mirror(cluster: Cluster, folder: Path, progress: Progress = silent) -> Mapping[str, LocalFile]:
    """Return the programs and images that `mirror pull` has put into `folder`; raises as `resolve`."""
    progress(f"checking the programs in {folder}")
    found = mirror.programs(cluster, folder)
    sums = cluster.kubernetes.binaries.sha256s
    return _all_of(
        {name: (path, sums.get(name, sum_)) for name, (path, sum_) in found.items()},
        cluster.kubernetes.version,
    )


def plugins(cluster: Cluster, folder: Path, cache: Path) -> Mapping[str, LocalFile]:
    """Return the CNI plugins of the release that the mirror in `folder` has, unpacked into `cache`; none without one.

    Raises:
        PreflightError: it holds other files, or programs for another processor.
    """
    archive = mirror.cni_archive(cluster, folder)
    are_wanted = any(host.node for host in cluster.control_plane.hosts) or pools_without_plugins(cluster)
    if archive is None or not are_wanted:
        return {}
    place = cache / "cni-plugins" / archive[1]
    try:
        with tarfile.open(archive[0]) as tar:
            for name in CNI_PLUGINS:
                content = tar.extractfile(f"./{name}")
                if content is not None and not (place / name).is_file():
                    place.mkdir(parents=True, exist_ok=True)
                    write_file(place / name, content.read(), 0o755)
    except (tarfile.TarError, KeyError, OSError) as error:
        raise PreflightError(
            f"{archive[0]} is no release of the CNI plugins: {error}; {MIRROR_TEXT}"
        ) from error
    return _all_of({name: (place / name, None) for name in CNI_PLUGINS}, cluster.kubernetes.version)


def built(program: Path, cache: Path, progress: Progress) -> Path:
    """Return the folder that `program` prints as its last line when it is called with `cache`.

    Raises:
        ImageError: it failed; the text holds its last lines.
        PreflightError: it printed no folder.
    """
    if not program.is_file():
        raise PreflightError(f"kubernetes.binaries.build: there is no program {program}; write its path")
    lines: list[str] = []

    def see(line: str) -> None:
        lines.append(line)
        progress(line)

    run((f"{program}", f"{cache}"), on_line=see)
    folder = Path(lines[-1] if lines else "")
    if not (folder.is_absolute() and folder.is_dir()):
        raise PreflightError(f"{program} printed no folder as its last line, but {lines[-1:]}")
    return folder


def from_folder(cluster: Cluster, folder: Path, progress: Progress = silent) -> Mapping[str, LocalFile]:
    """Return the programs in `folder`; raises PreflightError as `resolve`."""
    if not folder.is_dir():
        raise PreflightError(
            f"kubernetes.binaries.directory: there is no folder {folder}; write where they are"
        )
    progress(f"checking the programs in {folder}")
    images = sorted(path.name for path in folder.glob(f"*{IMAGE}"))
    optional = (name for name in (*OPTIONAL, *CNI_PLUGINS) if (folder / name).is_file())
    names = [*needed(cluster), *optional, *images]
    sums = {**_sums_in(folder), **cluster.kubernetes.binaries.sha256s}
    return _all_of({name: (folder / name, sums.get(name)) for name in names}, cluster.kubernetes.version)


def _all_of(files: Mapping[str, tuple[Path, str | None]], version: str) -> Mapping[str, LocalFile]:
    """Return the files by name, each read and found to be right; raises PreflightError with all that are not."""
    with ThreadPoolExecutor() as pool:
        looks = pool.map(lambda given: _look_at(given[0], given[1], version), files.values())
        found = dict(zip(files, looks, strict=True))
    problems = [what for what in found.values() if isinstance(what, str)]
    if problems:
        raise PreflightError("\n".join(problems))
    return {name: file for name, file in found.items() if isinstance(file, LocalFile)}


def _sums_in(folder: Path) -> Sums:
    files = [folder / name for name in SUMS_FILES if (folder / name).is_file()]
    matches = (SUM_LINE.fullmatch(line) for file in files for line in file.read_text().splitlines())
    return {match[2].removeprefix("./"): match[1] for match in matches if match}


def _look_at(path: Path, sum_: str | None, version: str) -> LocalFile | str:
    """Return the file at `path`, or what is wrong with it."""
    try:
        with path.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}; {MIRROR_TEXT}"
    if sum_ is not None and found != sum_:
        return (
            f"{path} has sha256 {found}, not {sum_}: it is damaged or another file; put the right one there"
        )
    problem = None if path.suffix == IMAGE else _wrong_program(path, version)
    return problem or LocalFile(path.resolve(), found)


def _wrong_program(path: Path, version: str) -> str | None:
    if not is_amd64(path):
        return f"{path} is no program for x86-64 Linux (ELF); put the linux/amd64 one there"
    if path.name not in VERSIONED:
        return None
    found = version_of(path)
    if found != version:
        return (
            f"{path} is {found or 'of no version'}, and kubernetes.version is {version}; change one of them"
        )
    return None


def is_amd64(path: Path) -> bool:
    """Return whether the file is an ELF program for x86-64."""
    with path.open("rb") as file:
        head = file.read(ELF.size)
    if len(head) < ELF.size:
        return False
    magic, width, order, _, machine = ELF.unpack(head)
    return (magic, width, order, machine) == AMD64


def version_of(path: Path) -> str | None:
    """Return what a Kubernetes program says of its version (v1.36.4), or None when it does not answer so."""
    try:
        done = subprocess.run(
            [f"{path}", "--version"],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.fullmatch(r"Kubernetes (v\S+)", done.stdout.strip())
    return match[1] if match else None


def from_releases(cluster: Cluster, cache: Path, progress: Progress = silent) -> Mapping[str, LocalFile]:
    """Return the programs of the release server or its copy, fetched into `cache` unless they are there.

    A sum that the configuration does not hold is asked of the server, if that is reached by https.

    Raises:
        PreflightError: one cannot be fetched, or there is no sum to check it with.
    """
    names = needed(cluster)
    return {name: _from_release(cluster, name, cache, progress) for name in names}


def _from_release(cluster: Cluster, name: str, cache: Path, progress: Progress) -> LocalFile:
    url = release_url(cluster, name)
    try:
        sum_ = cluster.kubernetes.binaries.sha256s.get(name) or _asked_sum(url)
        if not _have(cache, sum_):
            partial = cache / "downloads" / sum_
            download.fetch(url, partial, sum_, progress)
            artifacts.import_file(cache, partial)
            partial.unlink()
    except PreflightError as error:
        hint = "; Kubernetes' own releases hold no etcd" if name in DATABASE else ""
        raise PreflightError(f"{name}: {error}{hint}; {MIRROR_TEXT}") from error
    return LocalFile(artifacts.artifact_path(cache, sum_), sum_)


def _have(cache: Path, sum_: str) -> bool:
    """Return whether the store holds the file, undamaged."""
    try:
        artifacts.verify(cache, Artifact(sum_, 0))
    except ImageError:
        return False
    return True


def release_url(cluster: Cluster, name: str) -> str:
    """Return where the program `name` of the configured version is fetched from."""
    base = (cluster.kubernetes.binaries.mirror or RELEASES).rstrip("/")
    return f"{base}/release/{cluster.kubernetes.version}/bin/linux/amd64/{name}"


def _asked_sum(url: str, ask: Callable[[str], str] = download.fetch_text) -> str:
    if not url.startswith("https://"):
        raise PreflightError(
            f"{url} is no https, so its sum must be known; add it to kubernetes.binaries.sha256s"
        )
    sum_ = (ask(f"{url}.sha256").split() or [""])[0]
    if not artifacts.SHA256.fullmatch(sum_):
        raise PreflightError(f"{url}.sha256 holds no sum; add it to kubernetes.binaries.sha256s")
    return sum_


def plugins_for_nodes(cluster: Cluster, files: Mapping[str, LocalFile]) -> tuple[str, ...]:
    """Return the names of the CNI plugins that machines fetch; none where their systems have them.

    Raises:
        PreflightError: machines need them to connect pods, and `files` lacks some.
    """
    pools = pools_without_plugins(cluster)
    missing = [name for name in CNI_PLUGINS if name not in files]
    if pools and missing and cluster.kubernetes.cni.plugin == "bridge":
        raise PreflightError(
            f"pools {', '.join(pools)}: their system has no CNI plugins; name mirror.cniPlugins and run mirror pull, "
            f"or put {', '.join(missing)} beside the programs of kubernetes.binaries"
        )
    return CNI_PLUGINS if pools and not missing else ()


def node_artifacts(
    files: Mapping[str, LocalFile], cache: Path, more: Collection[str] = ()
) -> Mapping[str, Artifact]:
    """Put what nodes fetch, and what of `more` is there, into the store of `cache` for nginx; return it by name.

    Raises:
        PreflightError: a file changed since it was looked at.
        OSError: the disk does not take it.
    """
    names = (name for name in files if name in NODE or name.endswith(IMAGE) or name in more)
    return {name: _stored(files[name], cache) for name in sorted(names)}


def _stored(file: LocalFile, cache: Path) -> Artifact:
    known = Artifact(file.sha256, file.path.stat().st_size)
    if artifacts.present(cache, known):
        return known
    stored = artifacts.import_file(cache, file.path)
    if stored != known:
        raise PreflightError(f"{file.path} changed while it was copied; start this again")
    return stored
