"""SeaBIOS and OVMF, each sent on from the network to a disk in each of the ways: exit, sanboot, and a 404."""

import json
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from typing import Any

import pytest

from bootstrap.processes import wait_until
from tests.system.disk_rack import Box, rack
from tests.system.spine import Site, show_logs
from tests.system.word_disk import say

pytestmark = pytest.mark.system

NAME = "lableave"
WAYS = {"exit": "ipxe-exit", "sanboot": "ipxe-sanboot", "404": "http-404"}
FIRMWARES = ("bios", "uefi")
SECONDS = 420.0
"""Six emulated machines start at once; OVMF tries HTTP boot for a minute before the disk."""


def machine(number: int, firmware: str, way: str) -> dict[str, Any]:
    return {
        "name": f"{firmware}-{way}",
        "mac": f"52:54:00:75:00:0{number}",
        "pool": "workers",
        "bootFromDiskMethod": WAYS[way],
    }


MACHINES = [
    machine(number, firmware, way)
    for number, (firmware, way) in enumerate((firmware, way) for firmware in FIRMWARES for way in WAYS)
]
CONFIG = {
    "apiVersion": "firstlight/v1alpha1",
    "kind": "Cluster",
    "metadata": {"name": NAME},
    "kubernetes": {
        "version": "v1.36.4",
        "controlPlaneEndpoint": "10.75.0.10:6443",
        "cni": {"plugin": "none"},
    },
    "appliance": {
        "interface": "fl0",
        "address": "10.75.0.1/24",
        "dhcp": {"mode": "server", "range": ["10.75.0.150", "10.75.0.199"]},
    },
    "pools": [
        {
            "name": "workers",
            "os": {"family": "debian", "release": "13", "kernel": "cloud"},
            "disk": {"select": {"type": "virtio"}},
        }
    ],
    "machines": MACHINES,
    "lab": {
        "accel": "tcg",
        "machines": [
            {
                "name": one["name"],
                "firmware": one["name"].partition("-")[0],
                "memory": "256MiB",
                "disks": [{"serial": "word", "size": "40MiB"}],
            }
            for one in MACHINES
        ],
    },
}


def told_installed(box: Box) -> None:
    """Tell the appliance what the installer tells it at its end."""
    body = json.dumps({"mac": box.vm.mac, "arm": box.record["arm"], "kind": "complete"})
    ca = box.site.work / "bundle/appliance/provisioning-ca.crt"
    curl = ("curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "20", "--cacert", str(ca))
    url = "https://10.75.0.1:8443/v1/machine/events"
    command = ("ip", "netns", "exec", box.site.namespace, *curl, "--json", body, url)
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert box.record["state"] == "installed"


@pytest.fixture(scope="module", name="boxes")
def fixture_boxes(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Box]]:
    """All six, switched on at once, until each has said its word or the time is over."""
    folder = tmp_path_factory.mktemp("leaving")
    (folder / "rack.yaml").write_text(json.dumps(CONFIG))
    site = Site(
        deploy=folder / "deploy", cache=folder / "cache", configs=(str(folder / "rack.yaml"),), name=NAME
    )
    failed_before = request.session.testsfailed
    with rack(site, folder / "serve.log", builds=()) as boxes:
        for box in boxes.values():
            say(box.disk("word"), word_of(box))
            told_installed(box)
        began = time.monotonic()
        for box in boxes.values():
            box.power_on(box.vm)
        up: dict[str, float] = {}
        wait_until(lambda: _have_come_up(boxes.values(), up, began), SECONDS)
        sys.stderr.write(f"from power-on to the disk's word, in seconds: {up}\n")
        yield boxes
        if request.session.testsfailed > failed_before:
            show_logs(site)


def word_of(box: Box) -> str:
    return f"WORD-OF-{box.name}"


def _have_come_up(boxes: Collection[Box], up: dict[str, float], began: float) -> bool:
    """Note in `up` who said its word, and when; return whether all did."""
    for box in boxes:
        if box.name not in up and word_of(box) in box.console():
            up[box.name] = round(time.monotonic() - began)
    return len(up) == len(boxes)


def answers(box: Box) -> list[tuple[str, int]]:
    """Return what the machine asked the appliance for its script, and the status of the answer."""
    log = (box.site.work / "log" / "nginx-access.log").read_text().splitlines()
    mac = box.vm.mac.replace(":", "-")
    asked = [(line["request"].split()[1], line["status"]) for line in map(json.loads, log)]
    return [(path.partition("?")[0], status) for path, status in asked if f"mac={mac}" in path]


@pytest.mark.parametrize("firmware", FIRMWARES)
@pytest.mark.parametrize("way", WAYS)
def test_an_installed_machine_starts_its_disk(boxes: dict[str, Box], firmware: str, way: str) -> None:
    box = boxes[f"{firmware}-{way}"]

    assert word_of(box) in box.console(), box.tail()
    assert f"{box.name} is installed" in box.console()
    assert "localboot" not in box.console()
    wanted = [("/ipxe", 200)] if way != "404" else [("/ipxe", 404), ("/ipxe/leave", 200)]
    assert answers(box)[: len(wanted)] == wanted


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_exit_and_404_give_back_to_the_firmware_which_starts_the_disk(
    boxes: dict[str, Box], firmware: str
) -> None:
    for way in ("exit", "404"):
        console = boxes[f"{firmware}-{way}"].console()
        assert "on to its disk by the firmware" in console
        assert "sanboot" not in console
        assert "asking again" not in console


def test_sanboot_starts_the_disk_itself_on_a_bios(boxes: dict[str, Box]) -> None:
    console = boxes["bios-sanboot"].console()

    assert "starting the first disk (sanboot)" in console
    assert "back to the firmware" not in console


def test_sanboot_on_uefi_gives_back_to_the_firmware_where_ipxe_cannot(boxes: dict[str, Box]) -> None:
    """Debian 12's iPXE starts no local disk there. One that does is news for docs/booting.md."""
    console = boxes["uefi-sanboot"].console()
    before_the_word, word, _ = console.partition(word_of(boxes["uefi-sanboot"]))
    _, _, after_the_try = before_the_word.partition("starting the first disk (sanboot)")

    assert "the first disk did not start" in after_the_try, console
    assert "back to the firmware's boot order" in after_the_try
    assert word, "the firmware starts the disk"


def test_a_loader_that_asks_for_itself_gets_the_404_alone(boxes: dict[str, Box]) -> None:
    """What an iPXE with a script of its own makes of it, its owner decides."""
    box = boxes["uefi-404"]
    url = f"http://10.75.0.1:8080/ipxe?mac={box.vm.mac}&platform=efi"
    curl = ("curl", "--silent", "--max-time", "20", "--write-out", " %{http_code}", url)
    done = subprocess.run(
        ("ip", "netns", "exec", box.site.namespace, *curl),
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )

    reason, _, status = done.stdout.rpartition(" ")
    assert (json.loads(reason), status) == ({"reason": "uefi-404 is installed"}, "404")
