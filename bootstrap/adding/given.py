"""Reads what the documents of addons depend on: the certificate of kubelets' authority, and folders of documents."""

from pathlib import Path

from bootstrap.adding.rendering import Given, chosen, documents, folders
from bootstrap.errors import ConfigError, Problem
from bootstrap.keys import FOLDER
from bootstrap.model import Cluster

KUBELET_CA = "kubelet-ca.crt"
ENDINGS = (".yaml", ".yml", ".json")


def given(cluster: Cluster, work: Path, base: Path) -> Given:
    """Return what the addons of `cluster` depend on; relative folders begin at `base`.

    Keys that are not made yet are no text.

    Raises:
        ConfigError: a folder or a file of it cannot be read, or holds no document.
    """
    authority = work / FOLDER / KUBELET_CA
    text = authority.read_text() if authority.is_file() else ""
    return Given(kubelet_ca=text, folders=_folders(cluster, base))


def _folders(cluster: Cluster, base: Path) -> dict[str, tuple[tuple[str, bytes], ...]]:
    return {name: _files(base / name) for name in folders(cluster)}


def _files(folder: Path) -> tuple[tuple[str, bytes], ...]:
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS)
        found = tuple((str(path), path.read_bytes()) for path in paths)
    except OSError as error:
        place = str(error.filename or folder)
        text = (
            f"cannot be read: {error.strerror}; write a folder of YAML files as addons' manifests.directory"
        )
        raise ConfigError((_problem(place, text),)) from error
    if not found:
        raise ConfigError((_problem(str(folder), f"holds no file that ends with {', '.join(ENDINGS)}"),))
    return found


def _problem(place: str, text: str) -> Problem:
    return Problem(file=place, line=1, column=1, path="", message=text)


def check(cluster: Cluster, base: Path) -> None:
    """Make every document once, before anything is changed by them.

    Raises:
        ConfigError: a folder or a file of it is wrong; names file, line and column.
    """
    found = Given(folders=_folders(cluster, base))
    for one in chosen(cluster):
        documents(cluster, one, found)
