"""Four disks in another order at each boot, three of them full of known bytes: only the right one is ever written."""

import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.system.disk_kinds import run
from tests.system.disk_rack import BOOT_SECONDS, DECOY_WORD, Box, blank, copy, digest, fill, look, order, rack
from tests.system.spine import CACHE, Site, wait_for
from tests.tier import Promise, dice, rounds, seed

pytestmark = [pytest.mark.system, pytest.mark.promise]

CONFIG = "tests/system/disks-choice.yaml"
TARGETS = {"d-serial": "S-0001", "d-wwn": "W-ROOT", "d-type": "T-ROOT", "d-size": "Z-ROOT"}
PAIRS = (("d-serial", "d-wwn"), ("d-size", "d-type"))  # a BIOS and a UEFI machine at a time
INSTALL_SECONDS = 900.0


@pytest.fixture(scope="module", name="boxes")
def fixture_boxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Box]]:
    folder = tmp_path_factory.mktemp("choice")
    site = Site(deploy=folder / "deploy", cache=CACHE, configs=(CONFIG,), name="labdisks")
    with rack(site, folder / "serve.log") as boxes:
        yield boxes


def furnish(box: Box, chance: random.Random) -> dict[str, str]:
    """Make the target new and fill the others with known bytes; return the others' hashes."""
    for disk in box.vm.disks:
        path = box.disk(disk.serial)
        if disk.serial == TARGETS[box.name]:
            blank(path, disk.size)
        else:
            fill(path, disk.size, chance)
    return decoys(box)


def decoys(box: Box) -> dict[str, str]:
    return {serial: digest(path) for serial, path in box.files().items() if serial != TARGETS[box.name]}


def install(box: Box, chance: random.Random) -> None:
    """Install the machine once, and check that its own disk holds the system and no other changed by a bit."""
    before = furnish(box, chance)
    box.power_on(order(box.vm, chance), *box.live())
    box.wait_off(INSTALL_SECONDS)

    record, target = box.record, box.disk(TARGETS[box.name])
    assert ("installed", 1) == (record["state"], record["attempts"]), box.tail()
    assert record["disk"].startswith(f"{target.stem} ")
    found = look(target)
    assert found.complete
    assert (box.name, record["arm"], "installed") == (
        found.marker["machine"],
        found.marker["arm"],
        found.marker["state"],
    )
    assert "No errors detected" in run("sfdisk", "--verify", str(target))
    assert decoys(box) == before


def comes_up(box: Box, others: Path, chance: random.Random) -> None:
    """Boot through the firmware with decoys before the machine's disk: boot sectors, and another machine's system."""
    own = next(disk for disk in box.vm.disks if disk.serial == TARGETS[box.name])
    rest = [disk for disk in order(box.vm, chance).disks if disk is not own]
    copy(others, box.disk(rest[1].serial))
    before = decoys(box)
    vm = replace(box.vm, disks=(*rest, own))
    box.power_on(vm)
    wait_for(
        lambda: box.record["bootedAt"] is not None,
        f"{box.name} from disk: {box.tail()}",
        timeout=BOOT_SECONDS,
    )
    box.cut()

    # A BIOS numbers disks in its boot order; UEFI firmware in an order of its own.
    own_disk = {"bios": r"hd3", "uefi": r"hd\d,gpt2"}[box.vm.firmware]
    said = [line for line in box.console().splitlines() if "firstlight" in line]
    assert re.search(rf"firstlight: starting {own_disk}(?!\w)", box.console()), said
    assert DECOY_WORD.decode() not in box.console()
    assert decoys(box) == before


def test_the_right_disk_is_written_and_started_in_whatever_order_they_come(
    boxes: dict[str, Box], promise: Promise
) -> None:
    """By serial, WWN, type and size; virtio, SCSI and NVMe; BIOS and UEFI; then each firmware boots its own disk."""
    chances = {name: dice(f"right disk/{name}") for name in boxes}
    turns = rounds(ci=1, soak=5)
    with ThreadPoolExecutor(2) as both:
        for turn in range(turns):
            for pair in PAIRS:
                list(both.map(lambda name: install(boxes[name], chances[name]), pair))
                if turn < turns - 1:
                    for name in pair:
                        boxes[name].operator.act(name, "arm")
        first, others = PAIRS
        up = {name: boxes[other].disk(TARGETS[other]) for name, other in zip(first, others, strict=True)}
        list(both.map(lambda name: comes_up(boxes[name], up[name], chances[name]), first))
    promise(
        promise="R-02 right disk",
        asked="20 installs with four disks in shuffled order: the right one, three decoys unchanged",
        done=f"{turns * 4} installs: serial, wwn, type, size; virtio, scsi, nvme; bios, uefi",
        found=f"{turns * 4} right, 0 decoys changed; both firmwares started their own disk as the fourth of four",
        seed=seed(),
    )
