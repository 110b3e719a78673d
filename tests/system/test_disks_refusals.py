"""No disk, several disks, somebody else's disk: refused with the inventory, and not one byte changes on any disk.

One emulated machine holds a disk of every foreign kind. Its live system is the real one; only the last step of its
start is another: it runs the real installer once per case, each as the machine of the configuration that the rule
belongs to, with that machine's stage A and today's arm, against the real appliance.
"""

import json
import random
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.system import disk_kinds
from tests.system.disk_kinds import CLUSTER, KINDS
from tests.system.disk_rack import Box, digest, order, rack, stage_a
from tests.system.spine import CACHE, ROOT, Site
from tests.tier import Promise, dice, rounds, seed

pytestmark = [pytest.mark.system, pytest.mark.promise]

LIVE = ROOT / "configs" / "image" / "initramfs" / "live"
MOUNT = ROOT / "configs" / "image" / "initramfs" / "scripts" / "firstlight"
LAST_STEP = "exec /opt/firstlight/install "
FASTEST = ("n-fast1", "n-fast2")
UNTOUCHED = "nothing was touched; found: /dev/"
ROUND_SECONDS = 400.0

# Runs inside the machine: what the installer does at its end, restarting, would end the whole.
RUNNER = """\
#!/bin/sh
server=@SERVER@
real=$(command -v reboot)
export PATH=/cases/bin:$PATH FL_FAILED_WAIT=0 FL_LOOK_PAUSE=0 FL_LOOKS=2
round=0
while [ "$round" -lt @ROUNDS@ ]; do
    while read -r name mac; do
        until curl --silent --fail "$server/ipxe?mac=$mac&platform=pcbios" >/run/script &&
            grep -q firstlight.arm= /run/script; do sleep 1; done
        sed -n 's/^kernel [^ ]* //p' /run/script >/run/cmdline
        FL_ETC=/cases/$name FL_RUN=/run/$name FL_CMDLINE=/run/cmdline /opt/firstlight/install
        echo "case: $name ended"
    done </cases/list
    round=$((round + 1))
done
echo "case: all ended"
exec "$real" -f
"""


@dataclass(frozen=True)
class Case:
    """A machine of the configuration, the rule that it has, and what its refusal must say."""

    name: str
    mac: str
    rule: dict[str, Any]
    says: tuple[str, ...]


HALVES = {"odd-bios": sorted(KINDS)[::2], "odd-uefi": sorted(KINDS)[1::2]}
"""Which of two machines holds a disk of which kinds; each has the cases without a match and with several too."""


def cases(half: str) -> tuple[Case, ...]:
    """Return the cases of a machine: none, two and all match, and each foreign kind that it holds."""
    size = f"{disk_kinds.SIZE}B"
    rows: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
        ("none", {"serial": "nobody"}, ("no disk matches the rule",)),
        ("two", {"type": "nvme"}, ("2 disks match the rule",)),
        ("all", {"minSize": size, "maxSize": size}, (f"{len(HALVES[half])} disks match the rule",)),
    ]
    rows += [
        (kind, {"serial": f"k-{kind}"}, ("holds data that is not ours", KINDS[kind].named))
        for kind in HALVES[half]
    ]
    group = 1 + list(HALVES).index(half)
    return tuple(
        Case(f"{half[-4]}-{name}", f"52:54:00:74:{group:02x}:{number:02x}", rule, says)
        for number, (name, rule, says) in enumerate(rows)
    )


def foreign_disk(kind: str) -> dict[str, Any]:
    return {"serial": f"k-{kind}", "size": f"{disk_kinds.SIZE}B", "bus": "scsi"}


def config() -> dict[str, Any]:
    """Return the cluster: a machine per case, the two that run them all, and one that goes the whole way."""
    fast = [{"serial": serial, "size": "64MiB", "bus": "nvme"} for serial in FASTEST]
    halves = {name: [*map(foreign_disk, kinds), *fast] for name, kinds in HALVES.items()}
    whole = [{"serial": "w-xfs", "size": f"{disk_kinds.SIZE}B", "bus": "virtio"}, *fast]
    listed = [
        {"name": case.name, "mac": case.mac, "select": case.rule} for half in HALVES for case in cases(half)
    ]
    listed += [
        {"name": "whole", "mac": "52:54:00:74:00:01", "select": {"serial": "w-xfs"}},
        {"name": "odd-bios", "mac": "52:54:00:74:00:02", "select": {"serial": "nobody"}},
        {"name": "odd-uefi", "mac": "52:54:00:74:00:03", "select": {"serial": "nobody"}},
    ]
    machines = [
        {"name": row["name"], "mac": row["mac"], "pool": "workers", "disk": {"select": row["select"]}}
        for row in listed
    ]
    shape = {"cpus": 1, "memory": "1GiB"}
    return {
        "apiVersion": "firstlight/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": CLUSTER},
        "kubernetes": {
            "version": "v1.36.4",
            "controlPlaneEndpoint": "10.74.0.10:6443",
            "cni": {"plugin": "none"},
        },
        "appliance": {
            "interface": "fl0",
            "address": "10.74.0.1/24",
            "dhcp": {"mode": "server", "range": ["10.74.0.150", "10.74.0.199"]},
        },
        "pools": [
            {
                "name": "workers",
                "os": {"family": "debian", "release": "13", "kernel": "cloud"},
                "disk": {"select": {"type": "virtio"}},
            }
        ],
        "machines": machines,
        "lab": {
            "accel": "tcg",
            "machines": [
                {"name": "whole", "firmware": "uefi", "disks": whole, **shape},
                {"name": "odd-bios", "firmware": "bios", "disks": halves["odd-bios"], **shape},
                {"name": "odd-uefi", "firmware": "uefi", "disks": halves["odd-uefi"], **shape},
            ],
        },
    }


@pytest.fixture(scope="module", name="boxes")
def fixture_boxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Box]]:
    folder = tmp_path_factory.mktemp("refusals")
    (folder / "odd.yaml").write_text(json.dumps(config()))
    site = Site(deploy=folder / "deploy", cache=CACHE, configs=(str(folder / "odd.yaml"),), name=CLUSTER)
    with rack(site, folder / "serve.log") as boxes:
        yield boxes


def cpio(files: dict[str, tuple[int, bytes]]) -> bytes:
    """Return an initramfs archive (newc); a name that ends in / is a folder."""
    out = b""
    for number, (name, (mode, content)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))], start=1):
        path = name.rstrip("/").encode() + b"\0"
        kind = 0o040000 if name.endswith("/") else 0o100000
        fields = (number, kind | mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        head = b"070701" + b"".join(b"%08X" % value for value in fields) + path
        out += head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
    return out + bytes(-len(out) % 512)


def with_cases(box: Box, turns: int) -> Path:
    """Return the installer's initrd with the cases laid before it: another boot= word, nothing of it replaced."""
    live, mount = LIVE.read_text(), MOUNT.read_text()
    assert LAST_STEP in live
    assert "/usr/lib/firstlight/live" in mount
    server = re.findall(r"http://[0-9.:]+", box.script())[0]
    runner = RUNNER.replace("@SERVER@", server).replace("@ROUNDS@", str(turns))
    rows = "".join(f"{case.name} {case.mac}\n" for case in cases(box.name))
    files: dict[str, tuple[int, bytes]] = dict.fromkeys(("cases/", "cases/bin/", "scripts/"), (0o755, b""))
    files |= {
        "scripts/cases": (0o644, mount.replace("/usr/lib/firstlight/live", "/cases/live").encode()),
        "cases/live": (0o755, live.replace(LAST_STEP, "exec /cases/run ").encode()),
        "cases/run": (0o755, runner.encode()),
        "cases/bin/reboot": (0o755, b"#!/bin/sh\nexit 0\n"),
        "cases/list": (0o644, rows.encode()),
    }
    for case in cases(box.name):
        files[f"cases/{case.name}/"] = (0o755, b"")
        for path, content in stage_a(box.site, case.mac).items():
            if path.startswith("/etc/firstlight/"):
                files[f"cases/{case.name}/{Path(path).name}"] = (0o644, content.encode())
    target = box.site.work / f"{box.name}.initrd"
    target.write_bytes(cpio(files) + box.initrd().read_bytes())
    return target


def furnish(box: Box, chance: random.Random) -> dict[str, str]:
    """Make every disk what its name says, and return the hashes."""
    for serial, path in box.files().items():
        kind = serial.removeprefix("k-")
        if kind in KINDS:
            disk_kinds.make(kind, path)
        elif serial == "w-xfs":
            disk_kinds.make("xfs", path)
        else:
            path.write_bytes(chance.randbytes(path.stat().st_size))
    return hashes(box)


def hashes(box: Box) -> dict[str, str]:
    return {serial: digest(path) for serial, path in box.files().items()}


def run_all(box: Box, turns: int, chance: random.Random) -> dict[str, list[str]]:
    """Run every case `turns` times in one boot, arming each again; return the reasons by machine."""
    box.power_on(order(box.vm, chance), *box.live(with_cases(box, turns), boot="cases"))
    reasons: dict[str, list[str]] = {case.name: [] for case in cases(box.name)}
    deadline = time.monotonic() + ROUND_SECONDS * turns
    while "case: all ended" not in box.console():
        assert time.monotonic() < deadline, box.tail()
        collect(box, turns, reasons)
        time.sleep(0.5)
    collect(box, turns, reasons)
    box.wait_off(60)
    return reasons


def collect(box: Box, turns: int, reasons: dict[str, list[str]]) -> None:
    """Note the reason of each case that was refused, and arm it for its next turn."""
    for record in box.operator.machines():
        known = reasons.get(record["name"])
        if known is None or record["state"] != "failed" or len(known) == turns:
            continue
        known.append(record["reason"])
        if len(known) < turns:
            box.operator.act(record["name"], "arm")


def go_the_whole_way(box: Box) -> None:
    """From the power button through the firmware to the refusal, and to the script that waits for a person."""
    box.power_on(box.vm)
    box.says("NOT INSTALLED: .*holds data that is not ours")
    box.says("whole is failed: .*holds data that is not ours")
    box.cut()


def test_what_is_not_surely_ours_is_refused_with_the_inventory_and_stays_as_it_was(
    boxes: dict[str, Box], promise: Promise
) -> None:
    """Each case through the real appliance to the operator's eyes; every disk keeps its hash."""
    turns, whole = rounds(ci=1, soak=20), boxes["whole"]
    chances = {name: dice(f"refusals/{name}") for name in boxes}
    before = {name: furnish(box, chances[name]) for name, box in boxes.items()}
    with ThreadPoolExecutor(3) as pool:
        jobs = {name: pool.submit(run_all, boxes[name], turns, chances[name]) for name in HALVES}
        pool.submit(go_the_whole_way, whole).result()
        reasons = {name: told for job in jobs.values() for name, told in job.result().items()}

    assert {name: hashes(box) for name, box in boxes.items()} == before
    for case in (case for half in HALVES for case in cases(half)):
        assert len(reasons[case.name]) == turns, case.name
        check(whole, case, reasons[case.name])
    check(whole, Case("whole", whole.vm.mac, {}, ("holds data that is not ours", "xfs")), [])
    for name in ("b-none", "b-two", "whole"):
        check_screen(whole.site, name)
    total = sum(map(len, reasons.values()))
    promise(
        promise="R-02 refusals",
        asked="0 or several matches and each foreign kind: 20 of 20 refused, inventory shown, nothing written",
        done=f"{turns} times {len(reasons)} cases, {len(KINDS)} of them foreign kinds; 1 from power-on",
        found=f"{total} of {total} refused with the inventory, {sum(map(len, before.values()))} disks unchanged",
        seed=seed(),
    )


def check(box: Box, case: Case, reasons: list[str]) -> None:
    """Look at a refusal as the operator's client gets it."""
    for reason in reasons:
        assert all(word in reason for word in case.says), (case, reason)
        assert UNTOUCHED in reason, (case, reason)
    machine = box.operator.machine(case.name)
    assert ("failed", 0) == (machine["state"], machine["attempts"])
    assert all(word in machine["message"] for word in (*case.says, UNTOUCHED))
    assert set(FASTEST) < {disk["serial"] for disk in machine["facts"]["disks"]}
    events = box.operator.events(machine=case.name)
    told = [event["reason"] for event in events if event["what"] == "failed"]
    assert len(told) == max(len(reasons), 1)
    assert all(UNTOUCHED in reason for reason in told)
    assert "begin" not in {event["what"] for event in events}


def check_screen(site: Site, name: str) -> None:
    """Look at a refusal as it stands on the operator's screen."""
    shown = " ".join(site.run("machine", "show", name, timeout=60).out.split())
    assert UNTOUCHED in shown
    assert f'"serial": "{FASTEST[0]}"' in shown
