"""The sample configurations, loaded once, and the one keyring that tests render with."""

import json
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from bootstrap.config import load
from bootstrap.model import Cluster
from bootstrap.render.bundle import Bundle, render_bundle
from certs.keyring import PublicKeyring

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests/golden"
NAMES = ("example", "ha", "lab")
CA = (GOLDEN / "provisioning-ca.crt").read_bytes()
KEYRING = PublicKeyring(certificates={"provisioning/ca": CA}, public_keys={})


@cache
def cluster(name: str) -> Cluster:
    """Return the cluster of configs/<name>.yaml."""
    return load([ROOT / f"configs/{name}.yaml"])


@cache
def bundle(name: str) -> Bundle:
    """Return everything rendered for configs/<name>.yaml."""
    return render_bundle(cluster(name), KEYRING)


def files_of(document: bytes) -> dict[str, tuple[str, int]]:
    """Return text and mode of each file in an Ignition document, by path."""
    tree: dict[str, Any] = json.loads(document)
    return {
        node["path"]: (
            unquote_to_bytes(node["contents"]["source"].removeprefix("data:,")).decode(),
            node["mode"],
        )
        for node in tree["storage"]["files"]
    }


def units_of(document: bytes) -> dict[str, dict[str, Any]]:
    """Return the units of an Ignition document, by name."""
    tree: dict[str, Any] = json.loads(document)
    return {node["name"]: node for node in tree.get("systemd", {}).get("units", [])}


def data_of(node: dict[str, Any]) -> str:
    """Return the text of a file node."""
    source: str = node["contents"]["source"]
    return unquote_to_bytes(source.removeprefix("data:,")).decode()


def json_of(tree: dict[str, Any]) -> bytes:
    """Return `tree` as JSON, for parse_dump."""
    return json.dumps(tree).encode()
