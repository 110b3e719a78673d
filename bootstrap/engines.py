"""Chooses how web and pxe run: as processes, or as containers of podman or docker."""

from typing import Literal

from bootstrap.containers.serving import Containers, end_containers
from bootstrap.model import Cluster
from bootstrap.native import Native, end_processes
from bootstrap.workplace import Workplace

EngineName = Literal["native", "podman", "docker"]


def engine_of(place: Workplace, cluster: Cluster, name: EngineName | None = None) -> Native | Containers:
    """Return the engine called `name`, else the one of the configuration; a lab's parts run in its network.

    Raises:
        UsageError: it cannot do what the configuration asks.
    """
    chosen = name or cluster.appliance.engine
    if cluster.lab is None:
        return Native(place) if chosen == "native" else Containers(place, cluster, chosen)
    from bootstrap.lab.rack import Rack  # noqa: PLC0415  # a real rack needs none of it

    rack = Rack(cluster, place.work)
    if chosen == "native":
        return Native(place, rack.in_namespace)
    return Containers(place, cluster, chosen, rack.namespace_file)


def end_all(place: Workplace) -> bool:
    """End what a killed appliance left, whichever engine it had; return whether there was anything.

    Raises:
        ServeError: the container engine could not.
    """
    had_processes = end_processes(place)
    return end_containers(place) or had_processes
