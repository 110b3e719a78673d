"""The store that a configuration names, opened: a file below the work folder, or etcd."""

import ssl
from pathlib import Path

from bootstrap.errors import PreflightError, StateError
from bootstrap.etcd import Credentials
from bootstrap.model import Cluster
from bootstrap.state import Store
from bootstrap.state.etcd import EtcdStore, open_etcd
from bootstrap.state.moving import why_not_home
from bootstrap.state.sqlite import SqliteStore
from certs.secret import Secret

DATABASE = Path("state/state.db")
"""Below the work folder."""


def open_store(cluster: Cluster, work: Path) -> Store:
    """Return the store of `cluster`, whose work folder is `work`.

    Raises:
        StateError: the file cannot be opened, or is damaged. An etcd that is away is found out by the first call.
        PreflightError: a certificate for etcd cannot be read.
    """
    return open_shared(cluster) if cluster.appliance.store == "etcd" else open_file(work)


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
    if cluster.appliance.store == "etcd" and (work / DATABASE).exists():
        _refuse_file_in_use(work)
    store = open_store(cluster, work)
    if why := why_not_home(store):
        store.close()
        raise StateError(why)
    return store


def _refuse_file_in_use(work: Path) -> None:
    """Refuse etcd while the file in the work folder has what is known of the machines."""
    file = open_file(work)
    try:
        is_home = not why_not_home(file) and any(file.scan("machine/"))
    finally:
        file.close()
    if is_home:
        raise StateError(
            f"{work / DATABASE} has the state, and the configuration says store: etcd; run `store migrate --to etcd`"
        )


def open_shared(cluster: Cluster, *, moves: bool = False) -> EtcdStore:
    """Return the store in the etcd of the configuration's `appliance.etcd`; `moves` as EtcdStore's.

    Raises:
        PreflightError: the section is not there, or a certificate cannot be read.
    """
    section = cluster.appliance.etcd
    if section is None:
        raise PreflightError(
            "the configuration names no etcd; add appliance.etcd: {endpoints: [https://...]}"
        )
    authority = section.ca_file or ssl.get_default_verify_paths().cafile
    if authority is None:
        raise PreflightError("this computer has no CA certificates; write appliance.etcd.caFile")
    certificate = _content(section.cert_file, "certFile")
    key = _content(section.key_file, "keyFile")
    credentials = Credentials(
        _content(authority, "caFile") or b"", certificate, Secret(key) if key is not None else None
    )
    return open_etcd(section.endpoints, credentials, cluster.metadata.name, moves=moves)


def _content(path: str | None, name: str) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise PreflightError(f"appliance.etcd.{name}: {path}: {error.strerror}") from error
