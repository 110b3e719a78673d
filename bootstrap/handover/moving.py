"""The steps of a handover, in an order in which two never answer: each may be done again, so a cut one goes on.

The fence goes up before the appliance here is stopped, and says `open` before anything can run there.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bootstrap import background
from bootstrap.containers.table import CONTAINERS, Name
from bootstrap.disk import write_file
from bootstrap.errors import UsageError
from bootstrap.handover import fence, manifests, parcel
from bootstrap.handover.fence import Fence
from bootstrap.handover.gathering import KEPT, OWNER_ONLY, Goods, documents, gather, trial
from bootstrap.handover.parcel import KIND, NAMESPACE, PART, Parcel
from bootstrap.handover.step import step
from bootstrap.kubernetes.documents import json_text
from bootstrap.kubernetes.seen import DeploymentView, NodeView, PodView
from bootstrap.model import Cluster
from bootstrap.progress import Reporter
from bootstrap.workplace import PRIVATE

STEPS = 6
POLL_SECONDS = 2.0

Tree = Mapping[str, Any]


class ClusterApi(Protocol):
    """What we ask of the cluster (bootstrap/kubernetes/api.py)."""

    def node(self, name: str) -> NodeView | None:
        """Return the node called `name`, or None."""

    def apply(self, objects: Iterable[Tree], *, is_trial: bool = False) -> list[str]:
        """Bring objects to the cluster; a trial only asks."""

    def runs(self, namespace: str, name: str) -> bool:
        """Return whether a Deployment's pods are ready."""

    def names(self, kind: str, namespace: str, labels: Mapping[str, str]) -> list[str]:
        """Return the names of objects with these labels."""

    def pods(self, namespace: str, labels: Mapping[str, str]) -> list[PodView]:
        """Return the pods with these labels."""

    def deployment(self, namespace: str, name: str) -> DeploymentView | None:
        """Return the Deployment called `name`, or None."""

    def delete(self, kind: str, name: str, *, namespace: str | None = None) -> bool:
        """Delete an object; return whether it was there."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """A handover: what moves and to which node. With `output`, manifests go into that folder and nowhere else."""

    goods: Goods
    node: str
    reporter: Reporter
    output: Path | None = None
    seconds: float = 300.0
    new_id: Callable[[], str] = lambda: secrets.token_hex(6)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @property
    def work(self) -> Path:
        """Return the work folder."""
        return self.goods.place.work

    @property
    def cluster(self) -> Cluster:
        """Return the cluster whose appliance moves."""
        return self.goods.cluster


def problems(cluster: Cluster) -> list[str]:
    """Return what of the configuration cannot move into a cluster, a line each with what to write; pure."""
    given = cluster.appliance.containers
    found = [
        f"appliance.containers.{name}: {image or 'nothing'} names no digest, and the node must run just that image:"
        f" write registry.example.net/firstlight-{name}@sha256:<64 hex digits>"
        for name, image in (("web", given.web), ("pxe", given.pxe))
        if not image or "@sha256:" not in image
    ]
    if not cluster.control_plane.hosts:
        found.append(
            "controlPlane.hosts: names no host, so there is no cluster to hand over to; write its hosts"
        )
    if cluster.appliance.store == "etcd":
        found.append(
            "appliance.store: etcd does not move into a cluster, as no container asks an etcd yet; down, then"
            " `store migrate --to sqlite`, write sqlite, and run this again"
        )
    ports = {"httpPort": cluster.appliance.http_port, "httpsPort": cluster.appliance.https_port}
    for key, port in ports.items():
        if port < 1024:  # noqa: PLR2004  # the first port that is not root's alone
            found.append(
                f"appliance.{key}: {port} is for root, and web is not root there; write one from 1024 on"
            )
    if any((cluster.appliance.pxe.loader.model_dump(exclude_none=True)).values()):
        found.append("appliance.pxe.loader: loaders of your own do not move; leave them out")
    return found


def refuse(move: Move) -> None:
    """Return if the configuration can move.

    Raises:
        UsageError: it cannot, or another handover stands; a line each.
        StateError: the fence is damaged.
    """
    found = problems(move.cluster)
    there = fence.read(move.work)
    if there is not None and there.node != move.node:
        found.append(
            f"--node {move.node}: it was handed over to {there.node}; write that, or handover --back first"
        )
    if found:
        raise UsageError("\n".join(found))


def plan(move: Move) -> Iterator[str]:
    """Yield a line for each step that `hand_over` would do."""
    work = move.work
    given = move.cluster.appliance.containers
    count = {part: len(documents(move.goods, part)) for part in CONTAINERS}
    yield f"check: node {move.node} is in the cluster and Ready, and its API takes every object (a trial, not kept)"
    yield f"close: {work / fence.FILE}; the appliance here stops, and does not start here again"
    yield f"keep: a backup of all keys and state in {work / KEPT}; it stays on this computer"
    yield (
        f"send: {count['web']} documents and keys for web, {count['pxe']} for pxe, and the state, as Secrets of"
        f" namespace {NAMESPACE}; no CA's key is among them"
    )
    yield f"open: Deployments web ({given.web}) and pxe ({given.pxe}) on node {move.node}"
    yield f"wait: until both are ready, at most {move.seconds:.0f} s"


def hand_over(move: Move, api: ClusterApi | None) -> bool:
    """Do every step; return whether the appliance is ready there. Without `api` the manifests are written only.

    Raises:
        UsageError: it cannot be done; nothing was changed.
        ApiError: the cluster refused or did not answer; before `close` one namespace is new, later
            the fence stands.
        ServeError, BackupError, StateError, OSError: a step failed; run it again, or take it back.
    """
    refuse(move)
    with step(move.reporter, "check"):
        _check(move, api)
    with step(move.reporter, "close"):
        standing = _close(move)
    with step(move.reporter, "keep"):
        parcels = gather(move.goods, standing)
    with step(move.reporter, "send"):
        workloads = _workloads(move, standing, parcels)
        _send(move, api, [each for one in _wanted(standing, parcels) for each in one.secrets()])
    with step(move.reporter, "open"):
        if standing.stage != "open":
            standing = standing.model_copy(update={"stage": "open"})
            fence.write(move.work, standing)
        _open(move, api, workloads)
    if api is None:
        move.reporter.say(
            f"manifests in {move.output}: kubectl apply --filename {move.output}; they hold keys"
        )
        return True
    with step(move.reporter, "wait"):
        is_ready = _await(move, api)
        if is_ready:
            if not standing.is_laid:
                standing = standing.model_copy(update={"is_laid": True})
                fence.write(move.work, standing)
            _clear(api, _wanted(standing, parcels))
    return is_ready


def _wanted(standing: Fence, parcels: tuple[Parcel, ...]) -> list[Parcel]:
    """Return what the cluster is to hold: once the state lies on the node, it is laid from there no second time."""
    return [one for one in parcels if one.kind == "documents" or not standing.is_laid]


def _check(move: Move, api: ClusterApi | None) -> None:
    """Ask the cluster whether it will take all of it, before anything is stopped."""
    if api is None:
        for one in trial(move.goods):
            one.secrets()
        return
    found = api.node(move.node)
    if found is None or not found.is_ready:
        why = "is not Ready" if found else "is not in the cluster"
        raise UsageError(f"--node {move.node}: {why}; name a node that is (kubectl get nodes)")
    address = str(move.cluster.appliance.address.ip)
    if address not in found.addresses:
        move.reporter.say(
            f"{move.node} does not show {address} among its addresses ({', '.join(found.addresses) or 'none'}):"
            f" it must have it on {move.cluster.appliance.interface}, and nobody else"
        )
    parcels = trial(move.goods)
    secrets = [each for one in parcels for each in one.secrets()]
    api.apply([manifests.namespace()])
    standing = Fence(id="0" * 12, node=move.node, at=move.goods.now, stage="closed")
    api.apply([*secrets, *_workloads(move, standing, parcels)], is_trial=True)


_KINDS: tuple[parcel.Kind, ...] = ("documents", "state")


def _close(move: Move) -> Fence:
    """Put up the fence, then stop what runs here; return the fence, an earlier one if it stands."""
    work = move.work
    standing = fence.read(work)
    if standing is None:
        standing = Fence(
            id=move.new_id(), node=move.node, at=move.goods.now.replace(microsecond=0), stage="closed"
        )
        fence.write(work, standing)
    if background.stop(move.goods.place):
        move.reporter.say("the appliance here is stopped")
    return standing


def _workloads(move: Move, standing: Fence, parcels: tuple[Parcel, ...]) -> list[Tree]:
    by = {(one.part, one.kind): one for one in parcels}
    given = move.cluster.appliance.containers
    images: dict[Name, str] = {"web": given.web or "", "pxe": given.pxe or ""}
    return [
        manifests.deployment(
            move.cluster,
            part,
            manifests.Workload(
                handover=standing.id,
                node=standing.node,
                image=images[part],
                documents=by[part, "documents"],
                state=by[part, "state"],
            ),
        )
        for part in CONTAINERS
    ]


def _send(move: Move, api: ClusterApi | None, objects: list[Tree]) -> None:
    whole = [manifests.namespace(), *objects]
    if api is not None:
        changed = api.apply(whole)
        move.reporter.say(f"{len(changed)} of {len(whole)} objects are new")
    else:
        _write(move, whole)


def _open(move: Move, api: ClusterApi | None, workloads: list[Tree]) -> None:
    if api is not None:
        api.apply(workloads)
    else:
        _write(move, workloads)


def _write(move: Move, objects: list[Tree]) -> None:
    """Write manifests, as JSON, in the order in which kubectl is to apply them: it goes by name."""
    assert move.output is not None  # noqa: S101  # it is there when there is no API
    move.output.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    ranks = {"Namespace": 0, "Secret": 1, "Deployment": 2}
    for each in objects:
        name = f"{ranks[each['kind']]}-{each['kind'].lower()}-{each['metadata']['name']}.json"
        write_file(move.output / name, json_text(each), OWNER_ONLY)


def _await(move: Move, api: ClusterApi) -> bool:
    end = move.clock() + move.seconds
    while not all(api.runs(NAMESPACE, part) for part in CONTAINERS):
        if move.clock() >= end:
            return False
        move.sleep(POLL_SECONDS)
    return True


def _clear(api: ClusterApi, wanted_parcels: Iterable[Parcel]) -> None:
    """Remove Secrets with documents of before, as the pods of today mount others, and with what is laid."""
    wanted = {name for one in wanted_parcels for name in one.secret_names}
    for part in CONTAINERS:
        for kind in _KINDS:
            for name in api.names("Secret", NAMESPACE, {PART: part, KIND: kind}):
                if name not in wanted:
                    api.delete("Secret", name, namespace=NAMESPACE)
