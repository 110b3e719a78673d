"""The sample: what is made of what the cluster says, and that nothing of it stays."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from bootstrap.errors import ApiDown, ApiRefused
from bootstrap.gpu.sample import NAME, Seen, job, seen_from
from bootstrap.kubernetes.sample import Wait, run

NO_GPU = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."


def pod(phase: str = "Pending", *, node: str = "", made: str = "1", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{NAME}-{made}", "creationTimestamp": f"2026-01-01T00:00:0{made}Z"},
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase, **status},
    }


UNSCHEDULED = pod(conditions=[{"type": "PodScheduled", "status": "False", "message": NO_GPU}])


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"state": state}]}


@pytest.mark.parametrize(
    ("pods", "says"),
    [
        ([], "Pending: the cluster has not made its pod yet"),
        ([UNSCHEDULED], f"Pending: {NO_GPU}"),
        (
            [pod(conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}])],
            "Pending: Unschedulable",
        ),
        ([pod(node="w1", conditions=[{"type": "PodScheduled", "status": "True"}])], "Pending on w1"),
        ([pod(node="w1", **container(waiting={"reason": "ContainerCreating"}))], "Pending on w1"),
        (
            [pod(node="w1", **container(waiting={"reason": "ErrImagePull", "message": "no such host"}))],
            "Pending on w1: ErrImagePull: no such host",
        ),
        (
            [pod(node="w1", **container(waiting={"reason": "ImagePullBackOff"}))],
            "Pending on w1: ImagePullBackOff",
        ),
        ([pod("Running", node="w1", **container(running={}))], "Running on w1"),
        ([pod("Succeeded", node="w1", **container(terminated={"exitCode": 0}))], "Succeeded on w1"),
        ([pod("Failed", node="w1", **container(terminated={"exitCode": 3}))], "Failed on w1: exit code 3"),
        (
            [pod("Failed", node="w1", **container(terminated={"exitCode": 1, "reason": "Error"}))],
            "Failed on w1: exit code 1, Error",
        ),
        ([pod("Failed", node="w1", message="Evicted")], "Failed on w1: Evicted"),
        ([pod("Failed", made="1"), pod("Running", made="2")], "Running"),
        ([{"metadata": {"name": "x"}}], "Pending"),
    ],
)
def test_what_the_cluster_says_is_told_in_a_few_words(pods: list[dict[str, Any]], says: str) -> None:
    assert str(seen_from(pods)) == says


@dataclass
class Cluster:
    """A cluster that shows one of `turns` after the other, and the last one for ever."""

    turns: list[Any]
    left: int = 0  # looks for which a Job of an earlier run is there still
    says: Any = "Test PASSED\n"
    done: list[str] = field(default_factory=list)
    now: float = 0.0

    def apply(self, objects: Iterable[Mapping[str, Any]]) -> list[str]:
        self.done += [f"apply {one['kind']}" for one in objects]
        return []

    def delete(self, kind: str, name: str, *, namespace: str | None = None) -> bool:
        assert (kind, name, namespace) == ("Job", NAME, "default")
        self.done.append("delete")
        return self.left > 0

    def objects(self, kind: str, namespace: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        assert (namespace, dict(labels)) == ("default", {"app.kubernetes.io/name": NAME})
        if kind == "Job":
            self.left -= 1
            return [{}] if self.left > 0 else []
        turn = self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]
        if isinstance(turn, Exception):
            raise turn
        return list(turn)

    def log(self, namespace: str, name: str) -> str:
        assert (namespace, name) == ("default", f"{NAME}-1")
        if isinstance(self.says, Exception):
            raise self.says
        return str(self.says)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def run(self, seconds: float = 60) -> tuple[Seen, str, list[str]]:
        told: list[str] = []
        wait = Wait(seconds=seconds, tell=told.append, clock=lambda: self.now, sleep=self.sleep)
        ended = run(self, job(), wait)
        return ended.seen, ended.log, told


def test_one_that_succeeds_is_told_of_printed_and_gone() -> None:
    cluster = Cluster(
        [[], [pod("Running", node="w1")], [pod("Running", node="w1")], [pod("Succeeded", node="w1")]]
    )
    seen, log, told = cluster.run()

    assert (seen.phase, log) == ("Succeeded", "Test PASSED\n")
    assert told == ["Pending: the cluster has not made its pod yet", "Running on w1", "Succeeded on w1"]
    assert cluster.done == ["delete", "apply Job", "delete"]


def test_one_that_waits_for_a_gpu_waits_for_its_time_and_goes() -> None:
    cluster = Cluster([[UNSCHEDULED]])
    seen, log, told = cluster.run(30)

    assert (seen.phase, seen.reason, log) == ("Pending", NO_GPU, "")
    assert told == [f"Pending: {NO_GPU}"]
    assert (cluster.now, cluster.done[-1]) == (30, "delete")


def test_one_that_runs_too_long_is_printed_as_far_as_it_came() -> None:
    cluster = Cluster([[pod("Running", node="w1")]], says="step 1\n")
    seen, log, _ = cluster.run(30)

    assert (str(seen), log) == ("Running on w1", "step 1\n")
    assert (cluster.now, cluster.done[-1]) == (30, "delete")


def test_one_of_an_earlier_run_goes_first() -> None:
    cluster = Cluster([[pod("Succeeded")]], left=3)

    assert cluster.run()[0].phase == "Succeeded"
    assert cluster.now == 2


def test_one_of_an_earlier_run_that_does_not_go_is_named() -> None:
    cluster = Cluster([[]], left=1000)

    with pytest.raises(
        ApiRefused, match="of an earlier run does not go; kubectl delete job firstlight-gpu-sample"
    ):
        cluster.run()
    assert cluster.done == ["delete"]


def test_an_api_server_may_be_away_for_a_while() -> None:
    seen, _, told = Cluster([ApiDown("m1 is away"), [pod("Succeeded")]]).run()

    assert seen.phase == "Succeeded"
    assert told == ["m1 is away", "Succeeded"]


def test_one_that_stays_away_is_an_error_and_the_job_is_asked_to_go_all_the_same() -> None:
    cluster = Cluster([ApiDown("m1 is away")])

    with pytest.raises(ApiDown):
        cluster.run(5)
    assert cluster.done[-1] == "delete"


def test_a_log_that_cannot_be_read_is_no_failure_of_the_sample() -> None:
    seen, log, told = Cluster([[pod("Succeeded")]], says=ApiDown("remote error: tls")).run()

    assert (seen.phase, log) == ("Succeeded", "")
    assert told[-1] == "its log cannot be read: remote error: tls"
