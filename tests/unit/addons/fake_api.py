"""A likeness of the Kubernetes API: kinds, namespaces that must be there, and who manages an object.

`lists` are what it says when all objects at a path are asked for, `status` what new objects of a kind get.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from bootstrap.adding.objects import APPLY, JSON
from bootstrap.errors import ApiDown, ApiRefused

Document = dict[str, Any]
UNAPPLICABLE = "apis/apiregistration.k8s.io/"
OURS = {"manager": "firstlight", "operation": "Apply"}
KINDS: Mapping[str, Mapping[str, tuple[str, bool]]] = {
    "api/v1": {
        "ConfigMap": ("configmaps", True),
        "Namespace": ("namespaces", False),
        "PersistentVolume": ("persistentvolumes", False),
        "PersistentVolumeClaim": ("persistentvolumeclaims", True),
        "Service": ("services", True),
        "ServiceAccount": ("serviceaccounts", True),
    },
    "apis/apps/v1": {"DaemonSet": ("daemonsets", True), "Deployment": ("deployments", True)},
    "apis/policy/v1": {"PodDisruptionBudget": ("poddisruptionbudgets", True)},
    "apis/networking.k8s.io/v1": {"IngressClass": ("ingressclasses", False)},
    "apis/storage.k8s.io/v1": {"StorageClass": ("storageclasses", False)},
    "apis/apiregistration.k8s.io/v1": {"APIService": ("apiservices", False)},
    "apis/apiextensions.k8s.io/v1": {"CustomResourceDefinition": ("customresourcedefinitions", False)},
    "apis/rbac.authorization.k8s.io/v1": {
        "ClusterRole": ("clusterroles", False),
        "ClusterRoleBinding": ("clusterrolebindings", False),
        "Role": ("roles", True),
        "RoleBinding": ("rolebindings", True),
    },
}


class FakeApi:
    """Keeps objects by path. `late` kinds of definitions are known only after so many questions about their group."""

    def __init__(self, *, late: int = 0, down: int = 0) -> None:
        self.objects: dict[str, Document] = {}
        self.managers: dict[str, str] = {}
        self.calls: list[tuple[str, str]] = []
        self.stuck: set[str] = set()
        self.lists: dict[str, list[Document]] = {}
        self.status: dict[str, Document] = {}
        self._late, self._down, self._revision = late, down, 0
        self.objects["api/v1/namespaces/kube-system"] = {"kind": "Namespace"}
        self.objects["api/v1/namespaces/default"] = {"kind": "Namespace"}

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        found = self.objects.get(f"api/v1/namespaces/{namespace}/configmaps/{name}")
        return None if found is None else found.get("data", {})

    def apply(self, objects: Iterable[Mapping[str, Any]]) -> list[str]:
        for each in objects:
            metadata = each["metadata"]
            path = f"api/v1/namespaces/{metadata['namespace']}/configmaps/{metadata['name']}"
            self.call("PATCH", path, query={"force": "true"}, body=each)
        return []

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
    ) -> Document:
        self.calls.append((method, path))
        if self._down:
            self._down -= 1
            raise ApiDown("no API server answers")
        if method == "GET" and path.count("/") == (1 if path.startswith("api/") else 2):
            return self._kinds(path)
        if method == "GET" and path in self.lists:
            return {"items": copy.deepcopy(self.lists[path])}
        if path.startswith(UNAPPLICABLE) and method in ("POST", "PATCH"):
            return self._plain(method, path, content_type, query or {}, dict(body or {}))
        if method == "PATCH":
            return self._patch(path, query or {}, dict(body or {}))
        if path not in self.objects:
            raise ApiRefused("not found", 404)
        if method == "DELETE" and path not in self.stuck:
            del self.objects[path]
            return {}
        return copy.deepcopy(self.objects[path])

    def write(self, path: str, manager: str, **changes: Any) -> None:
        """Have somebody else write an object."""
        self.managers[path] = manager
        before = self.objects.get(path, {})
        metadata = {**before.get("metadata", {}), **changes.get("metadata", {})}
        fields = [*metadata.get("managedFields", ()), {"manager": manager, "operation": "Update"}]
        self.objects[path] = {**before, **changes, "metadata": {**metadata, "managedFields": fields}}

    def _kinds(self, path: str) -> Document:
        found = dict(KINDS.get(path, {}))
        for one in self.objects.values():
            if one.get("kind") == "CustomResourceDefinition":
                spec = one["spec"]
                if path in {f"apis/{spec['group']}/{row['name']}" for row in spec["versions"]}:
                    found[spec["names"]["kind"]] = (spec["names"]["plural"], spec["scope"] == "Namespaced")
        if not found:
            raise ApiRefused(f"there is no /{path}", 404)
        if path not in KINDS and self._late:
            self._late -= 1
            return {"resources": []}
        rows = [{"kind": kind, "name": name, "namespaced": is_in} for kind, (name, is_in) in found.items()]
        parts = [{**row, "name": f"{row['name']}/status"} for row in rows]
        return {"resources": [*rows, *parts]}

    def _plain(
        self, method: str, path: str, content_type: str, query: Mapping[str, str], body: Document
    ) -> Document:
        """Create or merge an object of the kinds that v1.20 cannot apply; it breaks off when asked to."""
        if content_type == APPLY:
            raise ApiDown("RemoteProtocolError: Server disconnected without sending a response.")
        full = f"{path}/{body['metadata']['name']}" if method == "POST" else path
        before = self.objects.get(full, {})
        after: Document = {**before, **body}
        is_same = before == {**after, "metadata": before.get("metadata")}
        self._revision += not is_same
        after["metadata"] = {**body["metadata"], "uid": full, "resourceVersion": str(self._revision)}
        if "dryRun" not in query:
            self.objects[full] = copy.deepcopy(after)
        return after

    def _patch(self, path: str, query: Mapping[str, str], body: Document) -> Document:
        place = path.partition("/namespaces/")[2].partition("/")[0]
        if (
            "/namespaces/" in path
            and path.count("/") > 3
            and f"api/v1/namespaces/{place}" not in self.objects
        ):
            raise ApiRefused(f'namespaces "{place}" not found', 404)
        if query["force"] == "false" and self.managers.get(path, "firstlight") != "firstlight":
            raise ApiRefused(f"Apply failed with 1 conflict: conflict with {self.managers[path]}", 409)
        before = self.objects.get(path, {})
        after = {**body, "status": before.get("status", self.status.get(body["kind"], {}))}
        if body["kind"] == "CustomResourceDefinition":
            after["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
        self._revision += 1
        others = before.get("metadata", {}).get("managedFields", ())
        fields = [one for one in others if one["manager"] != OURS["manager"]] + [OURS]
        if set(body) == {"apiVersion", "kind", "metadata"} and set(body["metadata"]) <= {"name", "namespace"}:
            fields.remove(OURS)  # whoever applies nothing has no part in it
        own = {"resourceVersion": str(self._revision), "uid": path, "managedFields": fields}
        after["metadata"] = {**body["metadata"], **own}
        if "dryRun" not in query:
            self.objects[path], self.managers[path] = copy.deepcopy(after), "firstlight"
        return after
