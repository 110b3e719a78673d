"""How a plan is done when something fails; the hosts here are fakes that remember."""

from collections.abc import Callable
from typing import Any

import pytest

from bootstrap.apply.node import Certify, Forget, Leave
from bootstrap.apply.plan import Phase, Plan, Probe, Put, Restart, Retire, Start
from bootstrap.apply.run import Outcome, Runner
from bootstrap.errors import ApplyError, HostError
from bootstrap.progress import silent
from tests.unit.apply.sample_hosts import tree_of

HOSTS = ("m1", "m2", "m3")


class FakeHost:
    """Remembers what it was told; fails when it is told what `bad` says."""

    def __init__(self, name: str, log: list[str], bad: str) -> None:
        self.name, self.log, self.bad = name, log, bad

    def put(self, step: Put, progress: Callable[[int, int], None]) -> None:
        progress(1, 1)
        self._do(f"{step.host} put")

    def request(self) -> bytes:
        self._do(f"{self.name} request")
        return b"csr"

    def certify(self, certificate: bytes) -> None:
        self._do(f"{self.name} has its {certificate.decode()}")

    def forget(self) -> None:
        self._do(f"{self.name} forget")

    def units(self, lines: tuple[str, ...]) -> None:
        self._do(f"{self.name} {lines[-1] if len(lines) == 1 else lines[2]}")

    def _do(self, what: str) -> None:
        self.log.append(what)
        if what == self.bad:
            raise HostError(self.name, f"{what}: failed")


class Remembers:
    """The prober and the journal of a run; the prober fails at what `bad` says."""

    def __init__(self, log: list[str], bad: str) -> None:
        self.log, self.bad = log, bad

    def healthy(self, host: str, unit: str) -> None:
        self.log.append(f"{host} probe {unit}")
        if self.bad == f"{host} probe {unit}":
            raise ApplyError(f"{self.bad}: failed")

    def leave(self, host: str) -> None:
        self.log.append(f"{host} leave")
        if self.bad == f"{host} leave":
            raise ApplyError(f"{self.bad}: failed")

    def certify(self, host: str, request: bytes) -> bytes:
        self.log.append(f"{host} certified {request.decode()}")
        return b"certificate"

    def etcd_begins(self) -> None:
        self.log.append("record")

    def etcd_seen(self, host: str) -> None:
        self.log.append(f"seen {host}")


def put(host: str) -> Put:
    return Put(host=host, tree=tree_of(host), changes=(), manifest=b"", journal=b"")


def done(phases: tuple[Phase, ...], bad: str = "") -> tuple[Outcome, list[str]]:
    log: list[str] = []
    keeps = Remembers(log, bad)
    remotes: Any = {name: FakeHost(name, log, bad) for name in HOSTS}
    outcome = Outcome(hosts=HOSTS)
    runner = Runner(
        remotes=remotes,
        prober=keeps,
        journal=keeps,
        say=log.append,
        progress=silent,
        certify=keeps.certify,
    )
    runner.run(Plan(phases=phases), outcome)
    return outcome, log


def rolling() -> tuple[Phase, ...]:
    return tuple(
        phase
        for host in HOSTS
        for phase in ((Restart(host, "a", "0"),), (Probe(host, "a", "after its restart"),))
    )


FRESH: tuple[Phase, ...] = (
    tuple(map(put, HOSTS)),
    tuple(Start(host, "etcd.service", "0", HOSTS) for host in HOSTS),
    tuple(Probe(host, "etcd.service", "after its start") for host in HOSTS),
)


def test_all_is_done_in_order_and_counted() -> None:
    outcome, log = done(FRESH)

    assert (outcome.exit_code, outcome.changes) == (0, 6)
    assert log.index("record") < min(log.index(f"{host} start etcd.service") for host in HOSTS)
    assert {f"seen {host}" for host in HOSTS} < set(log)


@pytest.mark.parametrize("bad", ["m2 restart a", "m2 probe a"])
def test_a_rolling_restart_ends_at_the_first_that_fails(bad: str) -> None:
    outcome, log = done(rolling(), bad)

    assert "m1 restart a" in log
    assert "m3 restart a" not in log
    assert (outcome.exit_code, list(outcome.failed)) == (3, ["m2"])
    assert "stopped here: what is not restarted yet runs on as it was" in log


def test_a_host_whose_files_fail_is_left_alone_and_the_others_go_on() -> None:
    phases = (tuple(map(put, HOSTS)), tuple(Start(host, "a", "0") for host in HOSTS))
    outcome, log = done(phases, "m1 put")

    assert outcome.exit_code == 3
    assert outcome.failed == {"m1": "m1 put: failed"}
    assert {"m2 start a", "m3 start a"} < set(log)
    assert "m1 start a" not in log


def test_etcd_does_not_start_for_the_first_time_without_a_member() -> None:
    outcome, log = done(FRESH, "m3 put")

    assert not any("start" in line for line in log if "etcd.service" in line)
    assert "record" not in log
    assert outcome.waiting.endswith("not done: m3")
    assert outcome.exit_code == 3


def test_a_probe_of_a_host_that_failed_keeps_the_others_from_restarting() -> None:
    phases = ((put("m2"),), (Probe("m2", "a", "before m1 restarts"),), (Restart("m1", "a", "0"),))
    outcome, log = done(phases, "m2 put")
    assert "m1 restart a" in log  # the probe itself was fine

    log_of_bad = done(phases, "m2 probe a")[1]
    assert "m1 restart a" not in log_of_bad
    assert outcome.exit_code == 3


def test_a_request_is_fetched_signed_here_and_the_certificate_brought_back() -> None:
    outcome, log = done(((Certify("m1", "it has none"),),))

    assert log[:3] == ["m1 request", "m1 certified csr", "m1 has its certificate"]
    assert outcome.changes == 1


def test_a_host_whose_pods_stay_keeps_its_kubelet_and_the_others_go_on() -> None:
    """Nothing of a node that did not leave is taken away."""
    leaving: tuple[Phase, ...] = (
        (Leave("m1"), Leave("m2")),
        (Retire("m1", "kubelet.service"),),
        (Retire("m2", "kubelet.service"),),
        (Forget("m1"), Forget("m2")),
        (put("m1"), put("m2")),
    )
    outcome, log = done(leaving, "m1 leave")

    assert outcome.failed == {"m1": "m1 leave: failed"}
    assert [line for line in log if line.startswith("m1 ") and "failed" not in line] == ["m1 leave"]
    assert {"m2 leave", "m2 forget", "m2 put"} < set(log)
    assert done(leaving)[0].exit_code == 0


def test_when_no_host_is_done_all_has_failed() -> None:
    outcome = Outcome(hosts=("m1",), failed={"m1": "down"})

    assert outcome.exit_code == 1
    assert Outcome(hosts=HOSTS, failed={"m1": "down"}).exit_code == 3
    assert Outcome(hosts=HOSTS).exit_code == 0
    assert Outcome(hosts=HOSTS, waiting="m3").exit_code == 3


def test_a_host_outside_of_the_limit_that_stopped_the_run_is_named() -> None:
    outcome = Outcome(hosts=("m1",), failed={"m3": "down"})

    assert (outcome.exit_code, outcome.touched) == (3, ("m1", "m3"))


def test_the_outcome_for_programs_has_every_host() -> None:
    data = done(FRESH, "m3 put")[0].to_data()
    hosts = data["hosts"]
    assert isinstance(hosts, dict)

    assert [hosts[name]["state"] for name in HOSTS] == ["done", "done", "failed"]
    assert hosts["m3"] == {"state": "failed", "error": "m3 put: failed", "steps": []}
    assert data["changes"] == 2
