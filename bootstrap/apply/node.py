"""What makes a control-plane host a node and what ends it, beside files and units: its certificate, and its leaving."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bootstrap.apply.facts import Facts
from bootstrap.kubernetes.host_node import CERTIFIED
from bootstrap.kubernetes.places import KUBELET_CA
from bootstrap.kubernetes.tree import HostTree
from certs.node import node_certificate_problem

FIRST = CERTIFIED[0]
"""The unit before whose start the certificate must be there."""


@dataclass(frozen=True)
class Certify:
    """Have the host make a key, if it has none, and give it a certificate for it; `reason` says why."""

    host: str
    reason: str


@dataclass(frozen=True)
class Leave:
    """Take the host's node out of the cluster, as it is to be none any more: its pods leave, its object goes."""

    host: str


@dataclass(frozen=True)
class Forget:
    """Remove what kubelet left on a host that is no node any more: containers, pods' network, key, certificate."""

    host: str


NodeStep = Certify | Leave | Forget


def node_text(step: NodeStep) -> str:
    """Return what a step does, for people."""
    match step:
        case Certify(host, reason):
            return f"{host}: certificate of node {host} for a key that is made and stays there ({reason})"
        case Leave(host):
            return (
                f"{host}: take node {host} out of the cluster: no new pods, its pods leave, its object goes"
            )
        case Forget(host):
            return f"{host}: remove containers, pods' network, key and certificate of its kubelet"


def uncertified(trees: Sequence[HostTree], facts: Mapping[str, Facts]) -> Iterator[Certify]:
    """Yield the step for each host that is to be a node and has no certificate that is good for it."""
    for tree in trees:
        if tree.is_node and tree.host in facts and (reason := _reason(tree, facts[tree.host])):
            yield Certify(tree.host, reason)


def _reason(tree: HostTree, facts: Facts) -> str:
    authority = tree.files[KUBELET_CA].content if KUBELET_CA in tree.files else b""
    now = datetime.fromtimestamp(facts.clock, UTC)
    pem = authority if isinstance(authority, bytes) else b""
    return node_certificate_problem(facts.certificate, tree.host, pem, now)


def leaving(trees: Sequence[HostTree], facts: Mapping[str, Facts]) -> tuple[str, ...]:
    """Return the hosts that have a node's key, and are to be no nodes."""
    return tuple(
        tree.host
        for tree in trees
        if not tree.is_node and tree.host in facts and facts[tree.host].has_node_key
    )


def restarts_for_certificate(unit: str, host: str, certified: Collection[str]) -> bool:
    """Return whether a unit must read the certificate that its host gets in this run."""
    return unit in CERTIFIED and host in certified
