"""Rules of Kubernetes: versions that are known here, labels that a node may have, lives of certificates."""

from collections.abc import Callable, Iterator

from bootstrap.config.cross.addresses import layout_of
from bootstrap.config.cross.view import View
from bootstrap.errors import Problem
from bootstrap.kubernetes.labels import may_label_itself
from bootstrap.kubernetes.releases import RELEASES, minor_of, supported
from bootstrap.model.amounts import duration_from
from bootstrap.model.base import shown

VERSION = ("kubernetes", "version")
PLUGIN = ("kubernetes", "cni", "plugin")
LIFE = ("kubernetes", "kubelet", "certificateLife")
SHORTEST_LIFE, LONGEST_LIFE = 3600, 365 * 86400
"""Seconds; under an hour an appliance that restarts loses nodes, and a leaf lives a year at most."""


def known_version(view: View) -> Iterator[Problem]:
    """Flags and files are those of minors that were looked at."""
    minor = view.read(lambda value: minor_of(str(value)), *VERSION)
    if minor is not None and minor not in RELEASES:
        example = f"v1.{max(RELEASES)}.0"
        yield view.problem(
            VERSION, f"v1.{minor} is not supported; write one of {supported()} such as {example}"
        )


def own_labels(view: View) -> Iterator[Problem]:
    """A node that asks for a label it may not give itself never starts."""
    for pool in view.each("pools"):
        for key in view.keys(*pool, "labels"):
            if not may_label_itself(key):
                advice = "write one outside of kubernetes.io and k8s.io"
                yield view.key_problem(
                    (*pool, "labels", key), f"{shown(key)} is a label that no node may give itself; {advice}"
                )


def certificate_life(view: View) -> Iterator[Problem]:
    """A certificate of a kubelet lives long enough to be renewed, and not for ever."""
    life = view.read(duration_from, *LIFE)
    if life is not None and not SHORTEST_LIFE <= life <= LONGEST_LIFE:
        yield view.problem(LIFE, f"{view.raw(*LIFE)} is out of range (1h to 365d); write how long such as 7d")


def routed_pods(view: View) -> Iterator[Problem]:
    """With cni bridge, pods are reached by way of their node's address, which must not be another tomorrow."""
    is_said = view.has(*PLUGIN) or not view.open("kubernetes", "cni")
    if is_said and view.text(*PLUGIN) != "bridge":
        return
    for machine in view.each("machines"):
        if view.open(*machine) and not view.has(*machine, "address"):
            advice = f"add address:, or write another plugin at {'.'.join(PLUGIN)}"
            yield view.problem(
                machine, f"has no fixed address, by which cni bridge reaches its pods; {advice}"
            )
    yield from _routed_beyond(view)


def _routed_beyond(view: View) -> Iterator[Problem]:
    """A node's route to another's pods leads through that node: there is none through a router in between."""
    layout = layout_of(view)
    for path, address in layout.machines:
        beyond = next((one for one in layout.further if address in one.network), None)
        if beyond is not None:
            network = f"{beyond.network} ({view.where((*beyond.path, 'subnet'))})"
            advice = f"write another plugin at {'.'.join(PLUGIN)}"
            yield view.problem(
                path,
                f"{address} is behind a router, in {network}, where cni bridge reaches no pods; {advice}",
            )


def taints_of_nodes(view: View) -> Iterator[Problem]:
    """Only a node can carry taints."""
    for host in view.each("controlPlane", "hosts"):
        if view.has(*host, "taints") and view.read(bool, *host, "node") is not True:
            yield view.key_problem(
                (*host, "taints"), "this host is no node; add node: true, or remove this key"
            )


RULES: tuple[Callable[[View], Iterator[Problem]], ...] = (
    known_version,
    own_labels,
    certificate_life,
    routed_pods,
    taints_of_nodes,
)
