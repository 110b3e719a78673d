"""Reads Kubernetes documents as kubectl does: several in a file, by YAML 1.1 as Go's reader takes it, JSON among it.

So `0644` is a number in octal and `yes` is true here, unlike in a configuration. Dates and sexagesimal numbers, which
Kubernetes has none of, stay text.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from bootstrap.config.compose import LARGEST_FILE, MOST_VALUES, problem, raise_if_any
from bootstrap.errors import ConfigError, Problem

_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_SCALARS = (
    ("bool", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    ("int", r"[-+]?0b[01_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?",
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("merge", r"<<", "<"),
)


class _Loader(_BASE):  # type: ignore[misc]  # PyYAML has it with or without libyaml
    """PyYAML's safe loader with kubectl's kinds of scalars."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # PyYAML's own way


for _kind, _pattern, _firsts in _SCALARS:
    _Loader.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(rf"^(?:{_pattern})$"), list(_firsts))


@dataclass(frozen=True)
class Document:
    """A Kubernetes object, and where it begins."""

    file: str
    line: int
    value: dict[str, Any]

    def problem(self, message: str) -> Problem:
        """Return the problem with this object."""
        return problem(self.file, self.line, 1, message)


def documents(data: bytes, file: str) -> tuple[Document, ...]:
    """Return the objects in `data`, in order; those of a List one by one, empty documents left out.

    Raises:
        ConfigError: it is no YAML, or something in it is no object with apiVersion, kind and name.
    """
    if len(data) > LARGEST_FILE:
        raise ConfigError((problem(file, 1, 1, "is larger than 16 MiB; split it"),))
    try:
        found = list(_read(data.decode("utf-8-sig"), file))
    except UnicodeDecodeError:
        raise ConfigError((problem(file, 1, 1, "is not UTF-8 text; save the file as UTF-8"),)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        reason = " ".join(str(error.problem or error.context).split())
        text = f"is not YAML ({reason}); check indentation and quotes here"
        raise ConfigError((problem(file, line, column, text),)) from None
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError((problem(file, 1, 1, f"is not YAML ({reason})"),)) from None
    wrong = [document.problem(text) for document in found if (text := _wrong(document.value))]
    raise_if_any(tuple(wrong))
    return tuple(found)


def _read(text: str, file: str) -> Iterator[Document]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            line = node.start_mark.line + 1
            raise_if_any(tuple(_twice(node, file)))
            if _size(node, {}) > MOST_VALUES:
                raise ConfigError(
                    (problem(file, line, 1, "its aliases stand for too many values; use fewer"),)
                )
            value = _plain(loader.construct_document(node), file, line)
            if value is not None:
                yield from _flat(value, file, line)
    finally:
        loader.dispose()


def _flat(value: Any, file: str, line: int) -> Iterator[Document]:
    items = value.get("items") if isinstance(value, dict) else None
    if isinstance(items, list) and str(value.get("kind", "")).endswith("List"):
        for item in items:
            yield Document(file, line, item)
    else:
        yield Document(file, line, value)


def _plain(value: Any, file: str, line: int) -> Any:
    """Return what JSON makes of `value`: keys are text, and nothing is shared."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError((problem(file, line, 1, f"holds what JSON has not: {error}"),)) from None


def _size(node: Any, known: dict[int, int]) -> int:
    """Return how many values `node` stands for, with each alias written out."""
    if id(node) not in known:
        known[id(node)] = 0  # an alias inside of itself counts no further
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else ()
        parts = node.value if isinstance(node, yaml.SequenceNode) else parts
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


def _twice(node: Any, file: str) -> Iterator[Problem]:
    """Yield keys that stand in one mapping twice; each node is looked at once, however many aliases it has."""
    seen, waiting = {id(node)}, [node]
    while waiting:
        one = waiting.pop()
        pairs = one.value if isinstance(one, yaml.MappingNode) else ()
        first: dict[str, int] = {}
        for key, _ in pairs:
            mark, name = key.start_mark, key.value
            if isinstance(name, str) and name in first and name != "<<":
                text = f"the key {name!r} is here twice (first in line {first[name]}); remove one"
                yield problem(file, mark.line + 1, mark.column + 1, text)
            elif isinstance(name, str):
                first[name] = mark.line + 1
        parts = [part for pair in pairs for part in pair]
        parts = one.value if isinstance(one, yaml.SequenceNode) else parts
        waiting += [part for part in parts if id(part) not in seen]
        seen |= {id(part) for part in parts}


def _wrong(value: Any) -> str:
    """Return what keeps `value` from being an object of Kubernetes; nothing if it may be one."""
    if not isinstance(value, dict):
        return "is no mapping; write a Kubernetes object with apiVersion, kind and metadata"
    for key in ("apiVersion", "kind"):
        if not isinstance(value.get(key), str) or not value[key]:
            return f"has no {key}; write it as a text"
    metadata = value.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        return f"{value['kind']} has no metadata.name; write one (generateName cannot be applied twice)"
    if not isinstance(metadata.get("labels") or {}, dict):
        return f"{value['kind']} {metadata['name']}: metadata.labels is no mapping"
    if not isinstance(metadata.get("namespace", ""), str):
        return f"{value['kind']} {metadata['name']}: metadata.namespace is no text"
    return ""
