"""The workloads that run both containers on a node of the cluster, from the same table as the engines; pure.

Two Deployments of one pod each, on one named node: Recreate ends a pod before the next begins, and ports of the
node's own network admit no second one there ("Deployments", "Pod" of the Kubernetes API).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bootstrap.containers.table import CONTAINERS, Container, Mount, Name
from bootstrap.handover.parcel import NAMESPACE, PART, Parcel
from bootstrap.model import Cluster

ROOT = "/var/lib/firstlight/appliance"
"""On the node: a folder for each cluster, laid out as a work folder. Beside it lies what the node keeps for itself."""
CACHE = "/var/lib/firstlight/cache"
UNPACKING = ("CHOWN", "DAC_OVERRIDE", "FOWNER")
"""What who lays files for others to own needs (capabilities(7))."""
END_SECONDS = 30
HEALTH_SECONDS, START_SECONDS = 10, 180
DHCP_PORTS = {"dhcp": 67, "tftp": 69}
PROXY_PORTS = {"pxe": 4011}

Tree = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a part runs from: the id of the handover, the node's name, the pinned image, and its two parcels."""

    handover: str
    node: str
    image: str
    documents: Parcel
    state: Parcel


def namespace() -> Tree:
    """Return the namespace of all our objects; pods there use the node's network and folders."""
    labels = {"app.kubernetes.io/name": "firstlight", "pod-security.kubernetes.io/enforce": "privileged"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def deployment(cluster: Cluster, part: Name, work: Workload) -> Tree:
    """Return the Deployment of a part, as in a manifest."""
    chosen = {"app.kubernetes.io/name": "firstlight", PART: part}
    template = {"metadata": {"labels": chosen}, "spec": _pod(cluster, CONTAINERS[part], work)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": part, "namespace": NAMESPACE, "labels": chosen},
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": chosen},
            "strategy": {"type": "Recreate"},
            "template": template,
        },
    }


def place(cluster: Cluster) -> str:
    """Return the folder of the cluster's appliance on the node."""
    return f"{ROOT}/{cluster.metadata.name}"


def _pod(cluster: Cluster, row: Container, work: Workload) -> Tree:
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostNetwork": True,
        "dnsPolicy": "Default",
        "nodeSelector": {"kubernetes.io/hostname": work.node},
        # The node was chosen by name: whatever keeps others off it, this one belongs there.
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "system-cluster-critical",
        "terminationGracePeriodSeconds": END_SECONDS,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [_unpack(row, work)],
        "containers": [_container(cluster, row, work)],
        "volumes": [
            *_volumes(cluster, row),
            _parcel("documents", work.documents),
            _parcel("state", work.state, is_optional=True),
        ],
    }


def _unpack(row: Container, work: Workload) -> Tree:
    sums = {"--documents": work.documents.sum, "--state": work.state.sum, "--handover": work.handover}
    return {
        "name": "unpack",
        "image": work.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-m", "bootstrap.handover.unpack", row.name],
        "args": [f"{name}={value}" for name, value in sums.items()],
        "securityContext": _confined(UNPACKING, user=0),
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        "volumeMounts": [
            {"name": "node", "mountPath": "/node"},
            *(
                {"name": f"parcel-{kind}", "mountPath": f"/parcel/{kind}", "readOnly": True}
                for kind in ("documents", "state")
            ),
        ],
    }


def _container(cluster: Cluster, row: Container, work: Workload) -> Tree:
    health = {"exec": {"command": ["python3", "-m", "bootstrap.containers.health", row.name]}}
    often: Tree = {**health, "periodSeconds": HEALTH_SECONDS, "timeoutSeconds": 5}
    return {
        "name": row.name,
        "image": work.image,
        "imagePullPolicy": "IfNotPresent",
        "ports": _ports(cluster, row.name),
        "securityContext": _confined(row.capabilities, user=row.user or 0),
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "startupProbe": {**often, "failureThreshold": START_SECONDS // HEALTH_SECONDS},
        "readinessProbe": {**often, "failureThreshold": 3},
        "livenessProbe": {**often, "failureThreshold": 6},
        "volumeMounts": [
            *(
                {"name": _name(mount), "mountPath": mount.target, "readOnly": not mount.is_writable}
                for mount in row.mounts
            ),
            *({"name": _memory(target), "mountPath": target} for target in row.tmpfs),
        ],
    }


def _confined(capabilities: tuple[str, ...], *, user: int) -> Tree:
    added = {"add": [*capabilities]} if capabilities else {}
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {**added, "drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsGroup": user,
        "runAsNonRoot": user != 0,
        "runAsUser": user,
    }


def _ports(cluster: Cluster, part: Name) -> list[Tree]:
    """Return the ports of the node that a part takes, so that no second one is put beside it."""
    if part == "web":
        appliance = cluster.appliance
        ports: Mapping[str, int] = {"http": appliance.http_port, "https": appliance.https_port}
        return [_port(name, number, "TCP") for name, number in ports.items()]
    ports = {**DHCP_PORTS, **(PROXY_PORTS if cluster.appliance.dhcp.mode == "proxy" else {})}
    return [_port(name, number, "UDP") for name, number in ports.items()]


def _port(name: str, number: int, protocol: str) -> Tree:
    return {"name": name, "containerPort": number, "hostPort": number, "protocol": protocol}


def _volumes(cluster: Cluster, row: Container) -> list[Tree]:
    folder = place(cluster)
    roots = {"work": folder, "cache": CACHE}
    return [
        {"name": "node", "hostPath": {"path": folder, "type": "DirectoryOrCreate"}},
        *(
            {
                "name": _name(mount),
                "hostPath": {"path": f"{roots[mount.root]}/{mount.path}", "type": "DirectoryOrCreate"},
            }
            for mount in row.mounts
        ),
        *(
            {"name": _memory(target), "emptyDir": {"medium": "Memory", "sizeLimit": size.upper() + "i"}}
            for target, size in row.tmpfs.items()
        ),
    ]


def _parcel(kind: str, parcel: Parcel, *, is_optional: bool = False) -> Tree:
    """Return the volume in which the pieces of a parcel are files, in order; an optional one may be empty."""
    more = {"optional": True} if is_optional else {}
    sources = [
        {"secret": {"name": name, "items": [{"key": "piece", "path": f"piece-{number:03}"}], **more}}
        for number, name in enumerate(parcel.secret_names)
    ]
    return {"name": f"parcel-{kind}", "projected": {"defaultMode": 0o400, "sources": sources}}


def _name(mount: Mount) -> str:
    return f"{mount.root}-{mount.target.rpartition('/')[2]}"


def _memory(target: str) -> str:
    return f"memory-{target.strip('/').replace('/', '-')}"
