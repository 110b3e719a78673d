"""Brings iPXE loaders that the configuration names by URL into the artifact store, whence pxe and web take them."""

from pathlib import Path

from bootstrap import artifacts
from bootstrap.artifacts import artifact_path
from bootstrap.download import fetch
from bootstrap.errors import PreflightError
from bootstrap.mirror import files
from bootstrap.mirror.folder import folder_of
from bootstrap.mirror.item import Digest
from bootstrap.mirror.places import file_name, file_path
from bootstrap.mirror.sources.files import ByUrl, by_url
from bootstrap.model import Cluster
from bootstrap.progress import Progress

PARTS = "loaders.part"
"""The folder of the cache where what was fetched so far waits for the rest."""


def bring(cluster: Cluster, base: Path, cache: Path, progress: Progress) -> tuple[str, ...]:
    """Put each loader into the store in `cache`, from the mirror's folder or from its URL; return the names of the new.

    One that is in the store is not asked for again; one that is damaged there is. Relative paths begin at `base`.

    Raises:
        PreflightError: it cannot be fetched, or is another file than the configuration means.
        OSError: the disk does not take it.
    """
    folder = folder_of(cluster, base, cache)
    return tuple(
        _bring(one, files.place(folder, file_path(one.url, one.sha256)), cache, progress)
        for one in by_url(cluster)
        if not _is_stored(one, cache)
    )


def _is_stored(loader: ByUrl, cache: Path) -> bool:
    return files.has(artifact_path(cache, loader.sha256), Digest("sha256", loader.sha256))


def _bring(loader: ByUrl, mirrored: Path, cache: Path, progress: Progress) -> str:
    artifact_path(cache, loader.sha256).unlink(missing_ok=True)
    if mirrored.is_file():
        _store(loader, mirrored, cache)
        return file_name(loader.url)
    fetched = cache / PARTS / loader.sha256
    try:
        fetch(loader.url, fetched, loader.sha256, progress)
    except PreflightError as error:
        raise PreflightError(f"appliance.pxe.loader: {error}; {mirrored} would do as well") from error
    _store(loader, fetched, cache)
    fetched.unlink()
    return file_name(loader.url)


def _store(loader: ByUrl, source: Path, cache: Path) -> None:
    stored = artifacts.import_file(cache, source)
    if stored.sha256 != loader.sha256:
        artifact_path(cache, stored.sha256).unlink(missing_ok=True)
        raise PreflightError(
            f"appliance.pxe.loader: {source} has sha256 {stored.sha256}, not {loader.sha256}: "
            "run mirror verify, then mirror pull"
        )
