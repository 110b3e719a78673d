"""The verb that brings the control-plane hosts to the configuration: apply."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime

import click

from bootstrap import steps
from bootstrap.adding.bring import Brought
from bootstrap.apply.control_plane import Looked, apply_cluster, plan_cluster
from bootstrap.apply.plan import Put, changes_something, text_of
from bootstrap.apply.run import Outcome
from bootstrap.apply.sites import site_of, trees_of
from bootstrap.cli.main import Call
from bootstrap.cli.passphrase import passphrase
from bootstrap.cli.results import emit, stderr
from bootstrap.cli.screen import Screen
from bootstrap.errors import FirstlightError, UsageError
from bootstrap.keys import preview_keys
from bootstrap.model import Cluster
from bootstrap.progress import silent

HEADINGS = ("HOST", "STATE", "CHANGES", "ERROR")
STEPS = 4  # check, keys, programs, apply
EXIT_PARTLY = 3


@click.command()
@click.option(
    "--limit", "limit", multiple=True, metavar="HOST", help="Only this control-plane host; may be repeated."
)
@click.option("--dry-run", is_flag=True, help="Show what would change, with diffs; change nothing.")
@click.pass_obj
def apply(call: Call, limit: tuple[str, ...], dry_run: bool) -> int:  # noqa: FBT001  # click calls it
    """Bring the control-plane hosts to the configuration over SSH, and prove that etcd and the API work.

    Files that differ are put in their places; units restart only if something that they read changed, one host at a
    time. A second run changes nothing; a run that was cut off goes on where it was. Exits 3 if only some hosts are
    done. The addons of the configuration follow, if all hosts are done (docs/addons.md).
    """
    cluster = call.cluster()
    must_have_hosts(cluster)
    if dry_run:
        sys.stdout.write(host_changes(call, cluster, limit=limit))
        return 0
    return apply_to(call, cluster, limit)


def must_have_hosts(cluster: Cluster) -> None:
    """Return if there is a host to apply to; raises UsageError."""
    if not cluster.control_plane.hosts:
        raise UsageError("controlPlane.hosts names no host; write there which hosts run the control plane")


def apply_to(call: Call, cluster: Cluster, limit: tuple[str, ...]) -> int:
    """Bring the hosts called `limit` (none: all) to the configuration, print what came of it, return the exit code."""
    outcome, brought = _applied(call, cluster, limit)
    rows = [_row(outcome, name) for name in outcome.touched]
    emit(call.output, {**outcome.to_data(), "addons": brought.to_data()}, HEADINGS, rows)
    return outcome.exit_code or (EXIT_PARTLY if brought.failed else 0)


def _applied(call: Call, cluster: Cluster, limit: tuple[str, ...]) -> tuple[Outcome, Brought]:
    screen = Screen(stderr(), total=STEPS + steps.has_addons(cluster))
    steps.check(call.paths(), cluster, screen)
    place = call.place(cluster)
    secret = passphrase()
    with place.locked():
        run = steps.Run(
            configs=call.paths(), place=place, cluster=cluster, reporter=screen, passphrase=secret
        )
        keyring = steps.keys(run)
        with screen.step("programs") as progress:
            trees = trees_of(cluster, place, keyring, base=call.base(), progress=progress)
        site = site_of(cluster, place.work, keyring, trees, passphrase=secret, ask=asking())
        outcome = apply_cluster(site, screen, datetime.now(UTC), limit=limit)
        has_addons = outcome.is_whole and steps.has_addons(cluster)
        return outcome, steps.addons(run) if has_addons else Brought()


def host_changes(call: Call, cluster: Cluster, *, limit: tuple[str, ...] = ()) -> str:
    """Return what applying would change on each host, with diffs; writes nothing anywhere.

    A host that cannot be reached is a line that says so.
    """
    place = call.place(cluster)
    now = datetime.now(UTC)
    try:
        keyring = preview_keys(cluster, place.work, now, passphrase()).keyring
        trees = trees_of(cluster, place, keyring, base=call.base(), keep=False)
        site = site_of(cluster, place.work, keyring, trees)
        looked = plan_cluster(site, now, silent, limit=limit)
    except UsageError:
        raise
    except FirstlightError as error:
        return f"control plane: {error}\n"
    return "".join(f"{line}\n" for line in _lines(looked)) + _diffs(looked)


def _lines(looked: Looked) -> list[str]:
    lines = [text_of(step) for step in looked.plan.steps if changes_something(step)]
    notes = [*looked.failed.values(), looked.plan.stop, looked.plan.waiting]
    return [*lines, *filter(None, notes)] or ["no control-plane host changes"]


def _diffs(looked: Looked) -> str:
    puts = [step for step in looked.plan.steps if isinstance(step, Put)]
    return "".join(f"=== {put.host}\n" + "".join(each.diff for each in put.changes) for put in puts)


def asking() -> Callable[[str], bool] | None:
    """Return how a person at a terminal is asked; None if there is none."""
    if not sys.stdin.isatty():
        return None
    return lambda question: click.confirm(question, err=True)


def _row(outcome: Outcome, name: str) -> tuple[str, ...]:
    changes = sum(changes_something(step) for step in outcome.done if step.host == name)
    error = outcome.failed.get(name, "")
    return (name, "failed" if error else "done", str(changes), error or "-")
