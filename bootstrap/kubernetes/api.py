"""The one door to the Kubernetes API: what we ask of it, with errors of our own and a time limit on everything.

It is reached at its own addresses only: no proxy, kubeconfig or other setting of this computer's user counts.
"""

import base64
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx2
from lightkube import Client
from lightkube.codecs import from_dict
from lightkube.core.exceptions import LoadResourceError
from lightkube.models.certificates_v1 import (
    CertificateSigningRequestCondition,
    CertificateSigningRequestSpec,
    CertificateSigningRequestStatus,
)
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.operators import BinaryOperator, SequenceOperator
from lightkube.resources.apps_v1 import Deployment, ReplicaSet
from lightkube.resources.batch_v1 import Job
from lightkube.resources.certificates_v1 import CertificateSigningRequest
from lightkube.resources.core_v1 import ConfigMap, Namespace, Node, Pod, Secret
from lightkube.types import CascadeType, PatchType

from bootstrap.errors import ApiDown, ApiRefused
from bootstrap.kubernetes.access import Access, Signer
from bootstrap.kubernetes.connection import FIELD_MANAGER, NOT_FOUND, Unreached, answer_to, client_of, told
from bootstrap.kubernetes.seen import (
    DeploymentView,
    NodeMarks,
    NodeView,
    PodView,
    SigningRequest,
    deployment_view_from,
    is_evictable,
    is_rolled_out,
    node_marks_from,
    node_view_from,
    pod_view_from,
    signing_request_from,
)

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0
CHUNK = 500
CONFLICT, TOO_MANY = 409, 429
_EVICTION = Pod.Eviction
_KINDS = (Deployment, Job, Namespace, Pod, ReplicaSet, Secret)
KINDS: Mapping[str, Any] = {kind.__name__: kind for kind in _KINDS}
"""What `delete`, `names` and `objects` know."""
LOG_LINES = 1000

Result = TypeVar("Result")
Fields = dict[str, str | BinaryOperator | SequenceOperator]


class Api:
    """The Kubernetes API of one cluster; safe to use from several threads.

    Addresses are tried in turn, the one that answered last first. What was sent to one that then fell silent is
    not sent to another: the caller decides whether it may happen twice.
    """

    def __init__(
        self,
        access: Access,
        *,
        connect_seconds: float = CONNECT_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._access = access
        self._timeout = httpx2.Timeout(answer_seconds, connect=connect_seconds)
        self._clients: dict[str, Client] = {}
        self._order = list(access.servers)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()

    def signing_requests(self, signer: Signer) -> list[SigningRequest]:
        """Return the requests for one signer's certificates, at most a few hundred of the last hour.

        Raises:
            ApiDown: no API server answered.
            ApiRefused: the identity may not list them.
        """
        fields: Fields = {"spec.signerName": str(signer)}
        found = self._ask(
            lambda api: list(api.list(CertificateSigningRequest, fields=fields, chunk_size=CHUNK))
        )
        return [signing_request_from(one) for one in found]

    def signing_request(self, name: str) -> SigningRequest | None:
        """Return the request called `name`, or None; raises as `signing_requests`."""
        found = self._found(lambda api: api.get(CertificateSigningRequest, name))
        return signing_request_from(found) if found is not None else None

    def create_signing_request(
        self, name: str, signer: Signer, request: bytes, usages: Sequence[str], lifetime_seconds: int | None
    ) -> SigningRequest:
        """Create the request called `name`, or return the one that has this name already.

        `lifetime_seconds` is for v1.22 and later; None leaves the life of the certificate to the signer.

        Raises:
            ApiDown: no API server answered; asking again with the same name is safe.
            ApiRefused: the identity may not create it, or the API server finds it wrong.
        """
        spec = CertificateSigningRequestSpec(
            request=base64.b64encode(request).decode(),
            signerName=str(signer),
            usages=list(usages),
            expirationSeconds=lifetime_seconds,
        )
        wanted = CertificateSigningRequest(metadata=ObjectMeta(name=name), spec=spec)
        try:
            return signing_request_from(self._ask(lambda api: api.create(wanted)))
        except ApiRefused as error:
            if error.status == CONFLICT and (found := self.signing_request(name)):
                return found
            raise

    def decide(self, name: str, *, approve: bool, reason: str, message: str) -> None:
        """Approve or deny the pending request called `name`; one that somebody has decided stays as it is.

        Raises:
            ApiDown: no API server answered; asking again is safe.
            ApiRefused: the identity may not decide this, or there is no such request.
        """
        self._ask(lambda api: _decide(api, name, approve=approve, reason=reason, message=message))

    def nodes(self) -> list[NodeView]:
        """Return all nodes; raises as `signing_requests`."""
        return [
            node_view_from(node) for node in self._ask(lambda api: list(api.list(Node, chunk_size=CHUNK)))
        ]

    def node(self, name: str) -> NodeView | None:
        """Return the node called `name`, or None; raises as `signing_requests`."""
        found = self._found(lambda api: api.get(Node, name))
        return node_view_from(found) if found is not None else None

    def node_marks(self) -> list[NodeMarks]:
        """Return the labels and taints of all nodes; raises as `signing_requests`."""
        found = self._ask(lambda api: list(api.list(Node, chunk_size=CHUNK)))
        return [node_marks_from(node) for node in found]

    def patch_node(self, name: str, patch: Mapping[str, Any]) -> None:
        """Merge `patch` (RFC 7386) into the node called `name`.

        Raises:
            ApiDown: no API server answered; asking again is safe.
            ApiRefused: there is no such node, the identity may not change it, or (409) `patch` has the
                resourceVersion of an earlier one.
        """
        self._ask(lambda api: api.patch(Node, name, dict(patch), patch_type=PatchType.MERGE))

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """Return the data of a ConfigMap, or None if it is not there; raises as `signing_requests`."""
        found = self._found(lambda api: api.get(ConfigMap, name, namespace=namespace))
        return dict(found.data or {}) if found is not None else None

    def delete_node(self, name: str) -> bool:
        """Delete the node called `name`; return whether there was one. Raises as `signing_requests`."""
        return self._found(lambda api: api.delete(Node, name) or True) is not None

    def cordon(self, name: str, *, on: bool = True) -> None:
        """Keep new pods off the node called `name`, or let them come again.

        Raises:
            ApiDown: no API server answered.
            ApiRefused: there is no such node, or the identity may not change it.
        """
        self.patch_node(name, {"spec": {"unschedulable": on or None}})

    def evict_pods(self, node: str) -> list[str]:
        """Ask every pod on `node` that can run elsewhere to leave; return those that are still there.

        Call it again until nothing is left: a disruption budget holds pods back for a while. Pods of DaemonSets and
        static pods stay, and are not counted.

        Raises:
            ApiDown: no API server answered.
            ApiRefused: the identity may not do this.
        """
        fields: Fields = {"spec.nodeName": node}
        pods: list[Any] = self._ask(
            lambda api: list(api.list(Pod, namespace="*", fields=fields, chunk_size=CHUNK))
        )
        staying = []
        for pod in filter(is_evictable, pods):
            self._evict(pod)
            staying.append(f"{pod.metadata.namespace}/{pod.metadata.name}")
        return staying

    def apply(self, objects: Iterable[Mapping[str, Any]], *, is_trial: bool = False) -> list[str]:
        """Bring `objects` (as in a manifest) to the cluster by server-side apply; return those that changed.

        A name is `Kind/name` or `Kind/namespace/name`. Fields that we set are ours, whoever else manages them.
        A trial asks the same of the API server, and nothing is kept (dryRun=All).

        Raises:
            ApiDown: no API server answered; asking again is safe.
            ApiRefused: one is no object that the API knows, or the identity may not write it.
        """
        return [name for name in (self._apply(each, is_trial=is_trial) for each in objects) if name]

    def delete(self, kind: str, name: str, *, namespace: str | None = None) -> bool:
        """Delete an object, and first what belongs to it (foreground); return whether it was there. `kind` is of KINDS.

        Raises:
            ApiDown: no API server answered; asking again is safe.
            ApiRefused: the identity may not do this.
        """
        place: dict[str, Any] = {"namespace": namespace} if namespace else {}
        resource, cascade = KINDS[kind], CascadeType.FOREGROUND
        return (
            self._found(lambda api: api.delete(resource, name, cascade=cascade, **place) or True) is not None
        )

    def names(self, kind: str, namespace: str, labels: Mapping[str, str]) -> list[str]:
        """Return the names of the objects of a kind with these labels; raises as `signing_requests`."""
        return sorted(str(one.metadata.name) for one in self._listed(KINDS[kind], namespace, labels))

    def objects(self, kind: str, namespace: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the objects of a kind with these labels, as a manifest has them; raises as `names`."""
        return [one.to_dict() for one in self._listed(KINDS[kind], namespace, labels)]

    def log(self, namespace: str, pod: str) -> str:
        """Return the last lines that the one container of a pod has printed; raises as `delete`."""
        return "".join(self._ask(lambda api: list(api.log(pod, namespace=namespace, tail_lines=LOG_LINES))))

    def pods(self, namespace: str, labels: Mapping[str, str]) -> list[PodView]:
        """Return the pods with these labels; raises as `names`."""
        return [pod_view_from(one) for one in self._listed(Pod, namespace, labels)]

    def deployment(self, namespace: str, name: str) -> DeploymentView | None:
        """Return the Deployment called `name`, or None; raises as `names`."""
        found = self._found(lambda api: api.get(Deployment, name, namespace=namespace))
        return deployment_view_from(found) if found is not None else None

    def runs(self, namespace: str, name: str) -> bool:
        """Return whether a Deployment's pods are those of today's template, and ready; raises as `names`."""
        found = self._found(lambda api: api.get(Deployment, name, namespace=namespace))
        return found is not None and is_rolled_out(found)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """Send one request (`path` without the first slash) and return the document answered; raises as `delete`."""
        sent = {"params": query, "json": body, "headers": {"Content-Type": content_type}}
        return self._ask(lambda api: answer_to(api, method, path, sent))

    def probe(self, text: str, *, namespace: str = "kube-system", name: str = "firstlight-probe") -> None:
        """Write `text` into a ConfigMap and read it back: API server and etcd take and keep it.

        Raises:
            ApiDown: no API server answered.
            ApiRefused: it could not be written, or something else was read.
        """
        wanted = ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace), data={"probe": text})
        self._ask(lambda api: api.apply(wanted, field_manager=FIELD_MANAGER, force=True))
        found = self._ask(lambda api: api.get(ConfigMap, name, namespace=namespace))
        if (found.data or {}).get("probe") != text:
            raise ApiRefused(f"ConfigMap {namespace}/{name} holds {found.data} after {text!r} was written")

    def _apply(self, wanted: Mapping[str, Any], *, is_trial: bool) -> str:
        """Apply one object; return its name if that changed it."""
        try:
            value = from_dict(dict(wanted))
        except LoadResourceError as error:
            raise ApiRefused(f"{wanted.get('kind')}: not a kind that the API knows: {error}") from error
        metadata = wanted["metadata"]
        place = {"namespace": metadata["namespace"]} if "namespace" in metadata else {}
        before: Any = self._found(lambda api: api.get(type(value), metadata["name"], **place))
        after: Any = self._ask(
            lambda api: api.apply(value, field_manager=FIELD_MANAGER, force=True, dry_run=is_trial)
        )
        is_same = before is not None and before.metadata.resourceVersion == after.metadata.resourceVersion
        return "" if is_same else "/".join((str(wanted["kind"]), *place.values(), metadata["name"]))

    def _evict(self, pod: Any) -> None:
        """Ask one pod to leave; a disruption budget that holds it back (429) and a pod that has gone are no errors."""
        name, namespace = str(pod.metadata.name), str(pod.metadata.namespace)
        wanted = _EVICTION(metadata=ObjectMeta(name=name, namespace=namespace))
        # v1.20 knows no other version, later ones take it for this subresource still; the model sets its own.
        wanted.apiVersion = "policy/v1beta1"
        try:
            self._ask(lambda api: api.create(wanted, name, namespace=namespace))
        except ApiRefused as error:
            if error.status not in (NOT_FOUND, TOO_MANY):
                raise

    def _listed(self, resource: Any, namespace: str, labels: Any) -> list[Any]:
        return self._ask(
            lambda api: list(api.list(resource, namespace=namespace, labels=labels, chunk_size=CHUNK))
        )

    def _found(self, act: Callable[[Client], Result]) -> Result | None:
        try:
            return self._ask(act)
        except ApiRefused as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def _ask(self, act: Callable[[Client], Result]) -> Result:
        """Return what `act` returns on the first API server that can be connected to."""
        last: Exception | None = None
        for server in list(self._order):
            try:
                result = told(lambda: act(self._client(server)), server)  # noqa: B023  # called at once
            except Unreached as error:
                last = error.__cause__ if isinstance(error.__cause__, Exception) else error
                continue
            except ApiDown:
                self._put(server, first=False)
                raise
            self._put(server, first=True)
            return result
        raise ApiDown(f"no API server answers at {', '.join(self._access.servers)}: {last}") from last

    def _put(self, server: str, *, first: bool) -> None:
        """Try `server` before the others next time, or after them: a frozen one takes connections and says nothing."""
        with self._lock:
            others = [other for other in self._order if other != server]
            self._order = [server, *others] if first else [*others, server]

    def _client(self, server: str) -> Client:
        with self._lock:
            if server not in self._clients:
                self._clients[server] = client_of(self._access, server, self._timeout)
            return self._clients[server]


def _decide(api: Client, name: str, *, approve: bool, reason: str, message: str) -> None:
    found = api.get(CertificateSigningRequest, name)
    if not signing_request_from(found).is_pending:
        return
    condition = CertificateSigningRequestCondition(
        type="Approved" if approve else "Denied",
        status="True",
        reason=reason,
        message=message,
        lastUpdateTime=datetime.now(UTC),
    )
    found.status = CertificateSigningRequestStatus(conditions=[condition])
    answer = CertificateSigningRequest.Approval(metadata=found.metadata, spec=found.spec, status=found.status)
    api.replace(answer, name)
