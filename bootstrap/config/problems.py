"""Turns what pydantic found wrong into lines of ours: place, value found, what to write."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError, WithJsonSchema
from pydantic.fields import FieldInfo

from bootstrap.config.docstrings import docstrings
from bootstrap.config.suggest import choice, key
from bootstrap.config.tree import Path, Position, Scalar, Sequence, Table, Tree, find, key_position, nearest
from bootstrap.errors import Problem
from bootstrap.model import Cluster
from bootstrap.model.base import Model, shown

_QUOTED = re.compile(r"'([^']*)'")


def from_validation(error: ValidationError, tree: Tree) -> list[Problem]:
    """Return the problems in `error`, at their places in `tree`."""
    found = error.errors(include_url=False)
    return [_problem(tree, details) for details in found if not _miscounted(tree, details)]


def _miscounted(tree: Tree, details: Any) -> bool:
    """Return whether a list seems too short only because pydantic leaves wrong items out of the count."""
    node = find(tree, _untagged(tree, details["loc"]))
    return details["type"] == "too_short" and isinstance(node, Sequence) and len(node.items) > 0


def at(position: Position, path: Path, message: str) -> Problem:
    """Return the problem with the value at `path`, which stands at `position`."""
    return Problem(
        file=position.file,
        line=position.line,
        column=position.column,
        path=".".join(map(str, path)),
        message=message,
    )


def _problem(tree: Tree, details: Any) -> Problem:
    kind, path = details["type"], _untagged(tree, details["loc"])
    if kind == "extra_forbidden":
        return at(key_position(tree, path), path, _unknown_key(details["loc"]))
    if path and path[-1] == "[key]":
        return at(key_position(tree, path[:-1]), path[:-1], _message(None, details))
    parent = details["loc"][:-1]
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        path, parent = (*path, str(details["ctx"]["discriminator"]).strip("'")), details["loc"]
    node = nearest(tree, path)
    if kind in ("missing", "union_tag_not_found"):
        return at(node.position, path, _missing(parent, path[-1]))
    return at(node.position, path, _message(find(tree, path), details))


def _untagged(tree: Tree, loc: Path) -> Path:
    """Return `loc` without the steps by which pydantic names the chosen one of several models."""
    path: Path = ()
    for step in loc:
        parent = find(tree, path)
        driver = parent.entries.get("driver") if isinstance(parent, Table) else None
        if (
            driver
            and isinstance(driver.tree, Scalar)
            and driver.tree.raw == step
            and step not in _keys(parent)
        ):
            continue
        path = (*path, step)
    return path


def _keys(tree: Tree | None) -> Mapping[str, object]:
    return tree.entries if isinstance(tree, Table) else {}


def models_in(annotation: Any) -> tuple[type[Model], ...]:
    """Return the models that a value of the type `annotation` is made of."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return (annotation,)
    return tuple(model for part in get_args(annotation) for model in models_in(part))


def fields_of(model: type[Model]) -> dict[str, FieldInfo]:
    """Return the fields of `model` by the key that config.yaml has for them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def models_at(loc: Path) -> tuple[type[Model], ...]:
    """Return the models of which one stands at `loc`."""
    models: tuple[type[Model], ...] = (Cluster,)
    for step in loc:
        if isinstance(step, int):
            continue
        fields = [fields_of(model)[step] for model in models if step in fields_of(model)]
        tagged = tuple(model for model in models if step in _tags(model))
        models = tuple(m for field in fields for m in models_in(field.annotation)) if fields else tagged
    return models


def _tags(model: type[Model]) -> tuple[str, ...]:
    driver = model.model_fields.get("driver")
    return get_args(driver.annotation) if driver else ()


def _unknown_key(loc: Path) -> str:
    known = [name for model in models_at(loc[:-1]) for name in fields_of(model)]
    return f"is not a known key; {key(str(loc[-1]), set(known))}"


def _missing(parent: Path, name: str | int) -> str:
    if isinstance(name, int):
        return "is missing; write one more item"
    models = [model for model in models_at(parent) if name in fields_of(model)]
    return f"is missing; add {name}: {_example(models[0], name) if models else ''}".rstrip()


def _example(model: type[Model], name: str) -> str:
    """Return a value that a field takes, or else what it means in brackets."""
    field = fields_of(model)[name]
    for extra in field.metadata:
        if isinstance(extra, WithJsonSchema) and extra.json_schema:
            kind = extra.json_schema.get("anyOf", [extra.json_schema])[0]
            if "examples" in kind:
                return str(kind["examples"][0])
    options = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return str(options[0]) if options else f"({_meaning(model, field)})"


def _meaning(model: type[Model], field: FieldInfo) -> str:
    names = [name for name, found in model.model_fields.items() if found is field]
    return docstrings(model).get(names[0], "").rstrip(".")


def _message(node: Tree | None, details: Any) -> str:
    found = _found(node, details["input"])
    if isinstance(node, Scalar) and node.value is None:
        return "is empty; write a value or remove the key"
    if details["type"] in _NO_MAPPING:
        return f"{found} is not a mapping; {_keys_of(details['loc'])}"
    words = _WORDS.get(details["type"])
    return words(found, details.get("ctx", {})) if words else f"{found} does not fit here; see docs/config.md"


def _keys_of(loc: Path) -> str:
    names = sorted({name for model in models_at(loc) for name in fields_of(model)})
    return f"write keys under it: {', '.join(names)}" if names else "write keys under it, each with its value"


def _found(node: Tree | None, value: object) -> str:
    match node:
        case Scalar(value=str()):
            return shown(node.value)
        case Scalar():
            return node.raw
        case Sequence():
            return "a list"
        case Table():
            return "a mapping"
        case None:
            return shown(value)


def _not_one_of(found: str, expected: str) -> str:
    options = _QUOTED.findall(expected)
    advice = choice(found.strip("'\""), options)
    if advice.startswith("write") or len(options) == 1:
        return f"{found} is not known here; {advice}"
    return f"{found} is not one of {', '.join(options)}; {advice}"


def _not_text(found: str, ctx: Mapping[str, Any]) -> str:
    if found in ("a list", "a mapping"):
        return f"is {found}; write a single text"
    kind = "a boolean" if found.lower() in ("true", "false") else "a number"
    fix = str(ctx.get("fix", '"{raw}"')).replace("{raw}", found)
    return f"{found} is {kind} to YAML; write {fix}"


def _not_integer(found: str) -> str:
    digits = found.strip("'\"")
    return f"{found} is not a whole number; write digits such as {digits if digits.isdecimal() else 8}"


_NO_MAPPING = ("model_type", "model_attributes_type", "mapping_type", "dict_type")
_WORDS: dict[str, Callable[[str, Mapping[str, Any]], str]] = {
    "value_error": lambda _, ctx: str(ctx["error"]),
    "not_text": _not_text,
    "string_type": _not_text,
    "literal_error": lambda found, ctx: _not_one_of(found, ctx["expected"]),
    "union_tag_invalid": lambda found, ctx: _not_one_of(found, ctx["expected_tags"]),
    "int_type": lambda found, _: _not_integer(found),
    "bool_type": lambda found, _: f"{found} is neither true nor false; write true or false",
    "greater_than_equal": lambda found, ctx: f"{found} is too small; write at least {ctx['ge']}",
    "less_than_equal": lambda found, ctx: f"{found} is too large; write at most {ctx['le']}",
    "tuple_type": lambda found, _: f"{found} is not a list; write its items in brackets such as [a, b]",
    "too_short": lambda _, ctx: f"has no items; write at least {ctx['min_length']}",
    "too_long": lambda _, ctx: f"has {ctx['actual_length']} items; write {ctx['max_length']}",
}
