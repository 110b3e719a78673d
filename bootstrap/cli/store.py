"""Verbs about where the state is kept: store migrate."""

import click

from bootstrap import stores
from bootstrap.backup.restore import refuse_running
from bootstrap.cli.main import Call
from bootstrap.cli.results import emit, stderr
from bootstrap.cli.screen import Screen
from bootstrap.errors import UsageError
from bootstrap.handover import fence
from bootstrap.model import Cluster
from bootstrap.state.moving import End, Moved, is_touched, move, taken_back_alone
from bootstrap.workplace import Workplace

KINDS = ("sqlite", "etcd")
HEADINGS = ("STORE", "ENTRIES", "MACHINES", "EVENTS", "WRITTEN", "SHA256")


@click.group()
def store() -> None:
    """Move the state of the machines between the file in the work folder and etcd (docs/stores.md)."""


@store.command()
@click.option("--to", "kind", type=click.Choice(KINDS), required=True, help="Where the state goes.")
@click.option("--replace", is_flag=True, help="Overwrite a state that is there already.")
@click.option(
    "--without-etcd",
    "is_etcd_lost",
    is_flag=True,
    help="With --to sqlite, of an interrupted move to an etcd that is lost: do not ask it.",
)
@click.pass_obj
def migrate(call: Call, kind: str, replace: bool, is_etcd_lost: bool) -> None:  # noqa: FBT001  # click calls it
    """Copy the state to the other store, compare both ends, and close the old one; the appliance must be down.

    The configuration names etcd (`appliance.store: etcd`), in both directions. What was interrupted goes on when
    this is run again; until it is done, nobody serves from either store.
    """
    cluster = call.cluster()
    place = call.place(cluster)
    if is_etcd_lost and (kind != "sqlite" or replace):
        raise UsageError("--without-etcd goes with --to sqlite alone")
    if cluster.appliance.etcd is None and not is_etcd_lost:
        raise UsageError(
            "the configuration names no etcd; write store: etcd and etcd: {endpoints: [...]} in appliance"
        )
    fence.refuse(place.work, place.name)
    if not (place.work / stores.DATABASE).exists() and (kind == "etcd" or is_etcd_lost):
        raise UsageError(f"{place.work / stores.DATABASE} is not there: there is nothing to move")
    with place.locked():
        refuse_running(place)
        if is_etcd_lost:
            done = _taken_back(place)
        else:
            stores.bring_credentials(cluster, call.base(), place.work)
            done = _moved(cluster, place, kind, replace=replace)
    data = {
        "store": kind,
        "entries": done.entries,
        "machines": done.machines,
        "events": done.events,
        "written": done.written,
        "sha256": done.sum,
    }
    emit(call.output, data, HEADINGS, [tuple(map(str, data.values()))])
    if is_etcd_lost:
        stderr().print(
            "etcd was not asked: never serve from what is there; `store migrate --to etcd` moves the state anew"
        )
    if kind == "sqlite":
        stderr().print("now write `store: sqlite` and remove `etcd:` in appliance, then `up`")


def _taken_back(place: Workplace) -> Moved:
    file = stores.open_file(place.work)
    try:
        return taken_back_alone(End(kind="sqlite", store=file), "etcd")
    finally:
        file.close()


def _moved(cluster: Cluster, place: Workplace, kind: str, *, replace: bool) -> Moved:
    etcd = stores.open_shared(cluster, place.work, moves=True)
    try:
        if kind == "sqlite" and not (is_touched(etcd) or any(etcd.scan("machine/"))):
            raise UsageError("etcd holds no state of this cluster; there is nothing to move")
        etcd.sweep()  # finds out whether it answers, before a file is touched
        file = stores.open_file(place.work)
        try:
            ends = (End(kind="sqlite", store=file), End(kind="etcd", store=etcd))
            source, target = ends if kind == "etcd" else ends[::-1]
            with Screen(stderr(), total=1).step(f"moving the state to {kind}") as progress:
                return move(source, target, progress, replace=replace)
        finally:
            file.close()
    finally:
        etcd.close()
