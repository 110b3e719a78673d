"""The taint of a node whose GPUs nobody has verified, and what puts it there or takes it away: pure."""

from collections.abc import Mapping, Sequence
from typing import Any

RESOURCE = "nvidia.com/gpu"
"""What NVIDIA's device plugin calls a GPU."""
INSTANCES = "nvidia.com/mig-"
"""With what its names of instances of GPUs (MIG) begin, if it offers them by profile."""
KEY, EFFECT = "firstlight/gpu-unverified", "NoSchedule"
TAINT = {"key": KEY, "effect": EFFECT}


def is_ours(taint: Mapping[str, Any]) -> bool:
    """Return whether a taint, as the API writes it, is the gate's."""
    return taint.get("key") == KEY


def patch_of(taints: Sequence[Mapping[str, Any]], revision: str, *, is_held: bool) -> dict[str, Any]:
    """Return the merge patch (RFC 7386) that makes a node carry the taint or not; empty if it is so already.

    The list of taints is replaced as a whole, so the patch names the `revision` of the node that they are of.
    """
    if is_held == any(map(is_ours, taints)):
        return {}
    others = [dict(taint) for taint in taints if not is_ours(taint)]
    wanted = [*others, TAINT] if is_held else others
    return {"metadata": {"resourceVersion": revision}, "spec": {"taints": wanted or None}}
