"""The way to the cluster's API: our client certificate in pki/, the CAs that count there, and whom to ask.

There are three identities: one may file and decide kubelets' certificate requests, one look at nodes, and one look at
nodes and change them, for the taint of those whose GPUs nobody has verified. None may do anything else (DESIGN.md, D4).
No CA's key is read here, or anywhere in this process.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bootstrap.kubernetes.access import Access, Signer
from bootstrap.kubernetes.api import Api
from bootstrap.kubernetes.seen import NodeMarks, NodeView, SigningRequest
from bootstrap.model import Cluster

FOLDER = Path("pki")
FILES = (
    *("ca.crt", "kubelet-ca.crt", "claims.crt", "claims.key", "status.crt", "status.key"),
    *("gate.crt", "gate.key"),
)
USER = "firstlight:claims"
"""Who we are in the cluster: the CN of claims.crt."""
CONNECT_SECONDS, ANSWER_SECONDS = 1.5, 4.0  # a machine waits for our answer, and asks again


class ClusterApi(Protocol):
    """What we ask of a cluster (bootstrap/kubernetes/api.py)."""

    def signing_requests(self, signer: Signer) -> list[SigningRequest]:
        """Return the requests for a signer."""

    def signing_request(self, name: str) -> SigningRequest | None:
        """Return one request, or None."""

    def create_signing_request(
        self, name: str, signer: Signer, request: bytes, usages: Sequence[str], lifetime_seconds: int | None
    ) -> SigningRequest:
        """Create a request, or return the one of this name."""

    def decide(self, name: str, *, approve: bool, reason: str, message: str) -> None:
        """Approve or deny a request."""


class NodesApi(Protocol):
    """What we look at."""

    def nodes(self) -> list[NodeView]:
        """Return all nodes."""


class GateApi(Protocol):
    """What we look at and change of nodes with GPUs."""

    def node_marks(self) -> list[NodeMarks]:
        """Return what each node carries, and how many GPUs it can give out."""

    def patch_node(self, name: str, patch: Mapping[str, Any]) -> None:
        """Merge `patch` into the node called `name`."""


@dataclass(frozen=True)
class Connection:
    """A cluster that we may talk to.

    `authority` is what its API servers' certificates are signed by, `kubelet_authority` what signs nodes', in PEM.
    """

    api: ClusterApi
    watching: NodesApi
    authority: bytes
    kubelet_authority: bytes
    gate: GateApi


Connect = Callable[[Cluster], Connection | None]


def nowhere(cluster: Cluster) -> Connection | None:
    """Return None: there is no cluster to talk to."""
    del cluster
    return None  # the answer of a Connect


class Credentials:
    """Opens the connection when it is first wanted, and anew when a file of it was replaced."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = tuple(folder / name for name in FILES)
        self._lock = threading.Lock()
        self._stamp: object = None
        self._connection: Connection | None = None

    def __call__(self, cluster: Cluster) -> Connection | None:
        """Return the connection; None without control-plane hosts, or while a file is missing.

        Raises:
            ApiRefused: the files cannot be used.
        """
        if not cluster.control_plane.hosts:
            return None
        with self._lock:
            try:
                stamp = (
                    servers_of(cluster),
                    *((file.stat().st_mtime_ns, file.stat().st_ino) for file in self._files),
                )
                if stamp != self._stamp:
                    self._connection, self._stamp = self._open(servers_of(cluster)), stamp
            except OSError:
                return None
            return self._connection

    def _open(self, servers: tuple[str, ...]) -> Connection:
        authority, kubelet_authority, *pairs = self._files
        api, watching, gate = (_api(servers, authority, pairs[at : at + 2]) for at in (0, 2, 4))
        return Connection(api, watching, authority.read_bytes(), kubelet_authority.read_bytes(), gate)


def _api(servers: tuple[str, ...], authority: Path, pair: Sequence[Path]) -> Api:
    access = Access(servers=servers, authority=authority, certificate=pair[0], key=pair[1])
    return Api(access, connect_seconds=CONNECT_SECONDS, answer_seconds=ANSWER_SECONDS)


def servers_of(cluster: Cluster) -> tuple[str, ...]:
    """Return the URLs of the API servers, by address: no name has to be resolved here."""
    port = cluster.kubernetes.endpoint_port
    return tuple(f"https://{host.address}:{port}" for host in cluster.control_plane.hosts)
