"""Machines that were accepted and not written into the configuration: as part of the cluster, like those that were.

The appliance's store holds them (records/model.py). What stands in deploy/<cluster>/accepted.json is a copy that the
appliance writes, for the verbs that work without it; it outlives the store.
"""

import json
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path

from pydantic import TypeAdapter

from bootstrap.disk import write_file
from bootstrap.errors import StateError
from bootstrap.model import Cluster, Machine
from bootstrap.records.model import Accepted

FILE = "accepted.json"
_ENTRIES = TypeAdapter(list[Accepted])


def composed(cluster: Cluster, accepted: Iterable[Accepted]) -> Cluster:
    """Return `cluster` with the accepted machines behind those that it lists, by name.

    One that the configuration has come to list itself, by MAC address or by name, is left to it, and so is one whose
    pool is gone. An address that another machine has is given up.
    """
    macs = {machine.mac for machine in cluster.machines}
    names = {machine.name for machine in cluster.machines} | {
        host.name for host in cluster.control_plane.hosts
    }
    taken = {str(address) for address in addresses(cluster)}
    more: list[Machine] = []
    for one in sorted(accepted, key=lambda one: one.name):
        if one.mac in macs or one.name in names or one.pool not in {pool.name for pool in cluster.pools}:
            continue
        address = IPv4Address(one.address) if one.address and one.address not in taken else None
        more.append(Machine(name=one.name, mac=one.mac, pool=one.pool, address=address))
        taken.add(one.address)
        macs.add(one.mac)
        names.add(one.name)
    return with_machines(cluster, (*cluster.machines, *more)) if more else cluster


def with_machines(cluster: Cluster, machines: tuple[Machine, ...]) -> Cluster:
    """Return `cluster` with other machines; a copy would keep what the old one remembers of its own."""
    values = {name: getattr(cluster, name) for name in Cluster.model_fields}
    said = cluster.model_fields_set | {"machines"}
    return Cluster.model_construct(said, **(values | {"machines": machines}))


def addresses(cluster: Cluster) -> Iterable[IPv4Address]:
    """Yield the addresses that are somebody's by the configuration."""
    yield cluster.appliance.address.ip
    if cluster.appliance.gateway:
        yield cluster.appliance.gateway
    yield from (host.address for host in cluster.control_plane.hosts)
    yield from (machine.address for machine in cluster.machines if machine.address)


def read(work: Path) -> tuple[Accepted, ...]:
    """Return the accepted machines as `work`/accepted.json has them; none if it is not there or not ours to read.

    Raises:
        StateError: it is damaged.
    """
    path = work / FILE
    try:
        return tuple(_ENTRIES.validate_json(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ()
    except ValueError as error:
        raise StateError(
            f"{path}: is damaged ({str(error).splitlines()[0]}); remove it, the running appliance writes it again"
        ) from error


def write(work: Path, accepted: Iterable[Accepted]) -> None:
    """Write `work`/accepted.json, if it is not so already.

    Raises:
        OSError: it cannot be written.
    """
    entries = [one.model_dump(by_alias=True) for one in sorted(accepted, key=lambda one: one.name)]
    text = (json.dumps(entries, indent=1) + "\n").encode()
    path = work / FILE
    is_there = path.is_file()
    if (is_there and path.read_bytes() != text) or (not is_there and entries):
        write_file(path, text, 0o600)
