"""The store that a configuration names, opened: a file below the work folder, or etcd."""

import ssl
from pathlib import Path

from bootstrap.disk import write_file
from bootstrap.errors import PreflightError, StateError
from bootstrap.etcd import Credentials
from bootstrap.model import Cluster
from bootstrap.model.appliance import StateStore
from bootstrap.state import Store
from bootstrap.state.etcd import EtcdStore, open_etcd
from bootstrap.state.moving import why_not_home
from bootstrap.state.sqlite import SqliteStore
from certs.secret import Secret

DATABASE = Path("state/state.db")
CLIENT = Path("etcd-client")
"""Below the work folder: the file, and what we show to etcd."""
CA, CERT, KEY = "ca.crt", "client.crt", "client.key"


def open_store(cluster: Cluster, work: Path) -> Store:
    """Return the store of `cluster`, whose work folder is `work`.

    Raises:
        StateError: the file cannot be opened, or is damaged. An etcd that is away is found out by the first call.
        PreflightError: a certificate for etcd cannot be read.
    """
    return open_shared(cluster, work) if cluster.appliance.store == "etcd" else open_file(work)


def open_file(work: Path) -> SqliteStore:
    """Return the store in the work folder; its folder is made.

    Raises:
        StateError: as `open_store`.
    """
    (work / DATABASE).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return SqliteStore(work / DATABASE)


def open_home(cluster: Cluster, work: Path) -> Store:
    """Return the store of `cluster` to serve from: nothing says that its state is elsewhere.

    Raises:
        StateError: as `open_store`; or the state is in the other store, or on its way.
        PreflightError: as `open_store`.
    """
    store = open_store(cluster, work)
    if why := why_elsewhere(cluster, work, store):
        store.close()
        raise StateError(why)
    return store


def why_elsewhere(cluster: Cluster, work: Path, store: Store) -> str:
    """Return why the state of `cluster` is not in `store`, the one that the configuration names, and what to do.

    Empty if it is there. With `store: etcd` it may be in the file in `work` still, which nobody may have open then.

    Raises:
        StateError: it cannot be read.
    """
    if cluster.appliance.store == "etcd" and (work / DATABASE).exists() and _is_file_in_use(work):
        remedy = "run `store migrate --to etcd`"
        return f"{work / DATABASE} has the state, and the configuration says store: etcd; {remedy}"
    return why_not_home(store)


def _is_file_in_use(work: Path) -> bool:
    """Return whether the file in the work folder has what is known of the machines."""
    file = open_file(work)
    try:
        return not why_not_home(file) and any(file.scan("machine/"))
    finally:
        file.close()


def bring_credentials(cluster: Cluster, base: Path, work: Path) -> None:
    """Copy what the configuration names for etcd to where web finds it; relative paths begin in `base`.

    Raises:
        PreflightError: a file cannot be read; nothing was copied.
        OSError: the copy cannot be written.
    """
    section = _section(cluster)
    given = {
        CA: ("caFile", section.ca_file),
        CERT: ("certFile", section.cert_file),
        KEY: ("keyFile", section.key_file),
    }
    found = {
        name: _content(base / path, f"appliance.etcd.{key}: ")
        for name, (key, path) in given.items()
        if path is not None
    }
    (work / CLIENT).mkdir(mode=0o700, exist_ok=True)
    for name in given:
        if name in found:
            write_file(work / CLIENT / name, found[name], 0o600)
        else:
            (work / CLIENT / name).unlink(missing_ok=True)


def open_shared(cluster: Cluster, work: Path, *, moves: bool = False) -> EtcdStore:
    """Return the store in the etcd of `cluster`, with what `bring_credentials` put into `work`; `moves` as EtcdStore's.

    Raises:
        PreflightError: the section is not there, or a certificate cannot be read.
    """
    section, folder = _section(cluster), work / CLIENT
    if section.ca_file is None:
        bundle = ssl.get_default_verify_paths().cafile
        if bundle is None:
            raise PreflightError("this computer has no CA certificates; write appliance.etcd.caFile")
        authority = _content(Path(bundle))
    else:
        authority = _content(folder / CA)
    credentials = Credentials(authority)
    if section.cert_file is not None:
        credentials = Credentials(authority, _content(folder / CERT), Secret(_content(folder / KEY)))
    return open_etcd(section.endpoints, credentials, cluster.metadata.name, moves=moves)


def _section(cluster: Cluster) -> StateStore:
    if cluster.appliance.etcd is None:
        raise PreflightError(
            "the configuration names no etcd; add appliance.etcd: {endpoints: [https://...]}"
        )
    return cluster.appliance.etcd


def _content(path: Path, name: str = "") -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PreflightError(f"{name}{path}: {error.strerror}") from error
