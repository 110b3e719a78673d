"""Takes a node out of its cluster: it gets no new pods, its pods leave, and its object goes.

Each step may be done again, so a run that was cut off is made good by the next one.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bootstrap.errors import ApiDown, ApiRefused, FirstlightError
from bootstrap.kubernetes.seen import NodeView

POLL_SECONDS = 2.0
MOST_NAMES = 5
_GONE = 404
_ADVICE = "look at their disruption budgets and run this again, or add --force to leave them behind"


class PodsStay(FirstlightError):  # noqa: N818  # reads as a sentence where it is raised
    """Pods did not leave in time; the node is there still, and takes no new ones. `pods` says which, in words."""

    def __init__(self, text: str, pods: str = "") -> None:
        super().__init__(text)
        self.pods = pods


class Pods(Protocol):
    """What of the Kubernetes API empties a node."""

    def evict_pods(self, node: str) -> list[str]:
        """Ask its pods to leave; return those that are there still."""


class Nodes(Pods, Protocol):
    """What of the Kubernetes API a node needs to leave (bootstrap/kubernetes/api.py)."""

    def node(self, name: str) -> NodeView | None:
        """Return the node called `name`, or None."""

    def cordon(self, name: str, *, on: bool = True) -> None:
        """Keep new pods off it."""

    def delete_node(self, name: str) -> bool:
        """Delete it; return whether it was there."""


@dataclass(frozen=True, kw_only=True)
class Leave:
    """How a node leaves: its pods get `seconds` to go, 0 for not to wait; `tell` hears what happens.

    `advice` says what to do about pods that stay.
    """

    seconds: float
    tell: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    advice: str = _ADVICE


def leave(nodes: Nodes, name: str, how: Leave) -> bool:
    """Take the node called `name` out of its cluster; return whether it was in it.

    Raises:
        PodsStay: pods did not leave in time; nothing was deleted.
        ApiDown: no API server answered; what was done stays done.
        ApiRefused: the identity may not do this.
    """
    found = nodes.node(name)
    if found is None:
        how.tell(f"{name}: no such node in the cluster")
        return False
    try:
        nodes.cordon(name)
    except ApiRefused as error:
        if error.status == _GONE:
            return False
        raise
    how.tell(f"{name}: takes no new pods")
    empty(nodes, found, how)
    nodes.delete_node(name)
    how.tell(f"{name}: its node is deleted")
    return True


def empty(nodes: Pods, node: NodeView, how: Leave) -> None:
    """Have the pods of a cordoned node leave; those of a kubelet that does not answer cannot, and are not waited for.

    Raises:
        PodsStay: some did not in time.
        ApiDown: no API server answered.
        ApiRefused: the identity may not do this.
    """
    if node.is_ready and how.seconds > 0:
        _wait(nodes, node.name, how)
        return
    staying = nodes.evict_pods(node.name)
    why = "" if node.is_ready else f" (the node is not Ready: {node.message})"
    if staying:
        how.tell(f"{node.name}: {_shown(staying)} not waited for{why}")


def _wait(nodes: Pods, name: str, how: Leave) -> None:
    deadline, told = how.clock() + how.seconds, ""
    while True:
        trouble: ApiDown | None = None
        try:
            staying = nodes.evict_pods(name)
        except ApiDown as error:  # an API server that restarts is back before the pods have gone
            trouble, text = error, f"{name}: {error}; asking again"
        else:
            if not staying:
                return
            text = f"{name}: {_shown(staying)} leaving"
        if text != told:
            how.tell(text)
            told = text
        if how.clock() >= deadline:
            raise trouble or PodsStay(
                f"{name}: {_shown(staying)} still there after {how.seconds:.0f} s, so it was not retired, and takes "
                f"no new pods; {how.advice}; `kubectl uncordon {name}` lets pods come again",
                _shown(staying),
            )
        how.sleep(POLL_SECONDS)


def _shown(pods: Sequence[str]) -> str:
    more = f" and {len(pods) - MOST_NAMES} more" if len(pods) > MOST_NAMES else ""
    return f"{', '.join(pods[:MOST_NAMES])}{more}"
