"""A cluster as canonical JSON, and back, for the appliance's processes; any plain value as YAML, for people."""

import json
from typing import Any

import yaml

from bootstrap.model import Cluster


def dump(cluster: Cluster) -> bytes:
    """Return `cluster` as JSON with sorted keys and every default: the same input, the same bytes."""
    values = cluster.model_dump(mode="json", by_alias=True, exclude_none=True)
    return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def parse_dump(data: bytes) -> Cluster:
    """Return the cluster that `dump` wrote.

    Raises:
        ValueError: `data` is no such dump.
    """
    return Cluster.model_validate(json.loads(data), by_alias=True, by_name=False)


def to_yaml(values: Any) -> str:
    """Return plain `values` (what JSON can hold; anything else as its text) as YAML, keys in the order given."""
    simple = json.loads(json.dumps(values, default=str))
    return str(yaml.safe_dump(simple, sort_keys=False, allow_unicode=True, default_flow_style=False))
