"""A Deployment runs when the pods of today's template are there, and no others."""

from typing import Any

import pytest
from lightkube.codecs import from_dict

from bootstrap.kubernetes.seen import is_rolled_out

DONE = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}


def deployment(status: dict[str, Any] | None) -> Any:
    given = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "generation": 2}}
    spec: dict[str, Any] = {"replicas": 1, "selector": {}, "template": {"spec": {"containers": []}}}
    return from_dict({**given, "spec": spec, "status": status})


def test_one_pod_of_today_s_template_is_what_is_wanted() -> None:
    assert is_rolled_out(deployment(DONE))


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        {**DONE, "observedGeneration": 1},
        {**DONE, "updatedReplicas": None},
        {**DONE, "availableReplicas": None},
        {**DONE, "replicas": 2},
    ],
)
def test_nothing_else_is(status: dict[str, Any] | None) -> None:
    assert not is_rolled_out(deployment(status))
