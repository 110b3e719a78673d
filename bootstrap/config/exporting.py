"""The schema of the configuration, for editors and for the documentation."""

import json
from typing import Any

from bootstrap.config.cross.pools import families
from bootstrap.config.docstrings import docstrings
from bootstrap.config.problems import models_in
from bootstrap.model import Cluster
from bootstrap.model.addons import names
from bootstrap.model.base import Model

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of one configuration file that stands alone."""
    found = Cluster.model_json_schema(by_alias=True, mode="validation")
    definitions = found["$defs"]
    for model in _models(Cluster):
        _describe(model, found if model is Cluster else definitions[model.__name__], definitions)
    definitions["Os"]["properties"]["family"]["enum"] = list(families())
    choice = definitions["AddonChoice"]
    choice["minProperties"] = choice["maxProperties"] = 1
    definitions["Addon"] = {
        "anyOf": [{"enum": list(names()), "type": "string"}, {"$ref": "#/$defs/AddonChoice"}]
    }
    found["properties"]["addons"]["items"] = {"$ref": "#/$defs/Addon"}
    return {"$schema": DIALECT, **found, "title": "firstlight configuration"}


def _models(model: type[Model]) -> set[type[Model]]:
    """Return `model` and all that it is made of."""
    parts = {part for field in model.model_fields.values() for part in models_in(field.annotation)}
    return {model}.union(*map(_models, parts))


def _describe(model: type[Model], definition: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Add what the model says of its fields; not what the model of the value says of itself already."""
    for name, text in docstrings(model).items():
        field = definition["properties"][model.model_fields[name].alias or name]
        kind = definitions.get(field.get("$ref", "").rpartition("/")[2], {})
        if kind.get("description") != text:
            field["description"] = text


def schema_text() -> str:
    """Return the text of configs/config.schema.json: the same model, the same bytes."""
    return json.dumps(schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
