"""Runs the sample that asks for a GPU, waits for its end, and takes it away again."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bootstrap.errors import ApiDown, ApiError, ApiRefused
from bootstrap.gpu.sample import LABELS, NAME, NAMESPACE, RUNNING, Seen, seen_from

POLL_SECONDS = 1.0
GONE_SECONDS = 60.0


class Jobs(Protocol):
    """What of the Kubernetes API the sample needs (bootstrap/kubernetes/api.py)."""

    def apply(self, objects: Iterable[Mapping[str, Any]]) -> list[str]:
        """Bring `objects` to the cluster."""

    def delete(self, kind: str, name: str, *, namespace: str | None = None) -> bool:
        """Delete an object and what belongs to it; return whether it was there."""

    def objects(self, kind: str, namespace: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the objects with these labels."""

    def log(self, namespace: str, pod: str) -> str:
        """Return what a pod has printed."""


@dataclass(frozen=True, kw_only=True)
class Wait:
    """How long to wait, and who hears what happens."""

    seconds: float
    tell: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Ended:
    """What became of the sample, and what it printed."""

    seen: Seen
    log: str


def run(jobs: Jobs, job: Mapping[str, Any], wait: Wait) -> Ended:
    """Run `job` and return what became of it; it is gone then, whatever happened, and one of an earlier run too.

    Raises:
        ApiDown: no API server answered in time.
        ApiRefused: the cluster does not take it, or an earlier one does not go.
    """
    _take_away(jobs, wait)
    try:
        jobs.apply([job])
        seen = _await_end(jobs, wait)
        return Ended(seen, _log(jobs, seen, wait))
    finally:
        jobs.delete("Job", NAME, namespace=NAMESPACE)


def _take_away(jobs: Jobs, wait: Wait) -> None:
    """Delete the sample of an earlier run, and wait until it has gone with its pod."""
    if not jobs.delete("Job", NAME, namespace=NAMESPACE):
        return
    end = wait.clock() + GONE_SECONDS
    while jobs.objects("Job", NAMESPACE, LABELS):
        if wait.clock() > end:
            raise ApiRefused(
                f"Job {NAMESPACE}/{NAME} of an earlier run does not go; kubectl delete job {NAME}"
            )
        wait.sleep(POLL_SECONDS)


def _await_end(jobs: Jobs, wait: Wait) -> Seen:
    """Return what was seen last: its end, or where it stood when the time was over."""
    end, told, seen = wait.clock() + wait.seconds, "", Seen()
    while True:
        trouble: ApiDown | None = None
        try:
            seen = seen_from(jobs.objects("Pod", NAMESPACE, LABELS))
        except ApiDown as error:
            trouble = error
        text = str(trouble or seen)
        if text != told:
            wait.tell(text)
            told = text
        if seen.is_over:
            return seen
        if wait.clock() >= end:
            if trouble:
                raise trouble
            return seen
        wait.sleep(POLL_SECONDS)


def _log(jobs: Jobs, seen: Seen, wait: Wait) -> str:
    """Return what it has printed by now; that its kubelet does not tell is no failure of the sample."""
    if not (seen.is_over or seen.phase == RUNNING):
        return ""
    try:
        return jobs.log(NAMESPACE, seen.pod)
    except ApiError as error:
        wait.tell(f"its log cannot be read: {error}")
        return ""
