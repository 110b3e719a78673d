"""What Kubeflow and other big charts take for granted, each proven on the cluster: volumes, addresses, names, GPUs."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bootstrap.adding.bring import POLL_SECONDS, Api, Wait
from bootstrap.adding.objects import Objects
from bootstrap.adding.record import ref_of
from bootstrap.errors import ApiRefused
from bootstrap.gpu.mig import offered
from bootstrap.gpu.taint import is_ours
from bootstrap.kubernetes import runtimes
from bootstrap.kubernetes.connection import NOT_FOUND
from bootstrap.model import Cluster

NAME = "firstlight-proof"
"""A claim and a service of this name in the namespace `default`; they are gone afterwards."""
_DEFAULT = "storageclass.kubernetes.io/is-default-class"

Object = dict[str, Any]


@dataclass(frozen=True)
class Proof:
    """Whether a need is met, and what was seen, or what to do."""

    need: str
    is_met: bool
    said: str


def proofs(api: Api, cluster: Cluster, wait: Wait) -> Iterator[Proof]:
    """Yield a proof of each need, in an order in which they may be met.

    Raises:
        ApiDown: no API server answered.
        ApiRefused: it refuses what is tried.
    """
    yield _nodes(api)
    yield _webhooks(cluster)
    yield _names(api)
    yield _storage(api, wait)
    yield _balancer(api, wait)
    yield _gpus(api, cluster)


def _nodes(api: Api) -> Proof:
    ready = [node["metadata"]["name"] for node in _items(api, "api/v1/nodes") if _is_ready(node)]
    said = ", ".join(ready) or "none is Ready; `status` says where machines are"
    return Proof("nodes", bool(ready), said)


def _webhooks(cluster: Cluster) -> Proof:
    """Whether API servers can call pods, as admission webhooks want: pods are reached from nodes alone."""
    apart = [host.name for host in cluster.control_plane.hosts if not host.node]
    if not apart:
        return Proof("webhooks", is_met=True, said="every API server is on a node, and reaches pods")
    names = ", ".join(apart)
    return Proof(
        "webhooks", is_met=False, said=f"{names} has no way to pods; write node: true in controlPlane.hosts"
    )


def _names(api: Api) -> Proof:
    try:
        found = api.call("GET", "api/v1/namespaces/kube-system/endpoints/kube-dns")
    except ApiRefused as error:
        if error.status != NOT_FOUND:
            raise
        found = {}
    count = sum(len(subset.get("addresses") or ()) for subset in found.get("subsets") or ())
    advice = "no pod answers for kube-system/kube-dns; add coredns under addons, and look at its pods"
    return Proof("names", bool(count), f"{count} pods answer for kube-system/kube-dns" if count else advice)


def _storage(api: Api, wait: Wait) -> Proof:
    classes = _items(api, "apis/storage.k8s.io/v1/storageclasses")
    found = [one for one in classes if (one["metadata"].get("annotations") or {}).get(_DEFAULT) == "true"]
    names = ", ".join(one["metadata"]["name"] for one in found)
    if len(found) != 1:
        several = f"several classes are the default: {names}; leave one"
        none = "no storage class is the default; add nfs-provisioner under addons"
        return Proof("volumes", is_met=False, said=several if found else none)
    if found[0].get("volumeBindingMode") == "WaitForFirstConsumer":
        return Proof(
            "volumes", is_met=True, said=f"{names} is the default, and binds when a pod wants it: not tried"
        )
    claim = _object("PersistentVolumeClaim")
    claim["spec"] = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}}
    bound = _tried(api, wait, claim, lambda seen: seen.get("status", {}).get("phase") == "Bound")
    advice = f"a claim of the default class {names} was not bound in {wait.seconds:g} s; look at its provisioner's pods"
    return Proof("volumes", bound, f"a claim of the default class {names} was bound" if bound else advice)


def _balancer(api: Api, wait: Wait) -> Proof:
    service = _object("Service")
    service["spec"] = {
        "type": "LoadBalancer",
        "ports": [{"port": 80}],
        "selector": {"firstlight/proof": "none"},
    }
    given: list[str] = []

    def has_address(seen: Mapping[str, Any]) -> bool:
        found = seen.get("status", {}).get("loadBalancer", {}).get("ingress") or ()
        given.extend(str(one.get("ip") or one.get("hostname")) for one in found)
        return bool(found)

    is_met = _tried(api, wait, service, has_address)
    advice = f"a service got no address in {wait.seconds:g} s; add metallb under addons, and look at its pods"
    return Proof("addresses", is_met, f"a service got {given[0]}" if is_met else advice)


def _gpus(api: Api, cluster: Cluster) -> Proof:
    if not runtimes.has_gpus(cluster):
        return Proof("gpus", is_met=True, said="no pool has GPUs: none are wanted")
    free = [node for node in _items(api, "api/v1/nodes") if _is_ready(node) and not _is_held(node)]
    counts: Counter[str] = Counter()
    for node in free:
        given = node["status"].get("allocatable", {})
        counts.update({name: int(given.get(name, 0)) for name in offered(cluster)})
    there = [f"{count} {name}" for name, count in sorted(counts.items()) if count]
    said = f"{', '.join(there)} on nodes that are let through"
    advice = f"no node that is let through has {' or '.join(offered(cluster))}; `gpu status` says why"
    return Proof("gpus", bool(there), said if there else advice)


def _tried(api: Api, wait: Wait, made: Object, is_done: Callable[[Object], bool]) -> bool:
    """Make an object, wait until it is what was wanted, and delete it, whatever happened."""
    objects, ref = Objects(api), ref_of(made)
    end = wait.clock() + wait.seconds
    try:
        objects.apply(made, force=True)
        while not (done := is_done(objects.get(ref) or {})) and wait.clock() < end:
            wait.sleep(POLL_SECONDS)
        return done
    finally:
        objects.delete(ref)


def _object(kind: str) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": NAME, "namespace": "default"}}


def _items(api: Api, path: str) -> Sequence[Object]:
    found: Sequence[Object] = api.call("GET", path).get("items") or ()
    return found


def _is_ready(node: Mapping[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _is_held(node: Mapping[str, Any]) -> bool:
    return any(map(is_ours, node.get("spec", {}).get("taints") or ()))
