"""Real machines that nobody listed, or that are not who they should be: found, accepted, installed, never erased.

The three parts share one rack and follow each other: the machine that the first one installs loses its appliance's
state in the last one.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootstrap.accepted import read
from bootstrap.config.loading import load
from bootstrap.lab.machine import vms_from
from bootstrap.operator import Operator
from tests.system.disk_rack import BOOT_SECONDS, READY_SECONDS, Box, digest, fetched, look
from tests.system.spine import CACHE, Site, interrupt, leftovers, running, show_logs, wait_for

pytestmark = pytest.mark.system

CONFIG = "tests/system/discovery.yaml"
FOUND = "52:54:00:78:00:01"
ONE_UUID = "4c4c4544-0051-3310-8051-b4c04f4a4d32"
NO_UUID = "00000000-0000-0000-0000-000000000000"
EIGHT = tuple(f"e{number}" for number in range(1, 9))


class Rack:
    """The lab's network, the appliance that can be started again, and the machines by name."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.operator = Operator(site.work)
        self.boxes = {
            vm.name: Box(site, self.operator, vm)
            for vm in vms_from(load([Path(path) for path in site.configs]))
        }
        self._folder = folder
        self._serving = ExitStack()
        self._starts = 0

    def start(self) -> None:
        self._starts += 1
        log = self._folder / f"serve-{self._starts}.log"
        process = self._serving.enter_context(running(self.site, "serve", log=log))
        # It waits for what it started: the web of one that is killed would live on for a moment.
        self._serving.callback(interrupt, process)
        wait_for(self.operator.is_ready, f"the appliance is ready: {log}", timeout=READY_SECONDS, every=0.5)

    def stop(self) -> None:
        self._serving.close()

    def listed(self, name: str) -> dict[str, Any]:
        return self.site.machines()[name]


@pytest.fixture(scope="module", name="rack")
def fixture_rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    folder = tmp_path_factory.mktemp("discovery")
    site = Site(deploy=folder / "deploy", cache=CACHE, configs=(CONFIG,), name="labfind")
    for verb in (("render", "--output", f"{site.work}/bundle"), ("image", "build"), ("lab", "up")):
        done = site.run(*verb)
        assert done.code == 0, f"{verb}: {done.err}"
    rack = Rack(site, folder)
    try:
        rack.start()
        yield rack
    finally:
        for box in rack.boxes.values():
            box.cut()
        rack.stop()
        site.run("down", timeout=120)
        show_logs(site)
    assert leftovers(site) == []


def test_a_machine_that_nobody_listed_is_looked_at_accepted_and_installed_by_itself(rack: Rack) -> None:
    """From its firmware to its own disk in one power-on; what it is comes from its own inventory."""
    box = rack.boxes["unlisted"]
    scsi = digest(box.disk("F-SCSI"))
    box.power_on(box.vm)
    pid = box.slot.pid()
    box.says(rf"discovered; to install it: machine accept {FOUND} --pool POOL")

    seen = rack.listed(FOUND)
    facts = rack.operator.machine(FOUND)["facts"]
    assert ("discovered", ["workers"]) == (seen["state"], seen["pools"])
    assert {"F-ROOT", "F-SCSI"} == {disk["serial"] for disk in facts["disks"]}
    assert [FOUND] == [card["mac"] for card in facts["cards"]]
    assert ("bios", "firstlight", 1) == (facts["firmware"]["kind"], facts["vendor"], facts["cpus"])
    assert facts["memory"] > 900 << 20
    assert box.vm.uuid == facts["uuid"]
    assert box.disk("F-ROOT").stat().st_blocks == 0
    shown = rack.site.run("machine", "list").out
    assert re.search(rf"{FOUND}\s+-\s+discovered", shown), shown

    _is_not_taken_where_gpus_are_expected(rack, box)

    accepted = rack.site.run("machine", "accept", FOUND, "--name", "w7")
    assert accepted.code == 0, accepted.err
    wait_for(
        lambda: rack.listed("w7")["bootedAt"] is not None, f"w7 runs: {box.tail()}", timeout=2 * BOOT_SECONDS
    )

    w7 = rack.listed("w7")
    assert ("workers", "installed", 1) == (w7["pool"], w7["state"], w7["attempts"])
    assert box.slot.pid() == pid, "somebody switched it off and on"
    assert {"machine": "w7", "state": "installed"}.items() <= look(box.disk("F-ROOT")).marker.items()
    assert digest(box.disk("F-SCSI")) == scsi
    assert FOUND not in rack.site.machines()
    box.cut()


def _is_not_taken_where_gpus_are_expected(rack: Rack, box: Box) -> None:
    refused = rack.site.run("machine", "accept", FOUND, "--pool", "gpus")

    assert refused.code == 2
    assert f"{FOUND}: pool gpus expects 8 GPUs, it shows none" in refused.err
    assert "none" == rack.operator.machine(FOUND)["gpus"]  # the emulator's screen is none of NVIDIA's
    assert box.disk("F-ROOT").stat().st_blocks == 0


def test_a_machine_without_the_gpus_of_its_pool_is_not_installed(rack: Rack) -> None:
    """Its installer is refused before it writes, and arming it again takes a word that it was mended."""
    box = rack.boxes["short"]
    box.power_on(box.vm, *box.live())
    box.says("NOT INSTALLED: the server does not grant this install: pool gpus expects 8 GPUs, it shows none")
    box.cut()

    short = rack.listed("short")
    assert ("failed", 0) == (short["state"], short["attempts"])
    assert short["reason"].endswith("nothing was touched")
    assert box.disk("G1").stat().st_blocks == 0
    refused = rack.site.run("machine", "arm", "short", "--yes")
    assert refused.code == 2
    assert "machine arm short --recheck" in refused.err
    assert rack.site.run("machine", "arm", "short", "--yes", "--recheck").code == 0
    assert "installing short" in box.script()


def test_machines_with_one_uuid_or_one_mac_are_in_conflict_and_none_is_erased(rack: Rack) -> None:
    """Eight armed machines with one UUID; two without any are none; a second machine with the MAC of another is one."""
    boxes = [rack.boxes[name] for name in EIGHT]
    for box in boxes:
        box.power_on(replace(box.vm, uuid=ONE_UUID))
    wait_for(
        lambda: all(rack.listed(name)["state"] == "conflict" for name in EIGHT),
        "all eight are in conflict",
        timeout=BOOT_SECONDS,
    )
    for box in boxes:
        box.says(rf"{box.name} is conflict|does not grant this install: .*is also that of")
    assert f"uuid {ONE_UUID}" in rack.listed("e1")["reason"]
    shown = rack.site.run("status").out
    assert "machine accept e8 --resolve" in rack.listed("e8")["nextStep"]
    assert 8 == len(re.findall(r"^e\d +workers +conflict .*is also that of e\d", shown, re.MULTILINE)), shown
    for box in boxes:
        box.cut()
        assert all(path.stat().st_blocks == 0 for path in box.files().values()), box.name

    for name in ("zero1", "zero2"):
        box = rack.boxes[name]
        box.power_on(replace(box.vm, uuid=NO_UUID))
        box.says(f"{name} is accepted")
    assert ["accepted", "accepted"] == [rack.listed(name)["state"] for name in ("zero1", "zero2")]

    twin = rack.boxes["twin"]
    twin.power_on(twin.vm)
    twin.says("twin is accepted")
    twin.cut()
    twin.power_on(replace(twin.vm, uuid=ONE_UUID.replace("4c4c", "5d5d")))
    twin.says("twin is conflict: its uuid was")
    assert rack.site.run("machine", "arm", "twin", "--yes").code == 2
    assert rack.site.run("machine", "accept", "twin", "--resolve").code == 0
    assert "accepted" == rack.listed("twin")["state"]
    for name in ("zero1", "zero2", "twin"):
        rack.boxes[name].cut()
        assert all(path.stat().st_blocks == 0 for path in rack.boxes[name].files().values()), name


def test_a_lost_state_folder_costs_no_machine_its_system(rack: Rack) -> None:
    """Everything is armed anew, the accepted machine too; its disk holds our system and is not written."""
    box = rack.boxes["unlisted"]
    rack.stop()
    shutil.rmtree(rack.site.work / "state")
    rack.start()
    assert ["w7"] == [one.name for one in read(rack.site.work)]
    assert "armed" == rack.listed("w7")["state"]
    before = digest(box.disk("F-ROOT"))

    box.power_on(box.vm, *box.live())
    box.says("does not grant this install: its disk holds the system that this cluster has installed on w7")
    box.cut()

    w7 = rack.listed("w7")
    assert "failed" == w7["state"]
    assert "machine arm w7" in w7["reason"]
    assert digest(box.disk("F-ROOT")) == before
    assert "starting" in fetched(rack.site, f"/ipxe?mac={FOUND}&platform=pcbios")
    assert rack.site.run("machine", "arm", "w7", "--yes").code == 0
    assert "installing w7" in box.script()
