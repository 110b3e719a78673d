"""GPUs as sysfs shows them, read by the real scripts: what the resolver makes of them before a disk is written."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.node.appliance import ROOT
from tests.unit.node.discovering import Machine, looked_at, until
from tests.unit.web.fakes import W1, W3
from tests.unit.web.test_web_gpus import flatcar

H100, B200, A100, K80 = "0x2330", "0x2901", "0x20b2", "0x102d"
BRIDGE, AUDIO, DISPLAY_3D, VGA = "0x068000", "0x040300", "0x030200", "0x030000"


@pytest.fixture(name="machine")
def fixture_machine(tmp_path: Path) -> Iterator[Machine]:
    with looked_at(tmp_path, flatcar({"expected": 8})) as made:
        yield made


def plug_in(machine: Machine, *devices: str) -> None:
    """Lay out /sys/bus/pci/devices as a server with these GPUs has it, with what else has NVIDIA's vendor id."""
    functions = [
        ("0000:02:00.0", VGA, "0x1a03", "0x2000"),  # the BMC's screen
        ("0000:01:00.0", "0x020000", "0x15b3", "0x1021"),
        ("0000:07:00.0", BRIDGE, "0x10de", "0x22a3"),  # an NVSwitch
        ("0000:08:00.1", AUDIO, "0x10de", "0x228b"),  # the sound of a graphics card
        ("0000:ff:00.0", "0xffffff", "0xffff", "0xffff"),  # a GPU that fell off the bus
        *(
            (f"0000:{number:02x}:00.0", DISPLAY_3D, "0x10de", device)
            for number, device in enumerate(devices, start=0x18)
        ),
    ]
    for address, kind, vendor, device in functions:
        for file, text in (("class", kind), ("vendor", vendor), ("device", device)):
            machine.file(f"sys/bus/pci/devices/{address}/{file}", f"{text}\n")


def looked(machine: Machine) -> tuple[int, str]:
    """Let the machine tell of itself; return what becomes of accepting it, and what is shown of it before."""
    machine.empty_disks()
    process = machine.boot()
    try:
        until(machine.inventory)
        shown = machine.rack.machine(W3)
        answer = machine.rack.accept(pool="workers", name="w7")
    finally:
        process.terminate()
        process.communicate()
    return answer.status_code, f"{shown['gpus']}\n{shown['gpuDecision']}\n{answer.text}"


@pytest.mark.parametrize(
    ("devices", "status", "shows"),
    [
        (
            [H100] * 8,
            200,
            (
                "8 x H100 80GB HBM3 (10de:2330, Hopper, MIG-capable)\n"
                "pool workers: driver 570 (open), sysext nvidia-drivers-570-open; "
            ),
        ),
        (
            [B200] * 8,
            200,
            (
                "8 x B200 (10de:2901, Blackwell, MIG-capable)\n"
                "pool workers: driver 570 (open), sysext nvidia-drivers-570-open; "
            ),
        ),
        (
            [A100] * 6 + [K80] * 2,
            409,
            (
                "2 x Tesla K80 (10de:102d, Kepler), 6 x A100-SXM4-80GB (10de:20b2, Ampere, MIG-capable)\n"
                "pool workers: Tesla K80 and A100-SXM4-80GB want a driver from 450 to 470; flatcar 4593.2.5 offers "
                "535 (closed, open), 550 (closed, open), 570 (closed, open); "
                "A100-SXM4-80GB alone would work: give each kind a machine of its own, or "
            ),
        ),
        (
            [H100] * 7,
            409,
            (
                "7 x H100 80GB HBM3 (10de:2330, Hopper, MIG-capable)\n"
                "pool workers: pool workers expects 8 GPUs, it shows 7: 7 x H100 80GB HBM3 (10de:2330); look for"
            ),
        ),
        ([], 409, "none\npool workers: pool workers expects 8 GPUs, it shows none; look for its seating"),
    ],
    ids=["8 x H100", "8 x B200", "A100 and K80", "one missing", "none"],
)
def test_what_sysfs_shows_is_named_decided_and_accepted_or_not(
    machine: Machine, devices: list[str], status: int, shows: str
) -> None:
    plug_in(machine, *devices)

    code, shown = looked(machine)

    assert shown.startswith(shows)
    assert code == status, shown
    assert (machine.rack.site.ledger.machine(W3) is not None) is (status == 200)


INSTALL = """
. "$INSTALL"
restart() { echo restarted; exit 0; }
load && mkdir -p "$FL_RUN" || exit 9
inventory && candidates
facts
cp "$FL_RUN/candidates.json" "$FL_RUN/all.json"
jq '.[0]' "$FL_RUN/disks.json" >"$FL_RUN/disk.json"
disk=$FAKE/disk disk_size=1073741824
begin
echo "granted: $(grant .attempt)"
"""


def install(machine: Machine) -> str:
    """Run the installer's own functions up to the grant, after which it would write; return what it said."""
    rack = machine.rack
    rack.boot(W1)
    task = {"server": machine.server, "cluster": "lab", "machine": "w1", "mac": W1, "disk": {"select": {}}}
    machine.file("etc/install.json", json.dumps(task))
    machine.file("disk", bytes(4096))
    done = subprocess.run(
        ("timeout", "60", "sh", "-c", INSTALL),
        env={
            "PATH": f"{machine.folder / 'bin'}:{os.environ['PATH']}",
            "FAKE": str(machine.folder),
            "INSTALL": str(ROOT / "configs/installer/install"),
            "FL_SOURCE_ONLY": "1",
            "FL_ARM": str(rack.record(W1).arm),
            "FL_FAILED_WAIT": "0",
            "FL_ETC": str(machine.folder / "etc"),
            "FL_RUN": str(machine.folder / "run"),
            "FL_SYS": str(machine.folder / "sys"),
            "FL_BY_PATH": str(machine.folder / "by-path"),
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (machine.folder / "disk").read_bytes() == bytes(4096)
    return done.stdout + done.stderr


def test_the_installer_of_a_listed_machine_is_refused_before_it_writes(machine: Machine) -> None:
    plug_in(machine, *[H100] * 7)

    said = install(machine)

    assert (
        "NOT INSTALLED: the server does not grant this install: pool workers expects 8 GPUs, it shows 7"
        in said
    )
    assert "granted" not in said
    assert machine.rack.record(W1).attempts == 0
    assert machine.rack.machine("w1")["state"] == "failed"
    assert machine.rack.machine("w1")["gpus"].startswith("7 x H100 80GB HBM3")


def test_the_installer_of_a_machine_that_fits_is_granted_its_write_pass(machine: Machine) -> None:
    plug_in(machine, *[B200] * 8)

    assert "granted: 1" in install(machine)
    assert machine.rack.machine("w1")["gpuDecision"].startswith("pool workers: driver 570 (open), sysext")
