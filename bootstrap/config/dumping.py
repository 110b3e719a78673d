"""A cluster as canonical JSON, and back, for the appliance's processes; any plain value as YAML, for people."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from bootstrap.model import Cluster

_PLACE = "\0machines"
_FLAT = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",\n      ", ": "))


def dump(cluster: Cluster) -> bytes:
    """Return `cluster` as JSON with sorted keys and every default: the same input, the same bytes."""
    return dump_values(plain_values(cluster))


def plain_values(cluster: Cluster) -> dict[str, Any]:
    """Return `cluster` as plain values, with every default."""
    return cluster.model_dump(mode="json", by_alias=True, exclude_none=True)


def dump_values(values: Mapping[str, Any]) -> bytes:
    """Return what `dump` returns, from the cluster's plain values."""
    text = _indented({**values, "machines": _PLACE})
    machines = ",\n    ".join(map(_machine, values["machines"]))
    whole = f"[\n    {machines}\n  ]" if machines else "[]"
    return text.replace(json.dumps(_PLACE), whole, 1).encode() + b"\n"


def _machine(machine: Mapping[str, Any]) -> str:
    """Return a machine as it stands in the list; most are flat, which json writes ten times faster unindented."""
    if any(isinstance(value, (dict, list)) for value in machine.values()):
        return _indented(machine).replace("\n", "\n    ")
    return "{\n      " + _FLAT.encode(machine)[1:-1] + "\n    }"


def _indented(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)


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
