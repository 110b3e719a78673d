"""Which /24 of the pod subnet each node has: given out by us, and kept, because routes on all nodes name them."""

import json
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network
from itertools import islice

from bootstrap.errors import RenderError
from bootstrap.model import Cluster

PREFIX = 24
"""Every node has a /24: 254 addresses, more than the 110 pods that a kubelet takes."""

Allotment = Mapping[str, int]
"""By a node's name, the number of its /24 in the pod subnet, from 0."""


def allot(previous: Allotment, names: Iterable[str], capacity: int) -> dict[str, int]:
    """Return a number below `capacity` for each of `names`; nobody's number changes, and no two are equal.

    Names that are gone keep theirs, so that a machine that comes back finds its own, until there are no others.

    Raises:
        RenderError: there are more names than numbers; a checked configuration has room.
    """
    wanted = sorted(set(names))
    kept = _kept(previous, capacity)
    fresh = [name for name in wanted if name not in kept]
    taken = set(kept.values())
    spare = islice((number for number in range(capacity) if number not in taken), len(fresh))
    found = dict(zip(fresh, spare, strict=False))
    late = fresh[len(found) :]
    gone = sorted(kept.keys() - set(wanted), key=kept.__getitem__)
    if len(late) > len(gone):
        raise RenderError(f"{len(wanted)} nodes do not fit into {capacity} pod subnets")
    heirs = {name: kept.pop(old) for name, old in zip(late, gone, strict=False)}
    return dict(sorted({**kept, **found, **heirs}.items()))


def joined(ours: Allotment, theirs: Allotment) -> dict[str, int]:
    """Return `ours` with the names that only `theirs` has, unless their number is given out in `ours`."""
    taken = set(ours.values())
    more = {name: number for name, number in theirs.items() if name not in ours and number not in taken}
    return dict(sorted({**more, **ours}.items()))


def _kept(previous: Allotment, capacity: int) -> dict[str, int]:
    """Return what still holds of `previous`: numbers in range, each for the first name that has it."""
    owners: dict[int, str] = {}
    for name, number in sorted(previous.items()):
        if 0 <= number < capacity:
            owners.setdefault(number, name)
    return {name: number for number, name in owners.items()}


def node_names(cluster: Cluster) -> tuple[str, ...]:
    """Return the names of all nodes: the machines, and control-plane hosts that run a kubelet."""
    hosts = (host.name for host in cluster.control_plane.hosts if host.node)
    return (*hosts, *(machine.name for machine in cluster.machines))


def allotment(cluster: Cluster, previous: Allotment | None = None) -> dict[str, int]:
    """Return the allotment of `cluster` that follows from the `previous` one.

    Raises:
        RenderError: as `allot`.
    """
    return allot(previous or {}, node_names(cluster), capacity(cluster))


def capacity(cluster: Cluster) -> int:
    """Return how many /24 the pod subnet has."""
    return int(2 ** max(PREFIX - cluster.kubernetes.pod_subnet.prefixlen, 0))


def subnet_of(cluster: Cluster, number: int) -> IPv4Network:
    """Return the /24 with this number."""
    pods = cluster.kubernetes.pod_subnet
    return IPv4Network((int(pods.network_address) + number * 2 ** (32 - PREFIX), PREFIX))


def dump(numbers: Allotment) -> bytes:
    """Return `numbers` as the file pod-subnets.json holds them."""
    return (json.dumps(dict(sorted(numbers.items())), indent=1) + "\n").encode()


def parse(data: bytes) -> dict[str, int]:
    """Return what `dump` wrote.

    Raises:
        ValueError: `data` is something else.
    """
    found = json.loads(data)
    is_ours = isinstance(found, dict) and all(type(number) is int for number in found.values())
    if not is_ours:
        raise ValueError("not a mapping of names to numbers")
    return dict(found)
