"""A pod is idle if its kubelet says that nothing of it ever ran, or if it is on no node; the unknown is not idle."""

from datetime import UTC, datetime
from typing import Any

import pytest
from lightkube.codecs import from_dict

from bootstrap.kubernetes.seen import deployment_view_from, pod_view_from

PULLING = {"waiting": {"reason": "ImagePullBackOff"}}
LATER = {"waiting": {"reason": "PodInitializing"}}
DONE = {"terminated": {"exitCode": 0}}
FAILED = {"terminated": {"exitCode": 1}}
MADE = "2026-11-23T09:00:00Z"


def container(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    given = {"name": "c", "image": "", "imageID": "", "ready": False, "restartCount": 0, "lastState": {}}
    return {**given, "state": state, **more}


def pod(status: dict[str, Any] | None, node: str = "w1") -> Any:
    metadata = {"name": "web-1", "labels": {"a": "b"}, "creationTimestamp": MADE}
    spec = {"containers": [], **({"nodeName": node} if node else {})}
    return from_dict(
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}
    )


def both(init: dict[str, Any], main: dict[str, Any]) -> dict[str, Any]:
    return {"initContainerStatuses": [init], "containerStatuses": [main]}


@pytest.mark.parametrize(
    "found",
    [
        pod(None, node=""),
        pod({}, node=""),
        pod(both(container(PULLING), container(LATER))),
        pod(both(container(FAILED, restartCount=3, lastState=FAILED), container(LATER))),
        pod({"initContainerStatuses": [container(PULLING)]}),
    ],
)
def test_what_never_ran_is_idle(found: Any) -> None:
    assert pod_view_from(found).is_idle


@pytest.mark.parametrize(
    "status",
    [
        None,  # a kubelet that is away has told nothing
        {},
        both(container({"running": {"startedAt": MADE}}), container(LATER)),
        both(container(DONE), container(PULLING)),
        both(container(PULLING, lastState=DONE), container(LATER)),
        both(container(PULLING), container(LATER, containerID="containerd://1")),
        both(container(PULLING), container(LATER, restartCount=1)),
        both(container(PULLING), container(LATER, lastState=FAILED)),
        both(container(PULLING), container({"running": {"startedAt": MADE}})),
    ],
)
def test_what_may_have_run_is_not(status: dict[str, Any] | None) -> None:
    assert not pod_view_from(pod(status)).is_idle


def test_when_it_was_made_is_known() -> None:
    found = from_dict(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "generation": 2, "creationTimestamp": MADE},
            "spec": {"selector": {}, "template": {}},
        }
    )
    made = datetime(2026, 11, 23, 9, tzinfo=UTC)

    assert (deployment_view_from(found).made, deployment_view_from(found).generation) == (made, 2)
    view = pod_view_from(pod(None))
    assert (view.name, view.labels, view.made) == ("web-1", {"a": "b"}, made)
