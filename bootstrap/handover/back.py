"""The way back: the appliance in the cluster ends, its state comes here, and then the fence goes.

Each step may be done again, so a cut one goes on.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from bootstrap import accepted, allotment
from bootstrap.backup.manifest import STATE
from bootstrap.backup.restore import Order, Restored, restore
from bootstrap.containers.table import CONTAINERS, home
from bootstrap.disk import holding, sync_folder, write_file
from bootstrap.errors import ApplyError, UsageError
from bootstrap.handover import fence, manifests
from bootstrap.handover.fence import Fence
from bootstrap.handover.gathering import BACKUP, OWNER_ONLY, kept
from bootstrap.handover.moving import POLL_SECONDS, ClusterApi
from bootstrap.handover.parcel import NAMESPACE
from bootstrap.handover.step import step
from bootstrap.handover.unpack import MARK, id_in
from bootstrap.kubernetes import subnets
from bootstrap.model import Cluster
from bootstrap.progress import Reporter
from bootstrap.state.lastgood import copy_of, copy_to
from bootstrap.workplace import PRIVATE, Workplace

LEASES = Path("run/leases")


@dataclass(frozen=True, kw_only=True)
class Back:
    """What comes back: `folder` is a copy of the appliance's folder on the node. The caller holds the lock."""

    cluster: Cluster
    place: Workplace
    reporter: Reporter
    now: datetime
    folder: Path | None = None
    seconds: float = 120.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def take_back(back: Back, api: ClusterApi) -> bool:
    """End the appliance in the cluster and let the one here start again; False if its state is missing yet.

    Raises:
        ApiError: the cluster refused or did not answer; the fence stands.
        ApplyError: a pod did not end in time; the fence stands.
        UsageError: `folder` is no copy of this handover's; the fence stands.
        StateError, OSError: what is in `folder` is damaged, or cannot be written here; the fence stands.
    """
    standing = fence.read(back.place.work)
    if standing is None:
        back.reporter.say(f"the appliance of {back.place.name} was not handed over: nothing to bring back")
        return True
    with step(back.reporter, "end"):
        _end_there(back, api)
    if standing.stage == "open":
        if back.folder is None:
            back.reporter.say(_how(back, standing))
            return False
        with step(back.reporter, "state"):
            _take_state(back, standing, back.folder)
    with step(back.reporter, "open here"):
        api.delete("Namespace", NAMESPACE)
        fence.remove(back.place.work)
    return True


def give_up(back: Back) -> Restored | None:
    """Let the appliance here start again without the cluster, which is lost, from the backup of before; no arm stands.

    Return what the restore did; None if nothing was handed over.

    Raises:
        UsageError, BackupError, OSError: the backup is not there or cannot be brought back; nothing was changed.
    """
    standing = fence.read(back.place.work)
    if standing is None:
        back.reporter.say(f"the appliance of {back.place.name} was not handed over: nothing to bring back")
        return None
    if standing.stage == "closed":
        fence.remove(back.place.work)  # nothing ran there: what is here is the latest
        return None
    file = kept(back.place, standing) / BACKUP
    with step(back.reporter, "restore"):
        # The restored work folder has no fence: it goes in the one step in which the two folders swap.
        return restore(Order(file=file, cluster=back.cluster, place=back.place, is_forced=True), back.now)


def _end_there(back: Back, api: ClusterApi) -> None:
    """Delete both workloads, and wait until no pod of theirs is left."""
    for part in CONTAINERS:
        api.delete("Deployment", part, namespace=NAMESPACE)
    end = back.clock() + back.seconds
    while left := api.names("Pod", NAMESPACE, {"app.kubernetes.io/name": "firstlight"}):
        if back.clock() >= end:
            raise ApplyError(
                f"{', '.join(left)} did not end within {back.seconds:.0f} s: as long as the cluster has them they may"
                " answer machines. Look at the node, then run this again; if it is gone for good, delete its object"
                " (kubectl delete node), or give up what it has: handover --back --lost"
            )
        back.sleep(POLL_SECONDS)


def _how(back: Back, standing: Fence) -> str:
    there = manifests.place(back.cluster)
    return (
        f"the appliance in the cluster is stopped, and its state is on {standing.node}: copy the folder {there} from"
        f" there (scp -r root@{standing.node}:{there} FOLDER), then: handover --back --from FOLDER"
    )


def _take_state(back: Back, standing: Fence, folder: Path) -> None:
    """Put the state of the node's folder here, where nothing uses it while the fence stands."""
    found = id_in(folder / "state" / MARK)
    if found != standing.id:
        what = f"of handover {found}" if found else "no folder of an appliance in a cluster"
        raise UsageError(
            f"{folder} is {what}, and the state of handover {standing.id} is wanted: copy"
            f" {manifests.place(back.cluster)} from {standing.node}"
        )
    work, records = back.place.work, folder / home("web", "records")
    machines, numbers = accepted.read(records), allotment.recorded(records)
    if (folder / STATE).is_file():
        _take_store(folder / STATE, work / STATE)
    with holding(work):
        known = {one.mac: one for one in (*accepted.read(work), *machines)}
        accepted.write(work, known.values())
        allotment.record(work, subnets.joined(numbers, allotment.recorded(work)))
    leases = folder / home("pxe", "run", "leases")
    if leases.is_file():
        write_file(work / LEASES, leases.read_bytes(), OWNER_ONLY)


def _take_store(source: Path, target: Path) -> None:
    """Make `target` a whole and checked copy of `source`; what was there goes only then."""
    target.parent.mkdir(mode=PRIVATE, exist_ok=True)
    with TemporaryDirectory(prefix=".back-", dir=target.parent) as made:
        fresh = Path(made) / target.name
        copy_to(source, fresh)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        for suffix in ("-wal", "-shm"):
            target.with_name(target.name + suffix).unlink(missing_ok=True)
        copy_of(target).unlink(missing_ok=True)  # it is older
        fresh.replace(target)
    sync_folder(target.parent)
