"""The verb that moves the appliance into the cluster, and back: handover."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from bootstrap import steps
from bootstrap.cli.main import VERSION, Call
from bootstrap.cli.passphrase import passphrase
from bootstrap.cli.results import stderr
from bootstrap.cli.run import require_root
from bootstrap.cli.screen import Screen
from bootstrap.disk import read_bundle
from bootstrap.errors import UsageError
from bootstrap.handover import back as way_back
from bootstrap.handover import moving
from bootstrap.handover.gathering import Goods
from bootstrap.kubernetes.api import Api
from bootstrap.leaving import administrator
from bootstrap.model import Cluster
from bootstrap.workplace import Workplace

EXIT_PARTLY = 3
LONGEST_SECONDS = 86_400.0
PREPARED = 2
"""Steps before those of the handover itself: keys, render."""


@click.command()
@click.option("--to", "target", type=click.Choice(["cluster"]), help="Where the appliance goes.")
@click.option("--node", metavar="NAME", help="The node of the cluster that it runs on from then on.")
@click.option(
    "--output", "output", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Write the manifests into DIR in place of applying them; they hold keys and state.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show the steps; change nothing, ask nobody.")
@click.option(
    "--timeout", "seconds", type=click.FloatRange(1, LONGEST_SECONDS), default=300.0, show_default=True,
    metavar="SECONDS", help="How long to wait for the appliance there to be ready, or with --back to end.",
)  # fmt: skip
@click.option("--back", is_flag=True, help="End the appliance in the cluster and bring it back here.")
@click.option(
    "--from", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR",
    help="With --back: a copy of the appliance's folder on the node, with its state.",
)  # fmt: skip
@click.option(
    "--lost", is_flag=True,
    help="With --back: the cluster or the node is gone for good. From the state of before, and no arm stands.",
)  # fmt: skip
@click.pass_obj
def handover(
    call: Call,
    *,
    target: str | None,
    node: str | None,
    output: Path | None,
    dry_run: bool,
    seconds: float,
    back: bool,
    folder: Path | None,
    lost: bool,
) -> int:
    """Move the appliance into the cluster that it made (--to cluster --node NAME), or --back.

    The appliance here is stopped, and does not start here again until --back. Its state, its documents and its own
    leaf keys go as Secrets through the Kubernetes API; no CA's key does. Run it again to go on after an interruption,
    or to bring a changed configuration or renewed certificates there. Exits 3 if it is there and not ready.
    """
    _refuse(target=target, node=node, output=output, dry_run=dry_run, back=back, folder=folder, lost=lost)
    cluster = call.cluster()
    place = call.place(cluster)
    if back:
        return _back(cluster, place, folder=folder, lost=lost, seconds=seconds)
    goods = Goods(
        cluster=cluster,
        place=place,
        configs=call.paths(),
        version=VERSION,
        bundle=read_bundle(place.bundle) if dry_run else {},
        now=datetime.now(UTC),
    )
    move = moving.Move(
        goods=goods,
        node=node or "",
        reporter=Screen(stderr(), total=PREPARED + moving.STEPS - (output is not None)),
        output=output,
        seconds=seconds,
    )
    moving.refuse(move)
    if dry_run:
        for line in moving.plan(move):
            click.echo(line)
        return 0
    require_root("handover")
    with place.locked():
        return _hand_over(move)


def _refuse(**given: object) -> None:
    """Return if the options make sense together; raises UsageError."""
    if given["back"]:
        wrong = [name for name in ("target", "node", "output", "dry_run") if given[name]]
        if wrong or (given["folder"] and given["lost"]):
            raise UsageError(
                "--back goes with --from DIR, or with --lost, and with --timeout: leave the others out"
            )
        return
    if given["folder"] or given["lost"]:
        raise UsageError("--from and --lost are for the way back: write --back with them")
    if not given["target"] or not given["node"]:
        raise UsageError("where to? write --to cluster --node NAME, or --back")
    if given["output"] and given["dry_run"]:
        raise UsageError("--dry-run writes nothing: leave --output out, or --dry-run")


def _hand_over(move: moving.Move) -> int:
    place = move.goods.place
    run = steps.Run(
        configs=move.goods.configs,
        place=place,
        cluster=move.cluster,
        reporter=move.reporter,
        passphrase=passphrase(),
    )
    bundle = steps.render(run, steps.keys(run).public)
    whole = dataclasses.replace(move, goods=dataclasses.replace(move.goods, bundle=bundle))
    if move.output is not None:
        moving.hand_over(whole, None)
        return 0
    with _api(move.cluster, place) as api:
        is_ready = moving.hand_over(whole, api)
    if is_ready:
        move.reporter.say(f"the appliance of {place.name} runs on {move.node}; here it does not start")
        return 0
    move.reporter.say(
        f"it is handed over, and was not ready within {move.seconds:.0f} s: kubectl --namespace firstlight describe"
        " pods says why; run this again to wait on, or handover --back: that alone is enough if no pod ever began, as"
        " when its image cannot be pulled"
    )
    return EXIT_PARTLY


def _back(cluster: Cluster, place: Workplace, *, folder: Path | None, lost: bool, seconds: float) -> int:
    require_root("handover")
    if not place.work.is_dir():
        raise UsageError(
            f"cluster {place.name} has nothing in {place.work}: nothing was handed over from there"
        )
    screen = Screen(stderr(), total=1 if lost else 3)
    order = way_back.Back(
        cluster=cluster, place=place, reporter=screen, now=datetime.now(UTC), folder=folder, seconds=seconds
    )
    with place.locked():
        if lost:
            done = way_back.give_up(order)
            if done is not None and done.closed:
                screen.say(f"no longer armed: {', '.join(done.closed)}; `machine arm NAME` installs one anew")
            is_back = True
        else:
            with _api(cluster, place) as api:
                is_back = way_back.take_back(order, api)
    if not is_back:
        return EXIT_PARTLY
    screen.say(f"the appliance of {place.name} may run here: `up` starts it")
    return 0


@contextmanager
def _api(cluster: Cluster, place: Workplace) -> Iterator[Api]:
    api = Api(administrator(cluster, place.work))
    try:
        yield api
    finally:
        api.close()
