"""The objects that a new API server gets from us: who may do what, and nothing more."""

from collections.abc import Iterable, Iterator
from typing import Any

CLAIMS, STATUS, GATE = "firstlight:claims", "firstlight:status", "firstlight:gate"
ADMINS = "kubeadm:cluster-admins"
KUBELET_CLIENT = "kube-apiserver-kubelet-client"
SIGNERS = ("kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving")
_GROUP = "rbac.authorization.k8s.io"
_CERTIFICATES = "certificates.k8s.io"
_REQUESTS = "certificatesigningrequests"

Object = dict[str, Any]


def objects() -> tuple[Object, ...]:
    """Return every object, in the order in which they are to be applied."""
    return (
        _binding(ADMINS, "cluster-admin", "Group", ADMINS),
        _binding(KUBELET_CLIENT, "system:kubelet-api-admin", "User", KUBELET_CLIENT),
        # A node's certificate lets its kube-proxy read services and where their pods are.
        _binding("firstlight:node-proxier", "system:node-proxier", "Group", "system:nodes"),
        _role(CLAIMS, _claims()),
        _binding(CLAIMS, CLAIMS, "User", CLAIMS),
        _role(STATUS, [_rule("", ["nodes"], ["get", "list", "watch"])]),
        _binding(STATUS, STATUS, "User", STATUS),
        # A taint is part of a node; NodeRestriction keeps nodes from changing their own.
        _role(GATE, [_rule("", ["nodes"], ["get", "list", "patch"])]),
        _binding(GATE, GATE, "User", GATE),
    )


def _claims() -> Iterator[Object]:
    """Yield the rules of the process that lets machines in: file a request, approve it, for two signers."""
    yield _rule(_CERTIFICATES, [_REQUESTS], ["create", "get", "list", "watch"])
    yield _rule(_CERTIFICATES, [f"{_REQUESTS}/approval"], ["update"])
    yield {**_rule(_CERTIFICATES, ["signers"], ["approve"]), "resourceNames": list(SIGNERS)}


def _rule(group: str, resources: list[str], verbs: list[str]) -> Object:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _role(name: str, rules: Iterable[Object]) -> Object:
    return {**_object("ClusterRole", name), "rules": list(rules)}


def _binding(name: str, role: str, kind: str, subject: str) -> Object:
    return {
        **_object("ClusterRoleBinding", name),
        "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": _GROUP, "kind": kind, "name": subject}],
    }


def _object(kind: str, name: str) -> Object:
    return {"apiVersion": f"{_GROUP}/v1", "kind": kind, "metadata": {"name": name}}
