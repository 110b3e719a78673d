"""Files of the API server: the audit policy, the encryption of Secrets, who may ask without a name."""

import base64
import json
from typing import Any

import pytest

from bootstrap.kubernetes.api_server import encryption
from bootstrap.kubernetes.audit import UNSTOPPABLE, audit_policy
from bootstrap.kubernetes.releases import RELEASES
from certs.secret import Secret
from certs.wanted import break_glass, first_binder
from tests.unit.kubernetes.planes import keyring_of, text_of, tree_of

NEWEST = RELEASES[max(RELEASES)]
CONTENT_LEVELS = ("Request", "RequestResponse")


def level_of(request: dict[str, Any]) -> str:
    """Return the level of the first rule that fits: rules of audit.k8s.io/v1, as far as ours go."""
    for rule in json.loads(audit_policy(NEWEST))["rules"]:
        if fits(rule, request):
            return str(rule["level"])
    raise AssertionError("no rule fits")


def fits(rule: dict[str, Any], request: dict[str, Any]) -> bool:
    groups = rule.get("userGroups")
    return (
        request.get("user") in rule.get("users", [request.get("user")])
        and (groups is None or bool({*groups} & {*request.get("groups", ())}))
        and request.get("verb") in rule.get("verbs", [request.get("verb")])
        and is_about(rule, request)
    )


def is_about(rule: dict[str, Any], request: dict[str, Any]) -> bool:
    url, resource = request.get("url", ""), request.get("resource")
    paths, resources = rule.get("nonResourceURLs"), rule.get("resources")
    if paths is not None:
        return any(url == path or (path.endswith("*") and url.startswith(path[:-1])) for path in paths)
    return resources is None or any(
        each["group"] == request.get("group") and resource in each.get("resources", [resource])
        for each in resources
    )


def test_health_is_not_written_down() -> None:
    for url in ("/healthz", "/livez/ping", "/readyz?verbose", "/version"):
        assert level_of({"url": url, "verb": "get", "user": "x"}) == "None"


@pytest.mark.parametrize("user", ["kubernetes-admin", "system:kube-controller-manager", *UNSTOPPABLE])
@pytest.mark.parametrize("verb", ["get", "create", "delete", "watch"])
def test_content_of_secrets_is_never_written_down_but_who_touched_them(user: str, verb: str) -> None:
    for resource in ("secrets", "configmaps", "serviceaccounts/token"):
        assert level_of({"group": "", "resource": resource, "verb": verb, "user": user}) == "Metadata"


def test_a_node_that_reads_a_secret_is_written_down() -> None:
    node = {"user": "system:node:w1", "groups": ["system:nodes"], "verb": "get", "group": ""}

    assert level_of({**node, "resource": "secrets"}) == "Metadata"
    assert level_of({**node, "resource": "pods"}) == "None"


@pytest.mark.parametrize("user", UNSTOPPABLE)
def test_whatever_the_unstoppable_do_is_written_down_whole(user: str) -> None:
    assert (
        level_of({"group": "apps", "resource": "deployments", "verb": "get", "user": user})
        == "RequestResponse"
    )


def test_the_unstoppable_are_those_in_system_masters() -> None:
    assert set(UNSTOPPABLE) == {break_glass().common_name, first_binder().common_name}


@pytest.mark.parametrize("group", ["rbac.authorization.k8s.io", "certificates.k8s.io"])
def test_changes_of_power_are_written_down_whole(group: str) -> None:
    request = {"group": group, "resource": "anything", "user": "kubernetes-admin"}

    assert level_of({**request, "verb": "create"}) in CONTENT_LEVELS
    assert level_of({**request, "verb": "get"}) == "Metadata"


def test_every_other_request_leaves_a_line() -> None:
    assert level_of({"group": "", "resource": "pods", "verb": "create", "user": "someone"}) == "Metadata"


def test_secrets_are_written_with_a_key_of_32_bytes_that_the_pair_gives() -> None:
    pair = keyring_of("lab").keys["secrets-encryption"]
    tree: Any = json.loads(encryption(NEWEST, pair).reveal())
    first, last = tree["resources"][0]["providers"]
    (key,) = first["secretbox"]["keys"]

    assert tree["resources"][0]["resources"] == ["secrets"]
    assert len(base64.b64decode(key["secret"])) == 32
    assert last == {"identity": {}}
    assert encryption(NEWEST, pair) == encryption(NEWEST, Secret(pair.reveal()))
    assert encryption(NEWEST, keyring_of("ha").keys["secrets-encryption"]) != encryption(NEWEST, pair)


@pytest.mark.parametrize(
    ("version", "wanted"),
    [("v1.32.1", "v1beta1"), ("v1.33.1", "v1beta1"), ("v1.34.1", "v1"), ("v1.37.0", "v1")],
)
def test_who_may_ask_without_a_name_is_said_in_the_api_of_its_minor(version: str, wanted: str) -> None:
    path = "/etc/kubernetes/apiserver/authentication.yaml"
    tree: Any = json.loads(text_of(tree_of("lab", version=version), path))

    assert tree["apiVersion"] == f"apiserver.config.k8s.io/{wanted}"
    assert tree["anonymous"] == {
        "enabled": True,
        "conditions": [{"path": "/livez"}, {"path": "/readyz"}, {"path": "/healthz"}],
    }
    assert path not in tree_of("lab", version="v1.20.2").files
