"""What apply does where certificates have ended: those who hold them restart together, the others one by one."""

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bootstrap.apply.expiry import has_ended
from bootstrap.apply.facts import Facts, Found, UnitFacts
from bootstrap.apply.plan import Plan, Probe, Restart, Start, plan, text_of
from bootstrap.kubernetes.tree import HostFile, HostTree, Unit
from certs.keystore import Keystore
from tests.unit.apply.sample_hosts import UNITS, applied, tree_of, with_file, with_unit
from tests.unit.certs.samples import ROWS

HOSTS = ("m1", "m2", "m3")
BEGUN = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
A_YEAR_LATER = BEGUN + timedelta(days=366)
CERTIFICATE = "/etc/etcd/peer.crt"
UNIT = "etcd.service"


@cache
def certificates() -> tuple[bytes, bytes]:
    """The first certificate of a member, of a year, and the one that took its place."""
    with TemporaryDirectory() as folder:
        store = Keystore(Path(folder))
        old = store.ensure(ROWS, BEGUN, None).certificates["etcd/peer-m1"]
        return old, store.renew(ROWS, A_YEAR_LATER, None).certificates["etcd/peer-m1"]


def tree(host: str, certificate: bytes) -> HostTree:
    plain = tree_of(host)
    etcd = Unit(UNIT, (f"{UNITS}/{UNIT}", "/etc/etcd/"), "etcd")
    return HostTree(host, {**plain.files, CERTIFICATE: HostFile(certificate)}, (etcd, *plain.units[1:]))


TREES = tuple(tree(host, certificates()[1]) for host in HOSTS)


def facts(host: str, *, now: datetime = A_YEAR_LATER, content: bytes | None = None) -> Facts:
    """What a host says that holds the first certificate."""
    before = replace(applied(tree(host, certificates()[0])), clock=int(now.timestamp()))
    return with_file(
        before, CERTIFICATE, replace(before.files[CERTIFICATE], content=content or certificates()[0])
    )


def planned(*found: Facts) -> Plan:
    return plan("rack1", TREES, {each.name: each for each in found})


def phases(found: Plan) -> list[list[str]]:
    return [[text_of(step) for step in phase] for phase in found.phases]


def test_where_all_certificates_have_ended_all_members_restart_together_after_all_files() -> None:
    assert phases(planned(*map(facts, HOSTS))) == [
        [f"{host}: files: 1 changed" for host in HOSTS],
        [f"{host}: restart etcd.service" for host in HOSTS],
        [f"{host}: etcd.service must be healthy after its restart" for host in HOSTS],
    ]


def test_a_renewal_in_time_is_rolling() -> None:
    early = BEGUN + timedelta(days=300)
    found = planned(*(facts(host, now=early) for host in HOSTS))

    assert all(sum(isinstance(step, Restart) for step in phase) <= 1 for phase in found.phases)
    assert sum(isinstance(step, Probe) for step in found.steps) == 9


def test_it_is_the_clock_of_the_host_that_counts() -> None:
    before = facts("m1", now=A_YEAR_LATER - timedelta(days=2))

    assert not has_ended(TREES[0], TREES[0].units[0], before)
    assert has_ended(TREES[0], TREES[0].units[0], facts("m1"))


def test_a_member_that_is_down_starts_with_those_that_have_to_restart() -> None:
    down = with_unit(facts("m2"), UNIT, UnitFacts("loaded", "failed", 0, "enabled"))

    assert phases(planned(facts("m1"), down, facts("m3")))[1] == [
        "m2: start etcd.service",
        "m1: restart etcd.service",
        "m3: restart etcd.service",
    ]


def test_a_majority_that_is_well_is_asked_before_and_keeps_its_quorum() -> None:
    well = facts("m2"), facts("m3")
    others = (with_file(each, CERTIFICATE, replace(each.files[CERTIFICATE], content=None)) for each in well)

    assert phases(planned(facts("m1"), *others))[1:4] == [
        [f"{host}: etcd.service must be healthy before m1 restarts" for host in ("m2", "m3")],
        ["m1: restart etcd.service"],
        ["m1: etcd.service must be healthy after its restart"],
    ]


def test_with_a_member_out_of_reach_the_others_come_up_without_it() -> None:
    assert phases(planned(facts("m1"), facts("m2")))[1:] == [
        ["m1: restart etcd.service", "m2: restart etcd.service"],
        [f"{host}: etcd.service must be healthy after its restart" for host in ("m1", "m2")],
    ]


def test_only_the_units_that_read_the_certificate_restart_together() -> None:
    names = {step.unit for step in planned(*map(facts, HOSTS)).steps if isinstance(step, (Restart, Start))}

    assert names == {UNIT}


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_certificate_is_no_matter_of_time(seed: int) -> None:
    chance = random.Random(seed)
    damaged = bytearray(certificates()[0])
    at = chance.randrange(30, len(damaged) - 30)
    damaged[at : at + 8] = b"########"
    found = facts("m1", content=bytes(damaged))

    assert not has_ended(TREES[0], TREES[0].units[0], found)


def test_what_is_no_file_of_ours_does_not_count() -> None:
    strange = Found("file", "0" * 64, 0o644, "root", "root", certificates()[0])
    found = with_file(applied(TREES[0]), "/etc/etcd/other.crt", strange)

    assert not has_ended(TREES[0], TREES[0].units[0], replace(found, clock=facts("m1").clock))


@dataclass
class Model:
    """Members as etcd has them: they hear each other by the certificates that they started with.

    A member is `current` or `stale` and well, `ended` and deaf, or `down`.
    """

    state: dict[str, str]

    @property
    def well(self) -> set[str]:
        return {name for name, how in self.state.items() if how in {"current", "stale"}}

    def has_quorum(self, without: frozenset[str] = frozenset()) -> bool:
        return 2 * len(self.well - without) > len(self.state)

    def run(self, found: Plan) -> None:
        """Do the plan; a member must be healthy when it is asked, and a quorum that is there stays."""
        for phase in found.phases:
            steps = [step for step in phase if getattr(step, "unit", UNIT) == UNIT]
            turned = frozenset(step.host for step in steps if isinstance(step, (Start, Restart)))
            if self.has_quorum():
                assert self.has_quorum(without=turned), f"{turned} at once, of {self.state}"
            self.state |= dict.fromkeys(turned, "current")
            for step in steps:
                if isinstance(step, Probe):
                    assert self.has_quorum(), f"{text_of(step)}: {self.state}"
                    assert step.host in self.well, f"{text_of(step)}: {self.state}"


def facts_of(state: Mapping[str, str]) -> list[Facts]:
    return [member_facts(host, how) for host, how in state.items()]


def member_facts(host: str, how: str) -> Facts:
    old = facts(host)
    match how:
        case "current":
            return replace(applied(tree(host, certificates()[1])), clock=old.clock)
        case "stale":
            return with_file(old, CERTIFICATE, replace(old.files[CERTIFICATE], content=None))
        case "down":
            return with_unit(old, UNIT, UnitFacts("loaded", "failed", 0, "enabled"))
        case _:
            return old


@pytest.mark.parametrize(
    ("size", "kinds"), [(3, ("current", "stale", "ended", "down")), (5, ("stale", "ended", "down"))]
)
def test_whatever_has_ended_or_is_down_every_member_gets_well_and_no_quorum_is_lost(
    size: int, kinds: tuple[str, ...]
) -> None:
    names = [f"m{number}" for number in range(1, size + 1)]
    trees = tuple(tree(name, certificates()[1]) for name in names)
    runs = 0
    for states in itertools.product(kinds, repeat=size):
        model = Model(dict(zip(names, states, strict=True)))
        model.run(plan("rack1", trees, {each.name: each for each in facts_of(model.state)}))
        assert set(model.state.values()) == {"current"}, states
        runs += 1
    assert runs == len(kinds) ** size
