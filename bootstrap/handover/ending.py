"""Ends the appliance in the cluster: both workloads and all that the cluster made of them, until nothing is left."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from bootstrap.containers.table import CONTAINERS, Name
from bootstrap.errors import ApplyError
from bootstrap.handover.moving import ClusterApi
from bootstrap.handover.parcel import NAMESPACE, PART
from bootstrap.kubernetes.seen import DeploymentView, PodView

LABELS = {"app.kubernetes.io/name": "firstlight"}
POLL_SECONDS = 0.5
"""Short, so that what was seen last of a pod is what it came to."""
FIRST_POD = timedelta(seconds=10)
"""So soon after its Deployment comes the first pod; one that took its place comes later."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait for an end, by which clock."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What was found there: whether a workload stood until now, and whether no pod ever got as far as its state."""

    was_there: bool
    was_idle: bool


def end(api: ClusterApi, node: str, patience: Patience) -> Ended:
    """Delete both workloads, and wait until the cluster has nothing left of them.

    Raises:
        ApiError: the cluster refused or did not answer.
        ApplyError: something did not end in time.
    """
    made = {part: api.deployment(NAMESPACE, part) for part in CONTAINERS}
    before = {pod.name: pod for pod in api.pods(NAMESPACE, LABELS)}
    deleted = [api.delete("Deployment", part, namespace=NAMESPACE) for part in CONTAINERS]
    seen = before | await_end(api, patience)
    found = api.node(node)
    # A node that is away has not told what became of its pods.
    is_told = found is not None and found.is_ready
    return Ended(was_there=any(deleted), was_idle=is_told and never_ran(made, seen.values()))


def await_end(api: ClusterApi, patience: Patience) -> dict[str, PodView]:
    """Return when no Deployment, ReplicaSet or pod of ours is left: each pod as it was seen last, by name.

    A controller makes a pod anew as long as what it belongs to is there. Raises as `end`.
    """
    seen: dict[str, PodView] = {}
    until = patience.clock() + patience.seconds
    while True:
        left = [name for kind in ("Deployment", "ReplicaSet") for name in api.names(kind, NAMESPACE, LABELS)]
        pods = api.pods(NAMESPACE, LABELS)
        seen |= {pod.name: pod for pod in pods}
        left += [pod.name for pod in pods]
        if not left:
            return seen
        if patience.clock() >= until:
            raise ApplyError(
                f"{', '.join(left)} did not end within {patience.seconds:.0f} s: as long as the cluster has them they"
                " may answer machines. Look at the node, then run this again; if it is gone for good, delete its"
                " object (kubectl delete node), or give up what it has: handover --back --lost"
            )
        patience.sleep(POLL_SECONDS)


def never_ran(made: Mapping[Name, DeploymentView | None], pods: Iterable[PodView]) -> bool:
    """Return whether each workload is as it was first written, and its only pod its first, of which nothing ran; pure.

    False if that is not known: then the state over there counts as newer.
    """
    known = list(pods)
    return all(
        _is_first(one, [pod for pod in known if pod.labels.get(PART) == part]) for part, one in made.items()
    )


def _is_first(made: DeploymentView | None, pods: list[PodView]) -> bool:
    if made is None or made.generation != 1 or len(pods) != 1:
        return False
    return pods[0].is_idle and pods[0].made - made.made <= FIRST_POD
