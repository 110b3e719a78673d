"""A snapshot of etcd: whether it is whole, and how a person brings it back."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from bootstrap.kubernetes.etcd_unit import DATA, PEER_PORT, members
from bootstrap.kubernetes.places import BIN
from bootstrap.model import Cluster, Host

DIGEST_BYTES = 32
"""etcd ends a snapshot with the sha256 of what stands before (server/etcdserver/api/v3rpc/maintenance.go)."""
PAGE_BYTES = 512
CHUNK = 1 << 20
STOPPED = "kube-scheduler kube-controller-manager kube-apiserver"
THERE = "/root/restored-etcd.snapshot"


def why_damaged(file: Path) -> str:
    """Return why the snapshot in `file` is not whole, or nothing."""
    size = file.stat().st_size if file.exists() else 0
    if size <= DIGEST_BYTES or size % PAGE_BYTES != DIGEST_BYTES:
        return f"the snapshot broke off after {size} bytes"
    digest, left = hashlib.sha256(), size - DIGEST_BYTES
    with file.open("rb") as content:
        while left and (chunk := content.read(min(CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
        is_whole = content.read() == digest.digest()
    return "" if is_whole else "the snapshot is not what etcd sent"


def steps(cluster: Cluster, file: Path) -> Iterator[str]:
    """Yield, a line each, what brings the snapshot in `file` back onto the hosts; nothing of it is done by us.

    etcd numbers its members by their addresses and the token, so the data that this makes is this cluster's to `apply`.
    """
    hosts = members(cluster)
    yield "etcd is as it was. To bring it back to the snapshot, which undoes every change in Kubernetes since:"
    yield "1. On every control-plane host, so that nothing writes:"
    yield f"     systemctl stop {STOPPED} etcd"
    yield "2. Bring the snapshot to every member, from here:"
    for host in hosts:
        port = f" -P {host.port}" if host.port != 22 else ""  # noqa: PLR2004  # SSH's own (RFC 4250, 4.1)
        yield f"     scp{port} {file} {host.user}@{host.address}:{THERE}"
    yield "3. On every member, keep its data and make it anew; etcd 3.6 and later: etcdutl in place of etcdctl:"
    for host in hosts:
        yield f"   on {host.name}:"
        yield f"     mv {DATA} {DATA}.before-restore"
        yield f"     {_restore(cluster, host)}"
        yield f"     chown -R etcd: {DATA} && chmod 0700 {DATA} && rm {THERE}"
    yield "4. On every member, and do not wait for the first one to be ready:"
    yield "     systemctl start --no-block etcd"
    yield "5. From here, which starts the rest and proves that it works:"
    yield "     python3 deploy.py apply"


def _restore(cluster: Cluster, host: Host) -> str:
    peers = ",".join(f"{each.name}={_peer(each)}" for each in members(cluster))
    return (
        f"ETCDCTL_API=3 {BIN}/etcdctl snapshot restore {THERE} --name {host.name} --data-dir {DATA} "
        f"--initial-cluster {peers} --initial-cluster-token {cluster.metadata.name} "
        f"--initial-advertise-peer-urls {_peer(host)}"
    )


def _peer(host: Host) -> str:
    return f"https://{host.address}:{PEER_PORT}"
