"""Kubeconfigs: what they hold, and that merging one into another loses nothing."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootstrap.config import from_yaml, to_yaml
from bootstrap.errors import ConfigError, UsageError
from bootstrap.kubernetes.kubeconfig import (
    PemFiles,
    admin_kubeconfig,
    context_name,
    merged,
    referring_kubeconfig,
)
from certs.keyring import Keyring
from tests import samples
from tests.unit.kubernetes.planes import keyring_of


def admin(row: str = "admin") -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(
        admin_kubeconfig(samples.cluster("ha"), keyring_of("ha"), row=row).reveal()
    )
    return tree


def test_an_administrator_s_holds_everything_under_one_name() -> None:
    keyring, found = keyring_of("ha"), admin()
    (cluster,), (user,), (context,) = found["clusters"], found["users"], found["contexts"]

    assert found["current-context"] == cluster["name"] == context["name"] == "firstlight-ha"
    assert context["context"] == {"cluster": "firstlight-ha", "user": "firstlight-ha-admin"}
    assert cluster["cluster"]["server"] == "https://k8s.example.net:6443"
    decoded = base64.b64decode(cluster["cluster"]["certificate-authority-data"])
    assert decoded == keyring.certificates["ca"]
    assert base64.b64decode(user["user"]["client-key-data"]) == keyring.keys["admin"].reveal()
    assert base64.b64decode(user["user"]["client-certificate-data"]) == keyring.certificates["admin"]


def test_the_break_glass_one_is_another_user_in_the_same_context() -> None:
    assert admin("super-admin")["users"][0]["name"] == "firstlight-ha-super-admin"
    keyring = keyring_of("ha")
    without = {name: key for name, key in keyring.keys.items() if name != "super-admin"}

    with pytest.raises(UsageError, match="make it with: certs renew super-admin"):
        admin_kubeconfig(
            samples.cluster("ha"), Keyring(public=keyring.public, keys=without), row="super-admin"
        )


def test_it_never_shows_itself() -> None:
    assert repr(admin_kubeconfig(samples.cluster("ha"), keyring_of("ha"))) == "<secret>"


def test_one_that_names_files_holds_no_key() -> None:
    found = json.loads(
        referring_kubeconfig(
            name="lab",
            server="https://10.0.0.1:6443",
            ca="/ca.crt",
            user="u",
            files=PemFiles("/c.pem", "/k.pem"),
        )
    )

    assert found["users"] == [{"name": "u", "user": {"client-certificate": "/c.pem", "client-key": "/k.pem"}}]
    assert found["clusters"][0]["cluster"] == {
        "server": "https://10.0.0.1:6443",
        "certificate-authority": "/ca.crt",
    }


def test_merging_keeps_what_is_there_and_makes_ours_current() -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "work", "cluster": {"server": "https://work"}}],
        "contexts": [{"name": "work", "context": {"cluster": "work", "user": "me", "namespace": "x"}}],
        "users": [{"name": "me", "user": {"exec": {"command": "login"}}}],
        "current-context": "work",
        "extensions": [{"name": "odd"}],
    }
    found = merged(admin(), theirs)

    assert [each["name"] for each in found["contexts"]] == ["work", "firstlight-ha"]
    assert found["users"][0] == theirs["users"][0]
    assert found["current-context"] == context_name(samples.cluster("ha"))
    assert found["extensions"] == theirs["extensions"]


@given(st.lists(st.sampled_from(["firstlight-ha", "a", "b"]), unique=True))
def test_merging_again_changes_nothing_and_ours_wins(names: list[str]) -> None:
    theirs = {"clusters": [{"name": name, "cluster": {"server": name}} for name in names]}
    once = merged(admin(), theirs)

    assert merged(admin(), once) == once
    servers = {each["name"]: each["cluster"]["server"] for each in once["clusters"]}
    assert servers == {**{name: name for name in names}, "firstlight-ha": "https://k8s.example.net:6443"}


def test_an_empty_file_becomes_ours() -> None:
    assert {key: value for key, value in merged(admin(), {}).items() if key != "preferences"} == {
        key: value for key, value in admin().items() if key != "preferences"
    }


@pytest.mark.parametrize(
    "theirs", [{"clusters": {}}, {"users": ["x"]}, {"contexts": [{"context": {}}]}, {"users": "x"}]
)
def test_what_is_no_kubeconfig_is_refused(theirs: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="this is no kubeconfig"):
        merged(admin(), theirs)


def test_a_file_of_kubectl_s_goes_through_yaml_and_back() -> None:
    text = b"""\
apiVersion: v1
kind: Config
clusters:
- {name: work, cluster: {server: 'https://work', certificate-authority-data: LS0t}}
contexts: []
users: null
"""
    found = merged(admin(), from_yaml(text, "config"))  # type: ignore[arg-type]

    assert from_yaml(to_yaml(found).encode(), "config") == found
    assert [each["name"] for each in found["clusters"]] == ["work", "firstlight-ha"]
    assert from_yaml(b"", "config") is None


def test_a_file_that_is_no_yaml_is_told_with_its_line() -> None:
    with pytest.raises(ConfigError, match="config:2:"):
        from_yaml(b"a: b\n  c: [\n", "config")
