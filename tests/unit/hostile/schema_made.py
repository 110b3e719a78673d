"""Configurations made from the JSON Schema: every key that exists, each with a value that fits or that does not."""

import json
import random
from functools import cache
from typing import Any

from bootstrap import config
from tests.unit.hostile.mutations import VALUES

DEEPEST = 12
ADDRESSES = (
    "192.168.1.10",
    "192.168.1.0/24",
    "10.2.0.0/16",
    "10.3.0.0/16",
    "0.0.0.0/0",
    "192.168.1.20/24",
    "255.255.255.255",
)
NAMES = ("w1", "m1", "gpu8", "a-b", "x" * 63, "x" * 64, "W1", "")
WORDS = (
    *ADDRESSES,
    *NAMES,
    "52:54:00:aa:00:01",
    "v1.36.4",
    "13",
    "debian",
    "1h",
    "400GiB",
    ">=8",
    "http://x/y",
    "192.168.1.10:6443",
)


@cache
def schema() -> dict[str, Any]:
    """Return the schema of a configuration file."""
    return config.schema()


def made(dice: random.Random) -> bytes:
    """Return a configuration in JSON, which is YAML; most of its values fit their key."""
    return json.dumps(value(schema(), dice, 0), ensure_ascii=dice.random() < 0.5).encode(
        "utf-8", "surrogatepass"
    )


def value(node: Any, dice: random.Random, depth: int) -> object:
    """Return a value for a part of the schema."""
    if depth > DEEPEST or dice.random() < 0.01:
        return dice.choice((*VALUES, None, 1, -1, 10**25, 1.5, True, [], {}, [[]]))
    while "$ref" in node:
        node = schema()["$defs"][node["$ref"].rpartition("/")[2]]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in node:
            return value(dice.choice(node[key]), dice, depth + 1)
    if "const" in node or "enum" in node:
        return dice.choice([node["const"]] if "const" in node else node["enum"])
    return _typed(node, dice, depth)


def _typed(node: Any, dice: random.Random, depth: int) -> object:
    match node.get("type"):
        case "object":
            return _mapping(node, dice, depth)
        case "array":
            return [
                value(node.get("items", {}), dice, depth + 1) for _ in range(dice.choice((0, 1, 1, 2, 3)))
            ]
        case "integer" | "number":
            return dice.choice((node.get("minimum", 0), node.get("maximum", 9), 1, 8080, 10**20))
        case "boolean":
            return dice.random() < 0.5
        case _:
            return dice.choice((*node.get("examples", ())[:1] * 20, *WORDS))


def _mapping(node: Any, dice: random.Random, depth: int) -> dict[str, object]:
    wanted = set(node.get("required", ()))
    keys = [key for key in node.get("properties", {}) if key in wanted or dice.random() < 0.4]
    dice.shuffle(keys)
    made_up = (
        {dice.choice(WORDS): dice.choice(WORDS)}
        if "additionalProperties" in node and dice.random() < 0.05
        else {}
    )
    return {key: value(node["properties"][key], dice, depth + 1) for key in keys} | made_up
