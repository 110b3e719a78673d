"""The schema of the configuration, for editors and for the documentation."""

import json
from typing import Any

from bootstrap.config.cross.pools import families
from bootstrap.model import Cluster
from bootstrap.model.addons import names

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of one configuration file that stands alone."""
    found = Cluster.model_json_schema(by_alias=True, mode="validation")
    definitions = found["$defs"]
    definitions["Os"]["properties"]["family"]["enum"] = list(families())
    choice = definitions["AddonChoice"]
    choice["minProperties"] = choice["maxProperties"] = 1
    definitions["Addon"] = {
        "anyOf": [{"enum": list(names()), "type": "string"}, {"$ref": "#/$defs/AddonChoice"}]
    }
    found["properties"]["addons"]["items"] = {"$ref": "#/$defs/Addon"}
    return {"$schema": DIALECT, **found, "title": "firstlight configuration"}


def schema_text() -> str:
    """Return the text of configs/config.schema.json: the same model, the same bytes."""
    return json.dumps(schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
