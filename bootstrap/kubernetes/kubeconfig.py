"""Kubeconfig files: who calls which API server, and how each is known."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bootstrap.errors import UsageError
from bootstrap.kubernetes.documents import OWN, own_json_text, secret_json
from bootstrap.model import Cluster
from certs.keyring import Keyring
from certs.secret import Secret

Tree = Mapping[str, Any]
_LISTS = ("clusters", "contexts", "users")


@dataclass(frozen=True)
class Credentials:
    """A client certificate in PEM and its private key."""

    certificate: bytes
    key: Secret


@dataclass(frozen=True)
class PemFiles:
    """A client certificate and its private key as files on the machine that reads the kubeconfig."""

    certificate: str
    key: str


def context_name(cluster: Cluster) -> str:
    """Return what the context of `cluster` is called beside the contexts of other clusters."""
    return f"firstlight-{cluster.metadata.name}"


def admin_kubeconfig(
    cluster: Cluster, keyring: Keyring, *, row: str = "admin", server: str | None = None
) -> Secret:
    """Return the kubeconfig of an administrator as JSON; `row` "super-admin" is the break-glass one.

    `server` is the URL to call in place of the control-plane endpoint.

    Raises:
        UsageError: the keyring has no such certificate.
    """
    if row not in keyring.keys:
        raise UsageError(f"there is no certificate {row}; make it with: certs renew {row}")
    credentials = Credentials(keyring.certificates[row], keyring.keys[row])
    name = context_name(cluster)
    url = server or f"https://{cluster.kubernetes.control_plane_endpoint}"
    ca = keyring.certificates["ca"]
    return kubeconfig(name=name, server=url, ca=ca, user=f"{name}-{row}", credentials=credentials)


def kubeconfig(*, name: str, server: str, ca: bytes, user: str, credentials: Credentials) -> Secret:
    """Return a kubeconfig that holds everything; `name` is its cluster and context, `ca` a PEM."""
    held = {
        "client-certificate-data": _base64(credentials.certificate),
        "client-key-data": _base64(credentials.key.reveal()),
    }
    cluster = {"server": server, "certificate-authority-data": _base64(ca)}
    return secret_json(_tree(name, cluster, user, held))


def referring_kubeconfig(*, name: str, server: str, ca: str, user: str, files: PemFiles) -> bytes:
    """Return a kubeconfig that names files, and so holds nothing secret; `ca` is a path too."""
    held = {"client-certificate": files.certificate, "client-key": files.key}
    return own_json_text(_tree(name, {"server": server, "certificate-authority": ca}, OWN, held), user)


def merged(ours: Tree, theirs: Tree) -> dict[str, Any]:
    """Return `theirs` with the entries of `ours` put in, replacing those of the same name; ours is current.

    Raises:
        UsageError: `theirs` is no kubeconfig.
    """
    lists = {key: _merged_list(key, ours.get(key), theirs.get(key)) for key in _LISTS}
    return {**theirs, **{key: ours[key] for key in ("apiVersion", "kind", "current-context")}, **lists}


def _merged_list(key: str, ours: object, theirs: object) -> list[Tree]:
    old = [] if theirs is None else theirs
    if not isinstance(old, Sequence) or not all(isinstance(each, Mapping) and "name" in each for each in old):
        raise UsageError(f"{key}: is no list of named entries; this is no kubeconfig")
    new = {each["name"]: each for each in ours} if isinstance(ours, Sequence) else {}
    kept = [new.pop(each["name"], each) for each in old]
    return [*kept, *new.values()]


def _tree(name: str, cluster: Tree, user: str, held: Tree) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user, "user": held}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
        "preferences": {},
    }


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
