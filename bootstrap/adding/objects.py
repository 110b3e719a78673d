"""Objects of whatever kind by their plain documents: the API itself says which kinds there are and where they are.

Typed models would drop a field that they do not know; here everything that is written reaches the API server, which
refuses what it does not know (fieldValidation=Strict; before v1.25 server-side apply does so by itself).
"""

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote

from bootstrap.adding.record import LABEL, Ref, ref_of
from bootstrap.errors import ApiDown, ApiRefused
from bootstrap.kubernetes.connection import FIELD_MANAGER, NOT_FOUND

APPLY = "application/apply-patch+yaml"
"""Server-side apply takes YAML, and so JSON ("Server-Side Apply" of kubernetes.io)."""
JSON = "application/json"
BAD_REQUEST = 400
_MISSHAPEN = "failed to create typed patch object"
"""What v1.20 says of an unknown field or a value of another type, as a failure of its own (500)."""
UNAPPLICABLE = "apiregistration.k8s.io/"
"""v1.20 panics on server-side apply of these: https://github.com/kubernetes/kubernetes/issues/89264."""
MERGE = "application/merge-patch+json"
"""RFC 7386."""
_OWN = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")
"""Metadata that the API server writes."""

Document = dict[str, Any]


class NoSuchKind(ApiRefused):
    """The API has no kind of that name in that version."""


class Caller(Protocol):
    """What of the Kubernetes API is needed (bootstrap/kubernetes/api.py)."""

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
    ) -> Document:
        """Send a request and return the document that was answered."""


class Objects:
    """Gets, applies and deletes objects; asks once for the kinds of each version of an API."""

    def __init__(self, api: Caller) -> None:
        self._api = api
        self._kinds: dict[str, Mapping[str, tuple[str, bool]]] = {}

    def get(self, ref: Ref) -> Document | None:
        """Return the object, or None if it, its namespace or its kind is not there.

        Raises:
            ApiDown: no API server answered.
            ApiRefused: it may not be read.
        """
        try:
            return self._api.call("GET", self._path(ref))
        except ApiRefused as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def apply(self, document: Mapping[str, Any], *, force: bool, trial: bool = False) -> Document:
        """Bring an object to the cluster by server-side apply, and return it as it is then.

        With `force`, fields that others manage become ours. A trial asks the same, and nothing is kept (dryRun=All).

        Raises:
            ApiDown: no API server answered; asking again is safe.
            NoSuchKind: the API does not know its kind.
            ApiRefused: it has a field that the API does not know, its namespace is not there (404), or others manage
                a field of it (409).
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", "force": str(force).lower()}
        query |= {"dryRun": "All"} if trial else {}
        ref = ref_of(document)
        path = self._path(ref)
        if ref.api_version.startswith(UNAPPLICABLE):
            return self._merge(ref, document, {key: query[key] for key in query if key != "force"})
        try:
            return self._api.call("PATCH", path, query=query, body=document, content_type=APPLY)
        except ApiDown as error:
            if _MISSHAPEN in str(error):
                raise ApiRefused(str(error), BAD_REQUEST) from error
            raise

    def _merge(self, ref: Ref, document: Mapping[str, Any], query: Mapping[str, str]) -> Document:
        """Create an object, or write our fields over those that it has."""
        path = self._path(ref)
        if self.get(ref) is None:
            return self._api.call("POST", path.rpartition("/")[0], query=query, body=document)
        return self._api.call("PATCH", path, query=query, body=document, content_type=MERGE)

    def release(self, ref: Ref) -> None:
        """Give up our part in an object: what we alone have set goes, the rest is others' as before.

        Applying nothing does that ("Server-Side Apply", fields that are removed). Raises as `apply`.
        """
        place = {"namespace": ref.namespace} if ref.namespace else {}
        metadata = {"name": ref.name, **place}
        self.apply({"apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata}, force=False)

    def delete(self, ref: Ref) -> bool:
        """Delete an object after what belongs to it; return whether it was there. Raises as `get`."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
        try:
            self._api.call("DELETE", self._path(ref), body=body)
        except ApiRefused as error:
            if error.status == NOT_FOUND:
                return False
            raise
        return True

    def _path(self, ref: Ref) -> str:
        plural, is_namespaced = self._kind(ref)
        place = f"/namespaces/{quote(ref.namespace or 'default', safe='')}" if is_namespaced else ""
        return f"{_root(ref.api_version)}{place}/{plural}/{quote(ref.name, safe='')}"

    def _kind(self, ref: Ref) -> tuple[str, bool]:
        """Return a kind's plural, and whether its objects are in namespaces."""
        if ref.kind not in self._kinds.get(ref.api_version, {}):
            self._kinds[ref.api_version] = self._asked(ref.api_version)
        try:
            return self._kinds[ref.api_version][ref.kind]
        except KeyError:
            text = f"the API has no {ref.kind} in {ref.api_version}; apply its CustomResourceDefinition first"
            raise NoSuchKind(text, NOT_FOUND) from None

    def _asked(self, api_version: str) -> Mapping[str, tuple[str, bool]]:
        try:
            found = self._api.call("GET", _root(api_version))
        except ApiRefused as error:
            if error.status == NOT_FOUND:
                return {}
            raise
        return {
            one["kind"]: (one["name"], one["namespaced"])
            for one in found.get("resources", ())
            if "/" not in one["name"]  # a part of an object, such as its status
        }


def _root(api_version: str) -> str:
    return f"apis/{api_version}" if "/" in api_version else f"api/{api_version}"


def is_ours(found: Mapping[str, Any]) -> bool:
    """Return whether we have applied this object before, whoever else has a part in it (KEP-555)."""
    metadata = found.get("metadata", {})
    if str(found.get("apiVersion")).startswith(UNAPPLICABLE):
        return LABEL in (metadata.get("labels") or {})  # who manages what is not kept of them either
    fields = metadata.get("managedFields") or ()
    return any(one.get("manager") == FIELD_MANAGER and one.get("operation") == "Apply" for one in fields)


def wanted_part(document: Mapping[str, Any]) -> Document:
    """Return `document` without what the API server and controllers write of themselves."""
    metadata = {key: value for key, value in document.get("metadata", {}).items() if key not in _OWN}
    return {**{key: value for key, value in document.items() if key != "status"}, "metadata": metadata}
