"""What the API server writes into its audit log: every change and by whom, never the content of a Secret."""

from bootstrap.kubernetes.documents import json_text
from bootstrap.kubernetes.releases import Release

UNSTOPPABLE = ("kubernetes-super-admin", "firstlight:first-binder")
"""The users whom RBAC cannot stop (system:masters); whatever they do is written down whole."""
_SYSTEM_USERS = (
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-scheduler",
    "firstlight:status",
)
_SYSTEM_GROUPS = ("system:nodes", "system:serviceaccounts:kube-system")
_LOOKS = ("get", "list", "watch")


def audit_policy(release: Release) -> bytes:
    """Return the policy; the first rule that fits a request decides."""
    return json_text(
        {
            "apiVersion": release.audit,
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [_health(), _never_content(), *_silent(), *_whole(), {"level": "Metadata"}],
        }
    )


def _health() -> dict[str, object]:
    return {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version"]}


def _silent() -> list[dict[str, object]]:
    """Return the rules for what happens all the time and says nothing."""
    leases = [{"group": "coordination.k8s.io", "resources": ["leases"]}]
    return [
        {"level": "None", "users": list(_SYSTEM_USERS), "verbs": list(_LOOKS)},
        {"level": "None", "userGroups": list(_SYSTEM_GROUPS), "verbs": list(_LOOKS)},
        {"level": "None", "userGroups": ["system:nodes"], "resources": leases},
        {"level": "None", "users": list(_SYSTEM_USERS), "resources": leases},
    ]


def _never_content() -> dict[str, object]:
    """Return the rule for what holds secrets: who touched it, also a node, and never what it says."""
    core = ["secrets", "configmaps", "serviceaccounts/token"]
    resources = [
        {"group": "", "resources": core},
        {"group": "authentication.k8s.io", "resources": ["tokenreviews"]},
    ]
    return {"level": "Metadata", "resources": resources}


def _whole() -> list[dict[str, object]]:
    """Return the rules for what decides who may do what: requests and answers are kept."""
    power = [
        {"group": "certificates.k8s.io"},
        {"group": "rbac.authorization.k8s.io"},
        {"group": "admissionregistration.k8s.io"},
    ]
    changes = ["create", "update", "patch", "delete", "deletecollection"]
    return [
        {"level": "RequestResponse", "users": list(UNSTOPPABLE)},
        {"level": "RequestResponse", "verbs": changes, "resources": power},
    ]
