"""What apply would do, from what hosts say: a pure question, so every answer is looked at here."""

from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap.apply.etcd_data import Etcd
from bootstrap.apply.facts import Facts, Found, UnitFacts
from bootstrap.apply.manifest import journal, manifest
from bootstrap.apply.plan import Change, Enable, Plan, Probe, Put, Restart, Retire, Start, plan, text_of
from bootstrap.kubernetes.tree import HostFile, HostTree
from tests.unit.apply.sample_hosts import UNITS, applied, empty, etcd_of, tree_of, with_file, with_unit

HOSTS = ("m1", "m2", "m3")
TREES = tuple(map(tree_of, HOSTS))
ETCD = etcd_of(TREES)
SEEN = replace(ETCD, seen=frozenset(HOSTS))
WAL = bytes.fromhex(
    "040000000000008408041000000000001f00000000000081080110a5d8e5b00d1a1508eba0cecdf2f9d2ae5110bfbcf5f5b9d3a19dc401"
)
"""The first bytes of a log of the cluster c43a869b9ebd5e3f, as etcd 3.4.23 wrote it."""


def texts(found: Plan) -> list[str]:
    return [text_of(step) for step in found.steps]


def planned(
    *facts: Facts, trees: tuple[HostTree, ...] = TREES, etcd: Etcd | None, record: Etcd | None = None
) -> Plan:
    return plan("rack1", trees, {each.name: each for each in facts}, etcd=etcd, record=record)


def test_where_all_is_as_it_should_be_nothing_is_done() -> None:
    assert planned(*map(applied, TREES), etcd=None) == Plan()


def test_a_fresh_cluster_gets_all_files_then_all_members_then_the_rest() -> None:
    found = planned(*map(empty, HOSTS), etcd=ETCD)

    assert [[text_of(step) for step in phase] for phase in found.phases] == [
        ["m1: files: 4 new", "m2: files: 4 new", "m3: files: 4 new"],
        [f"{host}: start etcd.service" for host in HOSTS],
        [f"{host}: etcd.service must be healthy after its start" for host in HOSTS],
        [f"{host}: start app.service" for host in HOSTS],
        [f"{host}: app.service must be healthy after its start" for host in HOSTS],
    ]
    assert found.changes == 9
    assert {step.needs for step in found.steps if isinstance(step, Start)} == {HOSTS, ()}


def test_a_first_start_of_etcd_waits_for_all_its_members() -> None:
    found = planned(empty("m1"), empty("m2"), etcd=ETCD)

    assert texts(found) == ["m1: files: 4 new", "m2: files: 4 new"]
    assert found.waiting == "etcd starts for the first time with all its members: m3 missing"


def test_a_changed_file_restarts_only_what_reads_it_one_host_at_a_time_with_probes() -> None:
    trees = tuple(tree_of(host, value=b"two\n") for host in HOSTS)
    found = planned(*map(applied, TREES), trees=trees, etcd=None)

    assert texts(found) == [
        *(f"{host}: files: 1 changed" for host in HOSTS),
        "m2: app.service must be healthy before m1 restarts",
        "m3: app.service must be healthy before m1 restarts",
        "m1: restart app.service",
        "m1: app.service must be healthy after its restart",
        "m1: app.service must be healthy before m2 restarts",
        "m3: app.service must be healthy before m2 restarts",
        "m2: restart app.service",
        "m2: app.service must be healthy after its restart",
        "m1: app.service must be healthy before m3 restarts",
        "m2: app.service must be healthy before m3 restarts",
        "m3: restart app.service",
        "m3: app.service must be healthy after its restart",
    ]
    assert [len(phase) for phase in found.phases] == [3, 2, 1, 1, 2, 1, 1, 2, 1, 1]


def test_what_is_down_starts_before_anything_that_is_up_restarts() -> None:
    down = with_unit(applied(TREES[1]), "app.service", UnitFacts("loaded", "failed", 0, "enabled"))
    stale = with_unit(applied(TREES[0]), "app.service", UnitFacts("loaded", "active", 7, "enabled", "old"))

    kinds = [type(step) for step in planned(stale, down, applied(TREES[2]), etcd=None).steps]

    assert kinds == [Start, Probe, Probe, Probe, Restart, Probe]


def test_a_run_that_was_cut_before_its_restarts_is_made_good() -> None:
    stale = with_unit(applied(TREES[0]), "app.service", UnitFacts("loaded", "active", 7, "enabled", ""))

    assert "m1: restart app.service" in texts(planned(stale, etcd=None))


def test_a_run_that_was_cut_among_its_files_is_made_good() -> None:
    cut = replace(applied(TREES[0]), is_cut=True)

    assert texts(planned(cut, etcd=None)) == ["m1: files: clear what a cut run left"]


def test_what_a_cut_run_was_about_to_make_is_ours_and_goes_when_it_is_no_longer_wanted() -> None:
    tree = TREES[0]
    facts = replace(applied(tree), journal=journal("rack1", tree, ["/etc/app/extra"]))
    facts = with_file(facts, "/etc/app/extra", Found("file", "0" * 64, 0o644, "root", "root"))

    (put,) = (step for step in planned(facts, etcd=None).steps if isinstance(step, Put))

    assert put.removed == ("/etc/app/extra",)
    assert put.unstamp == ("app.service",)


def test_a_removed_unit_is_stopped_before_its_file_goes() -> None:
    tree = TREES[0]
    old = HostTree("m1", {**tree.files, f"{UNITS}/old.service": HostFile(b"[Service]\n")}, tree.units)
    found = planned(applied(old), trees=(tree,), etcd=None)

    assert found.steps[0] == Retire("m1", "old.service")
    assert texts(found)[1] == "m1: files: 1 removed"


@pytest.mark.parametrize("kind", ["file", "link", "folder", "other"])
def test_something_in_our_place_that_is_not_ours_is_refused(kind: str) -> None:
    facts = with_file(empty("m1"), "/etc/app/config", Found(kind, "0" * 64, 0o644, "root", "root"))
    found = planned(facts, empty("m2"), etcd=None)

    assert list(found.problems) == ["m1"]
    assert "/etc/app/config is there already and not ours" in found.problems["m1"]
    assert {step.host for step in found.steps} == {"m2"}


def test_a_file_that_is_the_same_already_becomes_ours_without_being_sent() -> None:
    tree = TREES[0]
    facts = replace(applied(tree), manifest=None)

    (put,) = (step for step in planned(facts, etcd=None).steps if isinstance(step, Put))

    assert {each.kind for each in put.changes} == {"adopt"}
    assert dict(put.sent) == {}
    assert put.unstamp == ()


def test_what_somebody_changed_is_put_back_and_said() -> None:
    facts = applied(TREES[0])
    by_hand = Found("file", "1" * 64, 0o644, "root", "root", b"by hand\n")
    found = planned(with_file(facts, "/etc/app/config", by_hand), etcd=None)

    put = found.steps[0]
    assert isinstance(put, Put)
    assert text_of(put) == "m1: files: 1 put back"
    assert put.changes[0].diff == ("--- /etc/app/config\n+++ /etc/app/config\n@@ -1 +1 @@\n-by hand\n+one\n")
    assert "m1: restart app.service" in texts(found)


def test_an_owner_or_mode_that_changed_is_put_back() -> None:
    facts = applied(TREES[0])
    loose = replace(facts.files["/etc/app/key"], mode=0o644)
    put = planned(with_file(facts, "/etc/app/key", loose), etcd=None).steps[0]

    assert isinstance(put, Put)
    assert put.changes == (Change("/etc/app/key", "dress"),)


def test_a_secret_and_a_program_are_never_in_a_diff_or_a_repr(tmp_path: Path) -> None:
    program = tmp_path / "app"
    tree = tree_of("m1", program=program)
    found = planned(empty("m1"), trees=(tree,), etcd=None)

    put = found.steps[0]
    assert isinstance(put, Put)
    diffs = {each.path: each.diff for each in put.changes}
    assert diffs["/etc/app/key"].endswith("(holds a secret: not shown)\n")
    assert diffs["/opt/app"].endswith("(not text: not shown)\n")
    assert "hidden" not in repr(found) + "".join(diffs.values()) + manifest("rack1", tree).decode()


def test_a_unit_that_is_not_enabled_is_enabled_without_a_restart() -> None:
    facts = applied(TREES[0])
    unit = replace(facts.units["app.service"], enabled="disabled")

    assert planned(with_unit(facts, "app.service", unit), etcd=None).steps == (Enable("m1", "app.service"),)


def test_the_same_facts_give_the_same_plan() -> None:
    facts = [empty(host) for host in HOSTS]

    assert planned(*facts, etcd=ETCD) == planned(*facts, etcd=ETCD)


def test_data_of_another_etcd_cluster_stops_everything() -> None:
    found = planned(replace(empty("m1"), etcd_wal=WAL), empty("m2"), empty("m3"), etcd=ETCD)

    assert found.steps == ()
    assert "belongs to another etcd cluster (c43a869b9ebd5e3f; this one is" in found.stop
    assert "mv /var/lib/etcd /var/lib/etcd.old" in found.stop


def test_a_member_whose_data_is_gone_stops_everything() -> None:
    found = planned(applied(TREES[0]), applied(TREES[1]), applied(TREES[2]), etcd=ETCD, record=SEEN)

    assert found.steps == ()
    assert "it was a member of etcd and its data in /var/lib/etcd is gone" in found.stop
    assert "etcdctl member remove" in found.stop
