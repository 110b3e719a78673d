"""The sample: a Job that asks for one GPU, and what the cluster says of it: pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bootstrap.gpu.taint import RESOURCE
from bootstrap.model import Taint

NAME, NAMESPACE = "firstlight-gpu-sample", "default"
LABELS = {"app.kubernetes.io/name": NAME}
IMAGE = "nvcr.io/nvidia/k8s/cuda-sample:vectoradd-cuda12.5.0"
"""NVIDIA's own proof: it adds two vectors on a GPU, and says `Test PASSED`."""
SUCCEEDED, FAILED, PENDING, RUNNING = "Succeeded", "Failed", "Pending", "Running"


@dataclass(frozen=True)
class Seen:
    """What became of the sample's pod: its name, its phase, its node, and why it does not go on; empty if unknown."""

    pod: str = ""
    phase: str = PENDING
    node: str = ""
    reason: str = ""

    @property
    def is_over(self) -> bool:
        """Return whether it has ended, well or not."""
        return self.phase in (SUCCEEDED, FAILED)

    def __str__(self) -> str:
        """Return it in a few words."""
        place = f" on {self.node}" if self.node else ""
        return f"{self.phase}{place}" + (f": {self.reason}" if self.reason else "")


def job(
    *,
    image: str = IMAGE,
    command: Sequence[str] = (),
    runtime_class: str = "",
    taints: Iterable[Taint] = (),
    resource: str = RESOURCE,
) -> dict[str, Any]:
    """Return the Job, which asks for one of `resource`.

    It tolerates `taints`, which are those of pools, and never that of an unverified node.
    """
    container = {
        "name": "sample",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        **({"command": list(command)} if command else {}),
        "resources": {"limits": {resource: "1"}},
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 5,
        "containers": [container],
        "tolerations": _tolerations(taints),
        **({"runtimeClassName": runtime_class} if runtime_class else {}),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": LABELS},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": LABELS}, "spec": spec}},
    }


def resource_among(names: Sequence[str], nodes: Iterable[Mapping[str, int]]) -> str:
    """Return the first of `names` (at least one) that a node can give out; the first of all if none can."""
    given = list(nodes)
    return next((name for name in names if any(node.get(name, 0) for node in given)), names[0])


def _tolerations(taints: Iterable[Taint]) -> list[dict[str, str]]:
    keys = {(RESOURCE, "NoSchedule"), *((taint.key, str(taint.effect)) for taint in taints)}
    return [{"key": key, "operator": "Exists", "effect": effect} for key, effect in sorted(keys)]


def seen_from(pods: Sequence[Mapping[str, Any]]) -> Seen:
    """Return what the sample's pods, as the API writes them, say; the youngest counts."""
    if not pods:
        return Seen(reason="the cluster has not made its pod yet")
    pod = max(pods, key=lambda one: str(one["metadata"].get("creationTimestamp", "")))
    status: Mapping[str, Any] = pod.get("status") or {}
    return Seen(
        pod=str(pod["metadata"]["name"]),
        phase=str(status.get("phase") or PENDING),
        node=str((pod.get("spec") or {}).get("nodeName") or ""),
        reason=_reason(status),
    )


def _reason(status: Mapping[str, Any]) -> str:
    """Return why the scheduler, or the node, does not go on; for one that has failed, with which exit code."""
    for one in status.get("conditions") or ():
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            return str(one.get("message") or one.get("reason") or "")
    for container in status.get("containerStatuses") or ():
        state = container.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        if waiting and waiting.get("reason") != "ContainerCreating":
            return f"{waiting.get('reason')}: {waiting.get('message') or ''}".rstrip(": ")
        if ended.get("exitCode"):
            return f"exit code {ended['exitCode']}" + (f", {ended['reason']}" if ended.get("reason") else "")
    return str(status.get("message") or "")
