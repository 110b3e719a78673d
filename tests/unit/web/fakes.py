"""A clock that is set by hand, a store that breaks, and a cluster small enough to read."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bootstrap.errors import StateError
from bootstrap.model import Cluster, Subnet
from bootstrap.state import Entry, Store, Write

W1, W2, W3 = "52:54:00:aa:00:01", "52:54:00:aa:00:02", "52:54:00:aa:00:03"


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class CountedIds:
    """Gives arm-1, arm-2, ... in place of random ids."""

    def __init__(self) -> None:
        self.given = 0

    def __call__(self) -> str:
        self.given += 1
        return f"00000000-0000-4000-8000-{self.given:012d}"


def cluster(*machines: dict[str, Any], arm: str = "auto", hosts: int = 0) -> Cluster:
    """Return a cluster of one self-arming pool `workers`, one manual pool `spare`, and `machines`.

    Machines of one with control-plane `hosts` join it.
    """
    plane = [{"name": f"m{number}", "address": f"10.77.0.{10 + number}"} for number in range(1, hosts + 1)]
    listed = machines or ({"name": "w1", "mac": W1}, {"name": "w2", "mac": W2, "pool": "spare"})
    debian = {"family": "debian", "release": "13", "kernel": "cloud"}
    disk = {"select": {"type": "virtio"}}
    return Cluster.model_validate(
        {
            "apiVersion": "firstlight/v1alpha1",
            "kind": "Cluster",
            "metadata": {"name": "lab"},
            "kubernetes": {"version": "v1.36.4", "controlPlaneEndpoint": "10.77.0.10:6443"},
            "controlPlane": {"hosts": plane},
            "etcd": {"members": [host["name"] for host in plane]},
            "appliance": {
                "interface": "fl0",
                "address": "10.77.0.1/24",
                "dhcp": {"mode": "server", "range": ["10.77.0.101", "10.77.0.200"]},
            },
            "pools": [
                {"name": "workers", "os": debian, "disk": disk, "arm": arm},
                {"name": "spare", "os": debian, "disk": disk, "arm": "manual"},
            ],
            "machines": [{"pool": "workers", **machine} for machine in listed],
        }
    )


def behind_relay(base: Cluster) -> Cluster:
    """Return `base` with a second network, 10.78.0.0/24, behind a router."""
    far = Subnet.model_validate({"subnet": "10.78.0.0/24", "gateway": "10.78.0.1"})
    dhcp = base.appliance.dhcp.model_copy(update={"subnets": (far,)})
    return base.model_copy(update={"appliance": base.appliance.model_copy(update={"dhcp": dhcp})})


class BrokenStore:
    """A store whose disk can go away for reads, writes or both."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reads_fail = False
        self.writes_fail = False

    def get(self, key: str) -> Entry | None:
        if self.reads_fail:
            raise StateError("state.db: cannot read: disk I/O error")
        return self._store.get(key)

    def scan(self, prefix: str, newer: int = 0) -> Iterator[Entry]:
        if self.reads_fail:
            raise StateError("state.db: cannot read: disk I/O error")
        yield from self._store.scan(prefix, newer)

    def commit(self, writes: Sequence[Write]) -> int:
        if self.writes_fail:
            raise StateError("state.db: cannot write: database or disk is full")
        return self._store.commit(writes)

    def close(self) -> None:
        self._store.close()
