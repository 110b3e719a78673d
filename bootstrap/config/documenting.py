"""The table of all keys in docs/config.md, written from the schema."""

from collections.abc import Iterator
from typing import Any

from bootstrap.config.exporting import schema
from bootstrap.model.amounts import duration_text, size_text

_FORMATS = {
    "ipv4": "address",
    "ipv4interface": "address/prefix length",
    "ipv4network": "network/prefix length",
    "ipv4range": "first-last, or a network",
    "hostname": "address or host name",
    "mac": "MAC address",
    "uri": "URL",
}
_UNITS = {"size": size_text, "duration": duration_text}
_TYPES = {"string": "text", "integer": "number", "boolean": "true or false", "object": "mapping"}


def reference() -> str:
    """Return one Markdown table per section of the configuration: key, value, default, meaning."""
    found = schema()
    sections = []
    for name, field in found["properties"].items():
        rows = list(_rows(name, field, found["$defs"], required=name in found["required"]))
        table = "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows])
        sections.append(f"### {name}\n\n{table}\n")
    return "\n".join(sections)


def _rows(path: str, field: dict[str, Any], models: dict[str, Any], *, required: bool) -> Iterator[str]:
    """Yield the table's row of `field`, then those of the keys below it."""
    kinds = _kinds(field, models)
    default = "required" if required else _default(field, kinds[0])
    meaning = (field.get("description") or kinds[0].get("description", "")).replace("|", "\\|")
    yield f"| `{path}` | {' or '.join(dict.fromkeys(map(_named, kinds)))} | {default} | {meaning} |"
    for kind in kinds:
        many = kind.get("type") == "array"
        for model in _kinds(kind["items"], models) if many and "items" in kind else [kind]:
            yield from _below(f"{path}[]" if many else path, model, models)


def _below(path: str, model: dict[str, Any], models: dict[str, Any]) -> Iterator[str]:
    driver = model.get("properties", {}).get("driver", {}).get("const")
    for name, field in model.get("properties", {}).items():
        place = f"{path}({driver}).{name}" if driver else f"{path}.{name}"
        yield from _rows(place, field, models, required=name in model.get("required", ()))


def _kinds(field: dict[str, Any], models: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the schemas of which a value of `field` fits one, null left out."""
    if "$ref" in field:
        return _kinds(models[field["$ref"].rpartition("/")[2]], models)
    options = field.get("anyOf") or field.get("oneOf")
    if not options:
        return [field] if field.get("type") != "null" else []
    return [kind for option in options for kind in _kinds(option, models)]


def _named(kind: dict[str, Any]) -> str:
    if "const" in kind:
        return f"`{kind['const']}`"
    if "enum" in kind:
        return " or ".join(f"`{option}`" for option in kind["enum"])
    if kind.get("type") == "array":
        return "list"
    form = str(kind.get("format", ""))
    return _FORMATS.get(form, form) or _TYPES[kind["type"]]


def _default(field: dict[str, Any], kind: dict[str, Any]) -> str:
    default = field.get("default")
    in_units = _UNITS.get(kind.get("format", ""))
    if in_units and isinstance(default, int):
        return f"`{in_units(default)}`"
    if default in (None, "") or isinstance(default, (dict, list)):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"
