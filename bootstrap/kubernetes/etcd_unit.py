"""The etcd member of a control-plane host: static members, mutual TLS, scheduled snapshots."""

from collections.abc import Iterator

from bootstrap.kubernetes.documents import flags
from bootstrap.kubernetes.places import BIN, ETCD_PKI, UNITS
from bootstrap.kubernetes.releases import release_of
from bootstrap.kubernetes.tree import HostFile
from bootstrap.kubernetes.units import Service
from bootstrap.model import Cluster, Host
from bootstrap.templates import read, render
from certs.keyring import Keyring

CLIENT_PORT, PEER_PORT, METRICS_PORT = 2379, 2380, 2381
DATA = "/var/lib/etcd"
USER = "etcd"
SNAPSHOT_TIMER = "etcd-snapshot.timer"
_QUOTA = 8 * 1024**3
"""Bytes; the most that etcd's makers recommend. At its default, 2 GiB, a large cluster stops writing."""


def members(cluster: Cluster) -> tuple[Host, ...]:
    """Return the hosts that run etcd, in the order of the configuration's members."""
    hosts = {host.name: host for host in cluster.control_plane.hosts}
    return tuple(hosts[name] for name in cluster.etcd.members)


def client_urls(cluster: Cluster, host: Host) -> tuple[str, ...]:
    """Return where the API server on `host` finds etcd: at its own member, or at all if it has none.

    With several it would send every third request to a member that is frozen, and wait 40 seconds for each: the time
    limits of its connections to etcd (keepalive 30 s, timeout 10 s) have no flag. With its own alone it is not ready
    when that is away, and whoever called it goes to another API server.
    """
    if host.name in cluster.etcd.members:
        return (f"https://127.0.0.1:{CLIENT_PORT}",)
    return tuple(_client_url(member) for member in members(cluster))


def service(cluster: Cluster, host: Host) -> Service:
    """Return the etcd service of `host`.

    Its cluster state is `new` for ever: etcd heeds it only while its data folder is empty.
    """
    values = {**_network(cluster, host), **_tls(), **_limits()}
    return Service("etcd", (*flags(values), *release_of(cluster.kubernetes.version).etcd_flags))


def files(host: Host, keyring: Keyring) -> Iterator[tuple[str, HostFile]]:
    """Yield what only an etcd member reads."""
    for role in ("server", "peer"):
        row = f"etcd/{role}-{host.name}"
        yield f"{ETCD_PKI}/{role}.crt", HostFile(keyring.certificates[row])
        yield f"{ETCD_PKI}/{role}.key", HostFile(keyring.keys[row], 0o640, group=USER)
    yield f"{BIN}/etcd-snapshot", HostFile(read("kubernetes/etcd-snapshot").encode(), 0o755)
    unit = render("systemd/etcd-snapshot.service.j2", capabilities="")
    yield f"{UNITS}/etcd-snapshot.service", HostFile(unit.encode())
    yield f"{UNITS}/{SNAPSHOT_TIMER}", HostFile(read(f"systemd/{SNAPSHOT_TIMER}").encode())


def _client_url(host: Host) -> str:
    return f"https://{host.address}:{CLIENT_PORT}"


def _peer_url(host: Host) -> str:
    return f"https://{host.address}:{PEER_PORT}"


def _network(cluster: Cluster, host: Host) -> dict[str, object]:
    peers = [f"{member.name}={_peer_url(member)}" for member in members(cluster)]
    return {
        "name": host.name,
        "data-dir": DATA,
        "listen-client-urls": [f"https://127.0.0.1:{CLIENT_PORT}", _client_url(host)],
        "advertise-client-urls": _client_url(host),
        "listen-peer-urls": _peer_url(host),
        "initial-advertise-peer-urls": _peer_url(host),
        "initial-cluster": peers,
        "initial-cluster-state": "new",
        "initial-cluster-token": cluster.metadata.name,
        "listen-metrics-urls": f"http://127.0.0.1:{METRICS_PORT}",
    }


def _tls() -> dict[str, object]:
    return {
        "client-cert-auth": True,
        "trusted-ca-file": f"{ETCD_PKI}/ca.crt",
        "cert-file": f"{ETCD_PKI}/server.crt",
        "key-file": f"{ETCD_PKI}/server.key",
        "peer-client-cert-auth": True,
        "peer-trusted-ca-file": f"{ETCD_PKI}/ca.crt",
        "peer-cert-file": f"{ETCD_PKI}/peer.crt",
        "peer-key-file": f"{ETCD_PKI}/peer.key",
    }


def _limits() -> dict[str, object]:
    return {"quota-backend-bytes": _QUOTA, "logger": "zap"}
