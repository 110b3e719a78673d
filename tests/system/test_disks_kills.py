"""The power goes while a machine installs: the disk is untouched, or ours and not bootable, or complete."""

import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bootstrap.processes import wait_until
from tests.system.disk_rack import BOOT_SECONDS, Box, Look, blank, digest, fill, look, order, rack
from tests.system.spine import CACHE, Site, wait_for
from tests.tier import Promise, dice, rounds, seed

pytestmark = [pytest.mark.system, pytest.mark.promise]

CONFIG = "tests/system/disks-kills.yaml"
TARGETS = {"k-bios": "K-BIOS", "k-uefi": "K-UEFI"}
INSTALL_SECONDS = 900.0
COMMIT = 97
"""The percentage that the installer tells before it writes the partition table."""
GRANTED = 2
"""What it tells first of all after the server counted the attempt."""
MOST_KILLS = 2  # of three attempts, so that the third can end


@pytest.fixture(scope="module", name="boxes")
def fixture_boxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Box]]:
    folder = tmp_path_factory.mktemp("kills")
    site = Site(deploy=folder / "deploy", cache=CACHE, configs=(CONFIG,), name="labkills")
    with rack(site, folder / "serve.log") as boxes:
        for box in boxes.values():
            decoy = next(disk for disk in box.vm.disks if disk.serial != TARGETS[box.name])
            fill(box.disk(decoy.serial), decoy.size, dice(f"decoy/{box.name}"))
        yield boxes


class Cuts:
    """Random moments at which the power of one machine goes, and what was found on its disk after each."""

    def __init__(self, box: Box, chance: random.Random) -> None:
        self.box = box
        self.chance = chance
        self.found: list[str] = []
        self.points: list[str] = []

    @property
    def target(self) -> str:
        return TARGETS[self.box.name]

    def new_disk(self) -> None:
        size = next(disk.size for disk in self.box.vm.disks if disk.serial == self.target)
        blank(self.box.disk(self.target), size)

    def cut_once(self, *, granted: bool = False) -> None:
        """Start an install, cut it at a random point, and look at the disk.

        With `granted` the point lies between the server's grant and the commit: it costs an attempt, surely.
        """
        box, path = self.box, self.box.disk(self.target)
        before = digest(path)
        box.power_on(order(box.vm, self.chance), *box.live())
        point, delay = self._point(granted=granted)
        reached = wait_until(lambda: self._progress() >= point or box.slot.pid() is None, INSTALL_SECONDS)
        assert reached, box.tail()
        time.sleep(delay)
        box.cut()
        self.points.append(f"{box.name} {point}%+{delay:.2f}s")
        self.found.append(self._verdict(before, look(path)))

    def _point(self, *, granted: bool) -> tuple[int, float]:
        """Return a percentage of the installer's progress, and seconds to wait after it."""
        if granted:
            return self.chance.randint(GRANTED, 79), self.chance.uniform(0, 1)
        if self.chance.random() < 0.25:  # the few moments in which the disk becomes bootable
            return COMMIT, self.chance.uniform(0, 1.5)
        return self.chance.randint(0, 100), self.chance.uniform(0, 2)

    def _progress(self) -> int:
        """Return how far the installer says it is; -1 before it runs, 101 when it has ended."""
        said = self.box.console()
        if re.search(r"is (already )?installed on", said):
            return 101
        steps = re.findall(r"firstlight: [a-z]+: (\d+)% ", said)
        return int(steps[-1]) if steps else -1 + ("installing" in said)

    def _verdict(self, before: str, found: Look) -> str:
        """Return what the cut left; anything but the three is a failure."""
        path, record = self.box.disk(self.target), self.box.record
        if digest(path) == before:
            return "complete" if found.complete else "untouched"
        assert (self.box.name, record["arm"]) == (found.marker.get("machine"), found.marker.get("arm")), found
        if found.complete:
            return "complete"
        assert not found.bootable, found
        assert found.marker["state"] == "installing", found
        if (
            found.primary or found.backup
        ):  # the commit's own milliseconds: all of it is there but the boot sector
            return "committing"
        return "ours"

    def finish(self) -> None:
        """Let the install go to its end, within the attempts that are left."""
        self.box.power_on(order(self.box.vm, self.chance), *self.box.live())
        self.box.wait_off(INSTALL_SECONDS)
        record, found = self.box.record, look(self.box.disk(self.target))
        assert "installed" == record["state"], self.box.tail()
        assert record["attempts"] <= 3
        assert found.complete
        assert ("installed", record["arm"]) == (found.marker["state"], found.marker["arm"])


def converge(cuts: Cuts, kills: int) -> None:
    """Cut `kills` installs, at most two of each arm, with every arm coming to its end."""
    box = cuts.box
    while True:
        cuts.new_disk()
        for _ in range(min(MOST_KILLS, kills)):
            cuts.cut_once()
            kills -= 1
            if box.record["state"] == "installed":
                break
        if box.record["state"] != "installed":
            cuts.finish()
        if not kills:
            return
        box.operator.act(box.name, "arm")


def run_out(cuts: Cuts) -> None:
    """Cut three granted installs: the fourth boot writes nothing, and says why."""
    box, path = cuts.box, cuts.box.disk(cuts.target)
    box.operator.act(box.name, "arm")
    cuts.new_disk()
    for _ in range(3):
        cuts.cut_once(granted=True)
    assert ("installing", 3) == (box.record["state"], box.record["attempts"])
    before = digest(path)
    box.power_on(order(box.vm, cuts.chance), *box.live())
    box.says("NOT INSTALLED: the server does not grant this install: 3 install attempts did not finish")
    box.cut()  # it only waits half a minute now, and restarts

    assert digest(path) == before
    assert not look(path).boot_signature
    assert ("failed", 3) == (box.record["state"], box.record["attempts"])
    assert "3 install attempts did not finish; last stage: " in box.record["message"]
    assert f"{box.name} is failed: 3 install attempts did not finish" in box.script()


def comes_up(cuts: Cuts) -> None:
    """Boot through the firmware and the network to the disk."""
    box = cuts.box
    box.power_on(order(box.vm, cuts.chance))
    wait_for(
        lambda: box.record["bootedAt"] is not None,
        f"{box.name} from disk: {box.tail()}",
        timeout=BOOT_SECONDS,
    )
    box.cut()


def with_firmware(cuts: Cuts, kills: int, *, counter: bool) -> None:
    """Put one machine through all of it; the last install goes to its end and is started."""
    if counter:
        run_out(cuts)
        cuts.box.operator.act(cuts.box.name, "arm")
    converge(cuts, kills)
    comes_up(cuts)


def test_whenever_the_power_goes_no_disk_is_left_half_bootable(
    boxes: dict[str, Box], promise: Promise
) -> None:
    """Random cuts of both firmwares' installs converge; three cuts of one arm end it, and a person can arm it again."""
    both = {name: Cuts(box, dice(f"kills/{name}")) for name, box in boxes.items()}
    decoys = {name: digest(box.disk(decoy_of(box))) for name, box in boxes.items()}
    kills = rounds(ci=0, soak=7), rounds(ci=2, soak=7)  # and three more of each machine that runs out
    counters = (True, rounds(ci=0, soak=1) == 1)
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(with_firmware, cuts, number, counter=counter)
            for cuts, number, counter in zip(both.values(), kills, counters, strict=True)
        ]
        for job in jobs:
            job.result()
    assert decoys == {name: digest(box.disk(decoy_of(box))) for name, box in boxes.items()}
    found = Counter(verdict for cuts in both.values() for verdict in cuts.found)
    points = ", ".join(point for cuts in both.values() for point in cuts.points)
    promise(
        promise="R-07 killed installs",
        asked="20 random power cuts, both firmwares: never a bootable half, converges, the counter stops",
        done=f"{found.total()} cuts ({points})",
        found="; ".join(f"{number} {verdict}" for verdict, number in sorted(found.items()))
        + f"; 0 bootable halves; {sum(counters)} stopped after 3 attempts",
        seed=seed(),
    )


def decoy_of(box: Box) -> str:
    return next(disk.serial for disk in box.vm.disks if disk.serial != TARGETS[box.name])
