"""The way back: the appliance in the cluster ends, its state comes here, and then the fence goes.

Each step may be done again, so a cut one goes on.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bootstrap.backup.restore import Order, Restored, restore
from bootstrap.handover import brought, fence, manifests
from bootstrap.handover.ending import Ended, Patience, await_end, end
from bootstrap.handover.fence import Fence
from bootstrap.handover.gathering import BACKUP, kept
from bootstrap.handover.moving import ClusterApi
from bootstrap.handover.parcel import NAMESPACE
from bootstrap.handover.step import step
from bootstrap.model import Cluster
from bootstrap.progress import Reporter
from bootstrap.workplace import Workplace


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

    @property
    def patience(self) -> Patience:
        """Return how long to wait for what ends there."""
        return Patience(seconds=self.seconds, clock=self.clock, sleep=self.sleep)


def take_back(back: Back, api: ClusterApi) -> bool:
    """End the appliance in the cluster and let the one here start again; False if its state is missing yet.

    Raises:
        ApiError: the cluster refused or did not answer; the fence stands.
        ApplyError: a pod did not end in time; the fence stands.
        UsageError: `folder` is no whole copy of this handover's; nothing was taken, the fence stands.
        StateError, OSError: what is in `folder` is damaged, or cannot be written here; the fence stands.
    """
    standing = fence.read(back.place.work)
    if standing is None:
        back.reporter.say(f"the appliance of {back.place.name} was not handed over: nothing to bring back")
        return True
    with step(back.reporter, "end"):
        ended = end(api, standing.node, back.patience)
        standing = _judged(back, standing, ended)
    if standing.stage == "open":
        if back.folder is None or ended.was_there:
            back.reporter.say(_how(back, standing))
            return False
        with step(back.reporter, "state"):
            is_wanted = brought.wants_store(back.place.work, kept(back.place, standing))
            found = brought.look(back.folder, standing, wants_store=is_wanted)
            brought.take(found, back.place.work)
    with step(back.reporter, "open here"):
        api.delete("Namespace", NAMESPACE)
        await_end(api, back.patience)  # a namespace that ends takes no new pod, but one may have come before
        fence.remove(back.place.work)
    return True


def _judged(back: Back, standing: Fence, ended: Ended) -> Fence:
    """Return the fence: `closed` again if the cluster knows that nothing over there ever had the state."""
    if standing.stage == "closed" or standing.is_laid or not ended.was_idle:
        return standing
    fence.write(back.place.work, closed := standing.model_copy(update={"stage": "closed"}))
    back.reporter.say(
        f"nothing of it ever ran on {standing.node}, as when an image cannot be pulled: what is here is the latest"
    )
    return closed


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


def _how(back: Back, standing: Fence) -> str:
    there = manifests.place(back.cluster)
    late = f"; {back.folder} was copied before it ended, and is not used" if back.folder else ""
    return (
        f"the appliance in the cluster is stopped, and its state is on {standing.node}{late}: copy the folder {there}"
        f" from there now (mkdir FOLDER && ssh root@{standing.node} tar -C {there} -c . | tar -C FOLDER -x), then:"
        f" handover --back --from FOLDER. If there is no such folder, as nothing ever ran there: handover --back --lost"
    )
