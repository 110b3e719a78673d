"""Hosts that are to be nodes, and hosts that are to be none any more: what is planned, and in which order."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bootstrap.apply.facts import Facts, facts_from
from bootstrap.apply.fitness import NODE_TOOLS, PLUGINS, unfit
from bootstrap.apply.host import SCRIPT
from bootstrap.apply.manifest import stamp_of
from bootstrap.apply.node import Certify, Forget, Leave
from bootstrap.apply.plan import Plan, Put, Restart, Retire, Start, plan, text_of
from bootstrap.kubernetes.control_plane import host_tree
from bootstrap.kubernetes.subnets import allotment
from bootstrap.kubernetes.tree import HostFile, HostTree
from certs.node import node_certificate
from tests.unit.apply.sample_hosts import applied, empty
from tests.unit.apply.test_apply_script import coded, said
from tests.unit.certs import crafted
from tests.unit.kubernetes.planes import cluster_of, keyring_of, programs, tree_of

CLOCK = 1_800_000_000
NOW = datetime.fromtimestamp(CLOCK, UTC)
NODE = tree_of("lab", nodes=True)
PLAIN = host_tree(
    cluster_of("lab"),
    "m1",
    keyring_of("lab"),
    programs(cluster_of("lab", nodes=True), "m1"),
    allotment(cluster_of("lab")),
)
TOOLS = frozenset({*NODE_TOOLS, PLUGINS})


def certified(*, days: int = 7) -> bytes:
    keyring = keyring_of("lab")
    return node_certificate(
        keyring, crafted.right("m1").pem(), "m1", life=timedelta(days=7), now=NOW - timedelta(days=7 - days)
    )


def a_node(*, days: int = 7) -> Facts:
    """Return what a host says that is a node; its certificate has `days` to go."""
    return replace(applied(NODE), has_node_key=True, certificate=certified(days=days), tools=TOOLS)


def planned(facts: Facts, tree: HostTree) -> Plan:
    return plan("rack1", (tree,), {"m1": facts})


def kinds(found: Plan) -> list[str]:
    return [
        f"{type(step).__name__} {step.unit}"
        if isinstance(step, (Start, Restart, Retire))
        else type(step).__name__
        for step in found.steps
    ]


def test_a_node_that_is_as_it_should_be_is_left_alone() -> None:
    assert planned(a_node(), NODE) == Plan()


def test_a_host_that_is_no_node_and_never_was_is_left_alone() -> None:
    assert planned(applied(PLAIN), PLAIN) == Plan()
    assert not any("kubelet" in text_of(step) for step in planned(empty("m1"), PLAIN).steps)


def test_a_host_gets_its_certificate_before_its_kubelet_starts_and_after_the_control_plane() -> None:
    found = kinds(planned(empty("m1"), NODE))

    order = [
        "Put",
        "Start kube-apiserver.service",
        "Start containerd.service",
        "Certify",
        "Start kubelet.service",
    ]
    assert [found.index(each) for each in order] == sorted(found.index(each) for each in order)
    assert found.count("Certify") == 1


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (replace(a_node(), certificate=b""), "it has none"),
        (a_node(days=0), "what it has ended at 2027-01-15 08:00 UTC"),
        (
            replace(a_node(), name="m1", certificate=b"?"),
            "what it has does not fit: not a certificate in PEM",
        ),
    ],
)
def test_a_node_without_a_good_certificate_gets_one_and_its_kubelet_restarts(
    facts: Facts, reason: str
) -> None:
    found = planned(facts, NODE)

    step = found.steps[0]
    assert step == Certify("m1", reason)
    assert text_of(step) == f"m1: certificate of node m1 for a key that is made and stays there ({reason})"
    assert [each for each in kinds(found) if each.startswith("Restart")] == [
        "Restart kubelet.service",
        "Restart kube-proxy.service",
    ]


def test_a_host_that_is_to_be_no_node_leaves_first_and_forgets_once_its_units_are_stopped() -> None:
    found = planned(a_node(), PLAIN)
    steps = kinds(found)

    assert found.steps[0] == Leave("m1")
    retired = [step.unit for step in found.steps if isinstance(step, Retire)]
    assert {"kubelet.service", "kube-proxy.service", "firstlight-pod-network.timer"} <= set(retired)
    assert steps.index("Forget") == 1 + len(retired)
    assert steps[steps.index("Forget") + 1 :] == ["Put"], "no other unit is touched"
    assert [len(phase) for phase in found.phases] == [1] * len(found.phases), (
        "a host does one thing at a time"
    )
    put = found.steps[-1]
    assert isinstance(put, Put)
    assert "/opt/firstlight/bin/kubelet" in put.removed


def test_a_run_that_was_cut_among_the_leaving_is_made_good() -> None:
    """The key goes last: as long as it is there, somebody was cut off."""
    found = planned(replace(applied(PLAIN), has_node_key=True), PLAIN)

    assert found.steps == (Leave("m1"), Forget("m1"))
    assert [text_of(step) for step in found.steps] == [
        "m1: take node m1 out of the cluster: no new pods, its pods leave, its object goes",
        "m1: remove containers, pods' network, key and certificate of its kubelet",
    ]


@pytest.mark.parametrize("lacks", [*NODE_TOOLS, PLUGINS])
def test_what_a_host_lacks_to_be_a_node_is_one_line_with_its_remedy(lacks: str) -> None:
    facts = replace(empty("m1"), tools=TOOLS - {lacks})
    error = unfit(facts, NOW, NODE)

    assert error is not None
    text = str(error)
    assert f"lacks {'the CNI plugins' if lacks == PLUGINS else lacks}; `apt-get install containerd" in text
    assert ("mirror.cniPlugins" in text) is (lacks == PLUGINS)
    assert "\n" not in text
    assert unfit(facts, NOW, PLAIN) is None, "others need none of it"
    assert unfit(replace(facts, tools=TOOLS), NOW, NODE) is None


def test_plugins_that_apply_brings_need_not_be_there() -> None:
    brought = replace(NODE, files={**NODE.files, "/opt/firstlight/cni/bridge": HostFile(b"")})

    assert unfit(replace(empty("m1"), tools=TOOLS - {PLUGINS}), NOW, brought) is None


def test_the_script_asks_for_the_tools_that_a_node_needs() -> None:
    line = next(line for line in SCRIPT.read_text().splitlines() if line.startswith("node_tools="))

    assert tuple(line.partition("=")[2].strip('"').split()) == NODE_TOOLS


def test_what_a_node_says_is_understood() -> None:
    found = facts_from(
        "m1",
        said(
            ("word", "node-key", "yes"),
            ("tool", "containerd", "yes"),
            ("tool", PLUGINS, "yes"),
            ("text", "certificate", coded("-----BEGIN")),
            ("word", "end", "yes"),
        ),
    )

    assert found.has_node_key
    assert found.tools == {"containerd", PLUGINS}
    assert found.certificate == b"-----BEGIN"
    assert not facts_from("m1", said(("word", "end", "yes"))).has_node_key


def test_a_kubelet_is_not_restarted_for_its_certificate_s_renewal() -> None:
    """kubelet writes it by itself: it is no file of ours."""
    unit = next(unit for unit in NODE.units if unit.name == "kubelet.service")

    assert not unit.is_touched_by("/var/lib/kubelet/pki/kubelet-client-current.pem")
    assert stamp_of(unit, NODE)
