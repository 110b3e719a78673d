"""Brings addons to the cluster, takes them away, and says what would change."""

import difflib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from bootstrap.adding import record
from bootstrap.adding.objects import Caller, NoSuchKind, Objects, is_ours, wanted_part
from bootstrap.adding.record import Maps, Record, Ref, ref_of
from bootstrap.adding.rendering import Chosen, Given, documents
from bootstrap.config import to_yaml
from bootstrap.errors import ApiDown, ApiError, ApiRefused
from bootstrap.kubernetes.api import CONFLICT
from bootstrap.kubernetes.connection import NOT_FOUND
from bootstrap.model import Cluster

SECONDS = 60.0
POLL_SECONDS = 0.5
INVALID = 422
DEFINITION = "CustomResourceDefinition"
KEPT = frozenset({DEFINITION, "Namespace", "PersistentVolume", "PersistentVolumeClaim"})
"""Kinds that hold what others put there: they go with `remove` alone."""

T = TypeVar("T")
Object = Mapping[str, Any]


class Api(Caller, Maps, Protocol):
    """What of the Kubernetes API addons need."""


@dataclass(frozen=True, kw_only=True)
class Wait:
    """How long is waited for the API to be able to, and who hears what was done."""

    seconds: float = SECONDS
    tell: Callable[[str], None] = print
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass
class Brought:
    """What came of it: objects that changed, and for each addon that is not done a line that says why."""

    changed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def to_data(self) -> dict[str, object]:
        """Return it for programs."""
        return {"changed": self.changed, "failed": self.failed}


def apply(
    api: Api, cluster: Cluster, items: Sequence[Chosen], given: Given, wait: Wait, *, force: bool = False
) -> Brought:
    """Bring addons to the cluster, one after the other; what an addon no longer makes is deleted, but for KEPT.

    A field that others manage is an addon's own where we have applied the object before, or with `force`. What was
    there before and is applied without force is never deleted.

    Raises:
        ConfigError: a folder of documents holds something else; nothing was changed.
    """
    rendered = {one.name: documents(cluster, one, given) for one in items}
    brought = Brought()
    for name, objects in rendered.items():
        try:
            _Run(api, wait, force=force).apply(name, objects, brought.changed)
        except ApiError as error:
            brought.failed[name] = str(error)
            wait.tell(f"addon {name}: {error}")
    return brought


def remove(api: Api, name: str, wait: Wait) -> Brought:
    """Delete what the record has of an addon, last applied first, and wait until it has gone.

    What was there before the addon stays. What is still there in the end stays in the record.

    Raises:
        ApiDown: no API server answered.
        ApiRefused: it may not be read.
    """
    brought = Brought()
    try:
        left = _Run(api, wait, force=False).remove(name, brought.changed)
    except ApiRefused as error:
        brought.failed[name] = str(error)
        return brought
    if left:
        names = ", ".join(map(str, left))
        brought.failed[name] = f"still there after {wait.seconds:g} s: {names}; look at their finalizers"
    return brought


def diff(api: Api, cluster: Cluster, items: Sequence[Chosen], given: Given) -> str:
    """Return what `apply` would change, as a unified diff of YAML; changes nothing.

    Raises:
        ApiDown: no API server answered.
        ApiRefused: it refuses an object.
        ConfigError: a folder of documents holds something else.
    """
    objects, known = Objects(api), record.read(api)
    texts = []
    for one in items:
        made = documents(cluster, one, given)
        texts += [_diff(objects, each) for each in made]
        gone = _no_longer(known.get(one.name, ()), [ref_of(each) for each in made])
        texts += [_lines(ref, objects.get(ref), None) for ref in gone if not ref.was_there]
    return "".join(texts)


@dataclass(frozen=True)
class _Run:
    """One addon on its way."""

    api: Api
    wait: Wait
    force: bool

    def apply(self, name: str, made: Sequence[Object], changed: list[str]) -> None:
        known = record.read(self.api)
        before = {ref.identity: ref for ref in known.get(name, ())}
        refs = [_marked_before(ref, before.get(ref.identity)) for ref in map(ref_of, made)]
        _must_be_free(name, refs, known)
        gone = _no_longer(known.get(name, ()), refs)
        wanted = {ref.identity for ref in refs}
        kept = [ref for ref in before.values() if ref.identity not in wanted and ref not in gone]
        self._write(known, name, (*kept, *gone, *refs))
        is_patient = any(each["kind"] == DEFINITION for each in made)
        objects = Objects(self.api)
        for number, each in enumerate(made):
            ref = self._marked(refs[number], objects)
            if ref != refs[number]:
                refs[number] = ref
                self._write(record.read(self.api), name, (*kept, *gone, *refs))
            if self._insist(lambda: self._put(objects, name, each), patient=is_patient):  # noqa: B023  # called at once
                changed.append(str(ref))
                self.wait.tell(f"applied {ref}")
        changed += [f"-{ref}" for ref in reversed(gone) if self._delete(objects, ref)]
        self._write(record.read(self.api), name, (*kept, *refs))

    def remove(self, name: str, changed: list[str]) -> list[Ref]:
        """Return what is still there in the end."""
        known, objects = record.read(self.api), Objects(self.api)
        others = {ref.identity for one, refs in known.items() if one != name for ref in refs}
        refs = [ref for ref in reversed(known.get(name, ())) if ref.identity not in others]
        ending = []
        for ref in refs:
            if self._insist(lambda: self._delete(objects, ref), patient=False):  # noqa: B023  # called at once
                changed.append(f"-{ref}")
                ending.append(ref)
        end = self.wait.clock() + self.wait.seconds
        while (left := [ref for ref in ending if objects.get(ref) is not None]) and self.wait.clock() <= end:
            self.wait.sleep(POLL_SECONDS)
        self._write(known, name, tuple(reversed(left)))
        return left

    def _marked(self, ref: Ref, objects: Objects) -> Ref:
        """Return `ref` with what is known now of who made its object."""
        found = objects.get(ref)
        if self.force or found is None:
            return replace(ref, was_there=False)
        return replace(ref, was_there=ref.was_there or _is_others(found))

    def _delete(self, objects: Objects, ref: Ref) -> bool:
        """Delete an object if it is ours alone to delete; return whether that was done."""
        found = objects.get(ref)
        if found is None:
            return False
        if ref.was_there or _is_others(found):
            if is_ours(found):
                objects.release(ref)
            self.wait.tell(f"left {ref}, which was there before")
            return False
        objects.delete(ref)
        self.wait.tell(f"deleted {ref}")
        return True

    def _write(self, known: Record, name: str, refs: Sequence[Ref]) -> None:
        wanted = {**known, name: tuple(refs)}
        if known.get(name, ()) != wanted[name]:
            self._insist(lambda: record.write(self.api, wanted), patient=False)

    def _put(self, objects: Objects, name: str, each: Object) -> bool:
        """Apply one object; return whether that changed it. Another's is taken only with force."""
        ref = ref_of(each)
        before = objects.get(ref)
        try:
            after = objects.apply(each, force=self.force or not _is_others(before))
        except ApiRefused as error:
            raise _advised(error, ref, name) from error
        if each["kind"] == DEFINITION:
            self._await_established(objects, ref)
        return before is None or wanted_part(before) != wanted_part(after)

    def _await_established(self, objects: Objects, ref: Ref) -> None:
        end = self.wait.clock() + self.wait.seconds
        while not _is_established(objects.get(ref) or {}):
            if self.wait.clock() > end:
                raise ApiRefused(f"{ref} is not established after {self.wait.seconds:g} s")
            self.wait.sleep(POLL_SECONDS)

    def _insist(self, act: Callable[[], T], *, patient: bool) -> T:
        """Do `act` until it works: API servers come up, namespaces and (`patient`) kinds appear a moment later."""
        end = self.wait.clock() + self.wait.seconds
        while True:
            try:
                return act()
            except ApiDown:
                if self.wait.clock() > end:
                    raise
            except ApiRefused as error:
                passes = patient if isinstance(error, NoSuchKind) else error.status == NOT_FOUND
                if not passes or self.wait.clock() > end:
                    raise
            self.wait.sleep(POLL_SECONDS)


def _marked_before(ref: Ref, known: Ref | None) -> Ref:
    """Return `ref`, in the version of its API that it has today, with the mark that the record has of it."""
    return replace(ref, was_there=known.was_there) if known else ref


def _is_others(found: Object | None) -> bool:
    """Return whether an object is there that we have never applied."""
    return found is not None and not is_ours(found)


def _must_be_free(name: str, refs: Sequence[Ref], known: Record) -> None:
    """Raise ApiRefused where two addons have one object, or one has it twice."""
    owners = {ref.identity: one for one, others in known.items() if one != name for ref in others}
    seen: set[tuple[str, str, str, str]] = set()
    for ref in refs:
        if ref.identity in owners:
            raise ApiRefused(
                f"{ref} is of the addon {owners[ref.identity]} already; take it out of one of them"
            )
        if ref.identity in seen:
            raise ApiRefused(f"{ref} is there twice; remove one")
        seen.add(ref.identity)


def _no_longer(before: Sequence[Ref], refs: Collection[Ref]) -> list[Ref]:
    """Return what an addon had and has no more, and what may go without being asked for."""
    wanted = {ref.identity for ref in refs}
    return [ref for ref in before if ref.identity not in wanted and ref.kind not in KEPT]


def _advised(error: ApiRefused, ref: Ref, name: str) -> ApiRefused:
    """Return `error` with what to do about it; a kind that is not there stays what it is."""
    if isinstance(error, NoSuchKind):
        return error
    advice = ""
    if error.status == CONFLICT:
        advice = f"; to make it ours all the same: addon apply {name} --force"
    elif error.status == INVALID and "immutable" in str(error):
        advice = f"; addon remove {name}, then addon apply {name}, makes it anew"
    return ApiRefused(f"{ref}: {error}{advice}", error.status)


def _is_established(definition: Object) -> bool:
    conditions = definition.get("status", {}).get("conditions") or ()  # null until somebody has looked at it
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def _diff(objects: Objects, each: Object) -> str:
    ref = ref_of(each)
    before = objects.get(ref)
    try:
        after: Object = objects.apply(each, force=True, trial=True)
    except ApiRefused as error:
        if error.status != NOT_FOUND:
            raise ApiRefused(f"{ref}: {error}", error.status) from error
        after = each  # its namespace or its kind comes with the addon itself
    return _lines(ref, before, after)


def _lines(ref: Ref, before: Object | None, after: Object | None) -> str:
    return "".join(difflib.unified_diff(_text(before), _text(after), f"cluster/{ref}", f"wanted/{ref}"))


def _text(each: Object | None) -> list[str]:
    return to_yaml(wanted_part(each)).splitlines(keepends=True) if each is not None else []


def workloads(objects: Objects, refs: Sequence[Ref]) -> Iterator[tuple[int, int]]:
    """Yield how many pods are ready and how many there should be, for each Deployment and DaemonSet of `refs`."""
    for ref in refs:
        if ref.kind not in ("DaemonSet", "Deployment"):
            continue
        found = objects.get(ref) or {}
        status: Mapping[str, int] = found.get("status", {})
        if ref.kind == "DaemonSet":
            yield status.get("numberReady", 0), status.get("desiredNumberScheduled", 0)
        else:
            yield status.get("readyReplicas", 0), found.get("spec", {}).get("replicas", 0)
