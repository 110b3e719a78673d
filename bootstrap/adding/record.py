"""What of each addon is in the cluster, as its ConfigMap kube-system/firstlight-addons says.

It is written before anything is applied, so that nothing is ever forgotten, and after what is no longer wanted has
gone. Objects that it does not name are somebody else's: `remove` leaves them.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bootstrap.errors import ApiRefused

LABEL = "firstlight/addon"
"""Label of every object of an addon, with its name.

It is also what makes us a manager of each: who applies nothing but a name is none (KEP-555).
"""

NAMESPACE, NAME = "kube-system", "firstlight-addons"
THERE = "was there"


class Maps(Protocol):
    """What of the Kubernetes API the record needs (bootstrap/kubernetes/api.py)."""

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """Return the data of a ConfigMap, or None if it is not there."""

    def apply(self, objects: Iterable[Mapping[str, Any]]) -> list[str]:
        """Bring `objects` to the cluster."""


@dataclass(frozen=True, order=True)
class Ref:
    """What names an object of the API; `namespace` is empty for those of the whole cluster.

    One that `was_there` before an addon was applied is somebody else's too, and is never deleted.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    was_there: bool = False

    def __str__(self) -> str:
        """Return `Kind/name` or `Kind/namespace/name`."""
        return "/".join(filter(None, (self.kind, self.namespace, self.name)))

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """Return what stays the same in all versions of its API."""
        group = self.api_version.rpartition("/")[0]
        return group, self.kind, self.namespace, self.name


Record = Mapping[str, tuple[Ref, ...]]
"""Objects by addon, in the order in which they were applied."""


def ref_of(document: Mapping[str, Any]) -> Ref:
    """Return what names an object."""
    metadata = document["metadata"]
    return Ref(document["apiVersion"], document["kind"], metadata.get("namespace", ""), metadata["name"])


def read(maps: Maps) -> Record:
    """Return the record of the cluster; nothing if none was ever written.

    Raises:
        ApiDown: no API server answered.
        ApiRefused: it may not be read, or is damaged.
    """
    data = maps.config_map(NAMESPACE, NAME) or {}
    try:
        return {name: tuple(_ref(*each) for each in json.loads(text)) for name, text in data.items()}
    except (ValueError, TypeError) as error:
        raise ApiRefused(
            f"ConfigMap {NAMESPACE}/{NAME} is damaged ({error}); delete it, then `addon apply` writes it anew"
        ) from error


def write(maps: Maps, record: Record) -> None:
    """Write the record; addons without objects are not in it. Raises as `read`."""
    data = {name: _text(refs) for name, refs in sorted(record.items()) if refs}
    metadata = {"name": NAME, "namespace": NAMESPACE}
    maps.apply([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}])


def _ref(api_version: object, kind: object, namespace: object, name: object, mark: object = "") -> Ref:
    return Ref(str(api_version), str(kind), str(namespace), str(name), was_there=mark == THERE)


def _text(refs: Iterable[Ref]) -> str:
    parts = (
        (*[ref.api_version, ref.kind, ref.namespace, ref.name], *[THERE] * ref.was_there) for ref in refs
    )
    rows = map(json.dumps, parts)
    return "[\n " + ",\n ".join(rows) + "\n]"
