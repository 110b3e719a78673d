"""Takes a machine's node out of the cluster, with the administrator's certificate of the work folder."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from bootstrap.apply.sites import access_of
from bootstrap.kubernetes.access import Access
from bootstrap.kubernetes.api import Api
from bootstrap.kubernetes.leaving import Leave, leave
from bootstrap.lab.door import door
from bootstrap.model import Cluster


def node_of(machine: Mapping[str, Any]) -> str | None:
    """Return the name that the machine's node has or may have; None if it was never allowed to become one.

    One that was armed again has no claim, but the node of its earlier life may be there still.
    """
    claim = machine.get("claim")
    if claim:
        return str(claim["node"])
    return str(machine["name"]) if machine.get("arm") else None


def leave_cluster(cluster: Cluster, work: Path, node: str, how: Leave) -> bool:
    """Take the node out of the cluster; return whether it was in it.

    Raises:
        PodsStay: pods did not leave in time; nothing was deleted.
        ApiError: no API server answered, or refused us.
        UsageError: the lab is not up.
    """
    api = Api(administrator(cluster, work))
    try:
        return leave(api, node, how)
    finally:
        api.close()


def administrator(cluster: Cluster, work: Path) -> Access:
    """Return the administrator's way to the API servers; in a lab, through its door on loopback.

    Raises:
        UsageError: the lab is not up.
    """
    access = access_of(cluster, work)
    server = door(cluster, work)
    return replace(access, servers=(server,)) if server else access


def end_of_access(machine: Mapping[str, Any], now: datetime) -> str:
    """Return a line that says until when the cluster lets the machine in; empty if it never had a certificate."""
    ends = machine.get("accessUntil")
    if not ends:
        return ""
    name, end = machine["name"], datetime.fromisoformat(ends)
    if end <= now:
        return (
            f"{name}: its last certificate ended at {end:%Y-%m-%d %H:%M} UTC; the cluster lets it in no more"
        )
    return (
        f"{name}: its certificate is not renewed any more, and ends at {end:%Y-%m-%d %H:%M} UTC at the latest; "
        "until then switch it off, or it can come back as a node"
    )
