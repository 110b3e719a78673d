"""The verb that brings another GPU driver to nodes: gpu upgrade."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import click

from bootstrap import artifacts
from bootstrap.cli.machines import EXIT_PARTLY, confirm, operator
from bootstrap.cli.main import Call
from bootstrap.cli.power import targets_of
from bootstrap.cli.results import emit, stderr
from bootstrap.config.suggest import choice
from bootstrap.errors import UsageError
from bootstrap.gpu.images import driver_of
from bootstrap.gpu.rollout import Planned, What, planned
from bootstrap.kubernetes.api import Api
from bootstrap.leaving import administrator
from bootstrap.model import Cluster
from bootstrap.power import Target
from bootstrap.switching import driver_name, switch
from bootstrap.upgrading import Again, How, Nodes, Stop, roll_out

HEADINGS = ("MACHINE", "POOL", "NOW", "WANTED", "WHAT", "BACK TO", "REMARK")
MOST_NAMES = 8
BY_HAND = {
    "netboot-and-cycle": "power it off and on by hand, and have it boot from the network",
    "cycle": "start it anew by hand, with systemctl reboot on it or by its power",
}


@click.command()
@click.option("--pool", "pools", multiple=True, metavar="POOL", help="Only this pool's; may be repeated.")
@click.option("--machine", "names", multiple=True, metavar="NAME", help="Only this machine; may be repeated.")
@click.option(
    "--timeout", type=click.FloatRange(min=1, max=86400), default=3600.0, show_default=True, metavar="SECONDS",
    help="How long a node's pods may take to leave, and how long it may take to come back.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would happen to which machine; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def upgrade(  # noqa: PLR0917  # click calls it, by name
    call: Call,
    pools: tuple[str, ...],
    names: tuple[str, ...],
    timeout: float,
    dry_run: bool,  # noqa: FBT001  # as above
    yes: bool,  # noqa: FBT001  # as above
) -> int:
    """Bring nodes the GPU driver that their pool wants by now, one node after the other.

    A driver in an image: the node is emptied, armed and installed anew, which ERASES its selected disk. A sysext of
    Flatcar: it is emptied and started anew. It takes pods again when the gate has verified its GPUs. One that does not
    come back verified is set back to what it ran, and the rest is left alone: exits 3 then, and says which. It may be
    cut off at any time, and run again: it goes on where it was.
    """
    cluster = call.cluster()
    _refuse_unknown(cluster, pools, names)
    place = call.place(cluster)
    api = Api(administrator(cluster, place.work))
    try:
        plans = _plans(call, cluster, api, lambda one: _is_meant(one, pools, names))
        if not plans:
            stderr().print("none of these machines gets a GPU driver from its pool: nothing to upgrade")
        if dry_run or not any(one.is_work or one.is_pinned for one in plans):
            _show(call, plans, lambda one: str(one.what))
            return EXIT_PARTLY if _lacking(plans) and not dry_run else 0
        if not yes:
            confirm(_question(plans))
        with place.locked():
            return _rolled_out(call, api, plans, timeout, _again(call, cluster, api))
    finally:
        api.close()


def _refuse_unknown(cluster: Cluster, pools: Iterable[str], names: Iterable[str]) -> None:
    for kind, wanted, known in (
        ("pool", pools, [pool.name for pool in cluster.pools]),
        ("machine", names, [machine.name for machine in cluster.machines]),
    ):
        for name in wanted:
            if name not in known:
                raise UsageError(f"there is no {kind} {name!r}; {choice(name, known)}")


def _is_meant(said: Mapping[str, Any], pools: Collection[str], names: Collection[str]) -> bool:
    return (not pools or said["pool"] in pools) and (not names or said["name"] in names)


def _plans(
    call: Call, cluster: Cluster, api: Api, is_meant: Callable[[Mapping[str, Any]], bool]
) -> tuple[Planned, ...]:
    """Return what is to become of which machine.

    Raises:
        UsageError: the appliance works by another configuration than this one.
    """
    said = [one for one in operator(call).gpus() if is_meant(one)]
    for one in said:
        ours = driver_of(cluster.pool(one["pool"]))
        if (one["target"] or {}).get("planned") != (ours.title if ours else None):
            raise UsageError(f"pool {one['pool']}: the appliance does not know this configuration yet: up")
    nodes = {node.name: node for node in api.nodes()}
    return planned(said, nodes, artifacts.manifests(call.place(cluster).cache))


def _again(call: Call, cluster: Cluster, api: Api) -> Again:
    def planned_anew(name: str) -> Planned | None:
        return next(iter(_plans(call, cluster, api, lambda one: one["name"] == name)), None)

    return planned_anew


def _question(plans: Sequence[Planned]) -> str:
    work = {what: [one.name for one in plans if one.what is what] for what in (What.INSTALL, What.RESTART)}
    asked = {
        What.INSTALL: "erase the disks of {} and install them with the new driver",
        What.RESTART: "start {} anew with the new driver",
    }
    told = [asked[what].format(_some(names)) for what, names in work.items() if names]
    return (
        f"{' and '.join(told) or 'take back that machines keep to an earlier driver'}, one after the other?"
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _rolled_out(call: Call, api: Nodes, plans: Sequence[Planned], seconds: float, again: Again) -> int:
    """Do it, print what became of each machine, and return the exit code."""
    console = stderr()
    how = How(
        seconds=seconds, tell=console.print, switch=_switch(targets_of(call, [one.name for one in plans]))
    )
    try:
        done, stop = roll_out(operator(call), api, plans, how, again)
    except KeyboardInterrupt:
        console.print(
            "cut off; a node that it was at takes no pods until this is run again, which goes on with it"
        )
        raise
    _show(call, plans, lambda one: _result(one, done, stop))
    rest = [one.name for one in plans if one.is_work and one.name not in (*done, stop.name if stop else "")]
    if stop is None:
        return EXIT_PARTLY if rest or _lacking(plans) else 0
    console.print(str(stop), style="bold red")
    if rest:
        console.print(f"not begun: {_some(rest)}")
    return EXIT_PARTLY


def _result(plan: Planned, done: Collection[str], stop: Stop | None) -> str:
    if plan.name in done:
        return "done"
    if stop is not None and plan.name == stop.name:
        return "failed"
    return "not begun" if plan.is_work else str(plan.what)


def _switch(targets: Sequence[Target]) -> Callable[[str, str], str]:
    """Return what switches a machine, and returns what is to be done by hand: nothing, if it could."""
    known = {target.name: target for target in targets}

    def act(name: str, action: str) -> str:
        if driver_name(known[name]) == "manual":
            return f"it has no power driver: {BY_HAND[action]}; waiting for that"
        (outcome,) = switch((known[name],), action)
        return f"{outcome.error}; {BY_HAND[action]}; waiting for that" if outcome.error else outcome.remark

    return act


def _lacking(plans: Iterable[Planned]) -> bool:
    return any(one.is_lacking for one in plans)


def _show(call: Call, plans: Sequence[Planned], what: Callable[[Planned], str]) -> None:
    rows = [
        (one.name, one.pool, one.now, str(one.wanted), what(one), str(one.back or "-"), one.why or "-")
        for one in plans
    ]
    emit(call.output, [{**one.plain(), "what": what(one)} for one in plans], HEADINGS, rows)
