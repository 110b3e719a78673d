"""Verbs for the day that a disk dies: backup, restore."""

from datetime import UTC, datetime
from pathlib import Path

import click

from bootstrap import stores
from bootstrap.apply.sites import way_of
from bootstrap.backup.collect import Site
from bootstrap.backup.collect import backup as make_backup
from bootstrap.backup.manifest import Manifest
from bootstrap.backup.restore import RESTORED_SNAPSHOT, Order, Restored
from bootstrap.backup.restore import restore as bring_back
from bootstrap.backup.snapshot import steps
from bootstrap.cli.main import VERSION, Call
from bootstrap.cli.results import emit, stderr
from bootstrap.errors import UsageError
from bootstrap.handover import fence

EXIT_PARTLY = 3
HEADINGS = ("FILE", "CLUSTER", "TAKEN", "MEMBERS", "BYTES", "ETCD")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def backup(call: Call, file: Path) -> int:
    """Write keys, state and a snapshot of etcd to FILE, which must not exist; it holds private keys.

    The appliance may run. FILE is for its owner alone, and was read again when this ends. Exits 3 if etcd did not
    answer: then everything but the snapshot is in it.
    """
    cluster = call.cluster()
    place = call.place(cluster)
    if not place.work.is_dir():
        raise UsageError(f"cluster {place.name} has nothing in {place.work}: there is nothing to back up")
    with place.locked():
        if cluster.appliance.store == "etcd":
            stores.bring_credentials(cluster, call.base(), place.work)
        wrap = way_of(cluster, place.work).wrap
        site = Site(cluster=cluster, place=place, configs=call.paths(), version=VERSION, wrap=wrap)
        manifest = make_backup(site, file.absolute(), datetime.now(UTC))
        standing = fence.read(place.work)
    _show(call, file, manifest)
    if standing is not None:
        stderr().print(
            f"the state in it is of before the handover: what is newer is on {standing.node}; handover --back brings it"
        )
    if manifest.etcd_missing:
        stderr().print(
            f"no snapshot of etcd is in it: {manifest.etcd_missing}; run this again when etcd answers"
        )
        return EXIT_PARTLY
    return 0


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Move keys and state that are there aside, as a whole folder.")
@click.option(
    "--retired", "retired", multiple=True, metavar="NAME",
    help="This machine was retired since the backup: it must not come back. May be repeated.",
)  # fmt: skip
@click.pass_obj
def restore(call: Call, file: Path, force: bool, retired: tuple[str, ...]) -> None:  # noqa: FBT001  # click calls it
    """Bring keys and state back from FILE into the work folder; the appliance must be down.

    Every arm ends, and no machine is armed by its pool: nothing is erased before you say `machine arm`. Of etcd
    nothing is changed: the snapshot is put into the work folder, and how to bring it back is printed.
    """
    cluster = call.cluster()
    place = call.place(cluster)
    fence.refuse(place.work, place.name)
    with place.locked():
        if cluster.appliance.store == "etcd":
            stores.bring_credentials(cluster, call.base(), place.work)
        order = Order(file=file.absolute(), cluster=cluster, place=place, is_forced=force, retired=retired)
        done = bring_back(order, datetime.now(UTC))
    _show(call, file, done.manifest)
    _tell(done)
    snapshot = place.work / RESTORED_SNAPSHOT
    if cluster.etcd.members and snapshot.exists():
        for line in steps(cluster, snapshot):
            stderr().print(line)


def _tell(done: Restored) -> None:
    say = stderr().print
    for note in done.notes:
        say(note)
    if done.aside:
        say(f"what was there before is in {done.aside}")
    if done.closed:
        say(f"no longer armed: {', '.join(done.closed)}; `machine arm NAME` installs one anew")
    if done.members:
        taken = f"{done.manifest.taken_at:%Y-%m-%d %H:%M} UTC"
        say(
            f"members of the cluster as of {taken}: {', '.join(done.members)}; one that was retired since must not be "
            "here: restore again with --force --retired NAME, before `up`"
        )


def _show(call: Call, file: Path, manifest: Manifest) -> None:
    data = {
        "file": str(file),
        "cluster": manifest.cluster,
        "version": manifest.version,
        "takenAt": manifest.taken_at.isoformat(),
        "members": len(manifest.members),
        "bytes": manifest.size,
        "etcd": manifest.has_snapshot,
        "etcdMissing": manifest.etcd_missing,
    }
    etcd = "yes" if manifest.has_snapshot else "no"
    taken = f"{manifest.taken_at:%Y-%m-%dT%H:%M:%SZ}"
    row = (str(file), manifest.cluster, taken, str(len(manifest.members)), str(manifest.size), etcd)
    emit(call.output, data, HEADINGS, [row])
