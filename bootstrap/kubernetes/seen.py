"""What we look at in objects of the Kubernetes API, as values of our own; absent parts are empty."""

import base64
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bootstrap.gpu.mark import ANNOTATION
from bootstrap.gpu.taint import INSTANCES, RESOURCE


@dataclass(frozen=True, kw_only=True)
class SigningRequest:
    """A CertificateSigningRequest: who asked for what, and what became of it.

    `request` and `certificate` are PEM, the latter empty until it is there. `refusal` says why there will be none.
    """

    name: str
    signer: str
    user: str
    groups: tuple[str, ...]
    usages: tuple[str, ...]
    request: bytes
    certificate: bytes
    is_approved: bool
    refusal: str

    @property
    def is_pending(self) -> bool:
        """Return whether nobody has decided yet."""
        return not (self.is_approved or self.refusal)


@dataclass(frozen=True, kw_only=True)
class NodeView:
    """A node as the cluster sees it; `message` is the reason that its kubelet, or the cluster, gives for it.

    `kernel` is that of `uname -r`; `upgrade` what an upgrade of its GPU driver has written there of itself.
    """

    name: str
    is_ready: bool
    message: str
    addresses: tuple[str, ...]
    version: str
    is_cordoned: bool
    kernel: str = ""
    upgrade: str = ""


@dataclass(frozen=True, kw_only=True)
class NodeMarks:
    """The labels of a node and its taints, these as the API writes them; `revision` is the object's.

    `gpus` is how many it can give out (status.allocatable), `instances` how many parts of GPUs, by resource.
    """

    name: str
    revision: str
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, Any], ...]
    gpus: int = 0
    instances: Mapping[str, int] = field(default_factory=dict)

    def given(self, pods_per_gpu: int = 1) -> dict[str, int]:
        """Return what it can give out of its GPUs by resource, where so many pods share each that is whole."""
        return {RESOURCE: self.gpus // pods_per_gpu, **self.instances}


@dataclass(frozen=True, kw_only=True)
class DeploymentView:
    """An apps/v1 Deployment: when it was made, and how often its spec was written (1: never changed)."""

    made: datetime
    generation: int


@dataclass(frozen=True, kw_only=True)
class PodView:
    """A pod; `is_idle` says that nothing of it has ever run, by its kubelet's own word or as it is on no node."""

    name: str
    labels: Mapping[str, str]
    made: datetime
    is_idle: bool


def signing_request_from(found: Any) -> SigningRequest:
    """Return a CertificateSigningRequest of certificates.k8s.io/v1 as a SigningRequest."""
    spec, status = found.spec, found.status
    conditions = {one.type: one for one in (status.conditions if status else None) or ()}
    refusals = (conditions[kind] for kind in ("Denied", "Failed") if kind in conditions)
    refusal = next((f"{one.type.lower()}: {one.message or one.reason}" for one in refusals), "")
    return SigningRequest(
        name=str(found.metadata.name),
        signer=spec.signerName,
        user=spec.username or "",
        groups=tuple(spec.groups or ()),
        usages=tuple(spec.usages or ()),
        request=_decoded(spec.request),
        certificate=_decoded(status.certificate if status else None),
        is_approved="Approved" in conditions,
        refusal=refusal,
    )


def _decoded(text: str | None) -> bytes:
    with suppress(ValueError):
        return base64.b64decode(text or "")
    return b""


def node_view_from(node: Any) -> NodeView:
    """Return a Node of v1 as a NodeView."""
    status = node.status
    ready = next((one for one in (status.conditions if status else None) or () if one.type == "Ready"), None)
    is_ready = ready is not None and ready.status == "True"
    return NodeView(
        name=str(node.metadata.name),
        is_ready=is_ready,
        message=(ready.message or ready.reason or "") if ready else "the cluster has heard nothing of it yet",
        addresses=tuple(_addresses(node)),
        version=status.nodeInfo.kubeletVersion if status and status.nodeInfo else "",
        is_cordoned=bool(node.spec and node.spec.unschedulable),
        kernel=(status.nodeInfo.kernelVersion or "") if status and status.nodeInfo else "",
        upgrade=str((node.metadata.annotations or {}).get(ANNOTATION, "")),
    )


def node_marks_from(node: Any) -> NodeMarks:
    """Return a Node of v1 as NodeMarks."""
    amounts = (node.status.allocatable if node.status else None) or {}
    return NodeMarks(
        name=str(node.metadata.name),
        revision=str(node.metadata.resourceVersion),
        labels=dict(node.metadata.labels or {}),
        taints=tuple(taint.to_dict() for taint in (node.spec.taints if node.spec else None) or ()),
        gpus=_count(amounts, RESOURCE),
        instances={name: _count(amounts, name) for name in sorted(amounts) if name.startswith(INSTANCES)},
    )


def _count(amounts: Mapping[str, str], resource: str) -> int:
    """Return how many whole ones of `resource` are among `amounts`."""
    text = str(amounts.get(resource, ""))
    return int(text) if text.isascii() and text.isdigit() else 0


def _addresses(node: Any) -> Iterator[str]:
    for one in (node.status.addresses if node.status else None) or ():
        yield one.address


def deployment_view_from(found: Any) -> DeploymentView:
    """Return an apps/v1 Deployment as a DeploymentView."""
    metadata = found.metadata
    return DeploymentView(made=metadata.creationTimestamp, generation=int(metadata.generation or 0))


def pod_view_from(pod: Any) -> PodView:
    """Return a Pod of v1 as a PodView."""
    metadata = pod.metadata
    return PodView(
        name=str(metadata.name),
        labels=dict(metadata.labels or {}),
        made=metadata.creationTimestamp,
        is_idle=_is_idle(pod),
    )


def _is_idle(pod: Any) -> bool:
    """Return whether no init container of a pod has done its work, nor any other begun ("Pod Lifecycle")."""
    status = pod.status
    before = (status.initContainerStatuses if status else None) or ()
    if not before:
        return not pod.spec.nodeName  # a kubelet that has told nothing may have run it
    mains = status.containerStatuses or ()
    return not (any(map(_may_be_done, before)) or any(map(_has_begun, mains)))


def _may_be_done(init: Any) -> bool:
    states = [one for one in (init.state, init.lastState) if one]
    return any(one.running or (one.terminated and one.terminated.exitCode == 0) for one in states)


def _has_begun(main: Any) -> bool:
    states = [one for one in (main.state, main.lastState) if one]
    return bool(main.containerID or main.restartCount or any(one.running or one.terminated for one in states))


def is_evictable(pod: Any) -> bool:
    """Return whether a pod would start elsewhere, or nobody would miss it, when it leaves."""
    metadata = pod.metadata
    is_static = "kubernetes.io/config.mirror" in (metadata.annotations or {})
    is_of_daemon_set = any(owner.kind == "DaemonSet" for owner in metadata.ownerReferences or ())
    has_ended = pod.status is not None and pod.status.phase in ("Succeeded", "Failed")
    return not (is_static or is_of_daemon_set or has_ended)


def is_rolled_out(found: Any) -> bool:
    """Return whether the pods of an apps/v1 Deployment are those of its template, and available, as many as wanted."""
    status = found.status
    if status is None or status.observedGeneration != found.metadata.generation:
        return False
    wanted = found.spec.replicas
    return bool(
        wanted == (status.updatedReplicas or 0) == (status.availableReplicas or 0) == (status.replicas or 0)
    )
