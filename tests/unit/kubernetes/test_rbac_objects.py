"""Objects of a new cluster: right by Kubernetes' own schemas, and no power beyond what is said here."""

import json
from typing import Any

import kubernetes_validate
import pytest

from bootstrap.kubernetes.rbac import CLAIMS, GATE, SIGNERS, STATUS, objects
from bootstrap.kubernetes.releases import RELEASES

CHECKED = [f"1.{minor}" for minor in RELEASES if minor >= 32]


def named(kind: str, name: str) -> dict[str, Any]:
    return next(each for each in objects() if each["kind"] == kind and each["metadata"]["name"] == name)


@pytest.mark.parametrize("version", CHECKED)
def test_they_are_right_by_the_schemas_of_every_supported_minor(version: str) -> None:
    for each in objects():
        kubernetes_validate.validate(each, version, strict=True)


def test_the_checker_would_complain() -> None:
    wrong = {**objects()[0], "rolRef": {}}

    with pytest.raises(kubernetes_validate.ValidationError, match="rolRef"):
        kubernetes_validate.validate(wrong, CHECKED[-1], strict=True)


def test_there_are_these_and_each_once() -> None:
    found = [(each["kind"], each["metadata"]["name"]) for each in objects()]

    assert found == [
        ("ClusterRoleBinding", "kubeadm:cluster-admins"),
        ("ClusterRoleBinding", "kube-apiserver-kubelet-client"),
        ("ClusterRoleBinding", "firstlight:node-proxier"),
        ("ClusterRole", "firstlight:claims"),
        ("ClusterRoleBinding", "firstlight:claims"),
        ("ClusterRole", "firstlight:status"),
        ("ClusterRoleBinding", "firstlight:status"),
        ("ClusterRole", "firstlight:gate"),
        ("ClusterRoleBinding", "firstlight:gate"),
    ]
    assert json.loads(json.dumps(objects())) == list(objects())


def test_claims_may_file_and_approve_for_two_signers_and_nothing_else() -> None:
    assert named("ClusterRole", CLAIMS)["rules"] == [
        {
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["certificatesigningrequests"],
            "verbs": ["create", "get", "list", "watch"],
        },
        {
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["certificatesigningrequests/approval"],
            "verbs": ["update"],
        },
        {
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["signers"],
            "resourceNames": ["kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving"],
            "verbs": ["approve"],
        },
    ]
    assert "kubernetes.io/kube-apiserver-client" not in SIGNERS


def test_status_may_look_at_nodes() -> None:
    assert named("ClusterRole", STATUS)["rules"] == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}
    ]


def test_the_gate_may_look_at_nodes_and_change_them() -> None:
    assert named("ClusterRole", GATE)["rules"] == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "patch"]}
    ]


def test_no_binding_lets_nodes_approve_themselves_or_names_anyone_unnamed() -> None:
    text = json.dumps(objects())

    for word in (
        "nodeclient",
        "system:bootstrappers",
        "system:unauthenticated",
        "system:anonymous",
        "system:masters",
    ):
        assert word not in text
    admins = [each for each in objects() if each.get("roleRef", {}).get("name") == "cluster-admin"]
    assert [each["subjects"][0]["name"] for each in admins] == ["kubeadm:cluster-admins"]


def test_only_roles_of_ours_and_kubernetes_own_are_bound() -> None:
    ours = {each["metadata"]["name"] for each in objects() if each["kind"] == "ClusterRole"}
    bound = {each["roleRef"]["name"] for each in objects() if "roleRef" in each}

    assert bound - ours == {"cluster-admin", "system:kubelet-api-admin", "system:node-proxier"}
