"""configs/installer/discover against the real application over TLS, on a machine made of files."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bootstrap.records.inventory import Inventory
from certs.keystore import Keystore
from certs.wanted import rows
from tests.unit.node.appliance import PROVISIONING, ROOT, served
from tests.unit.web.fakes import W1, W3
from tests.unit.web.looking import LookingRack

# The installer's functions are the real ones; as a program it only says that it was called.
INSTALLER = f"""#!/bin/sh
if [ -n "${{FL_SOURCE_ONLY:-}}" ]; then
    . {ROOT}/configs/installer/install
    restart() {{ echo restarted; exit 0; }}
    set_clock() {{ :; }}
else
    echo "installer: $FL_ARM $(jq -r .machine "$FL_ETC/install.json")"
fi
"""
TOOLS = {
    "lsblk": """#!/bin/sh
case $* in
*--json*) cat "$FAKE/lsblk.json" ;;
*) printf '%s\\n%s1 part\\n' "$5" "$5" ;;
esac
""",
    "wipefs": """#!/bin/sh
for last; do :; done
case $last in *1) echo LVM2_member ;; *) echo "vda gpt" ;; esac
""",
    "sleep": "#!/bin/sh\n:\n",
    "udevadm": "#!/bin/sh\n:\n",
}
LSBLK = {
    "blockdevices": [
        {"path": "/dev/vda", "type": "disk", "size": 1 << 30, "serial": " S1 ", "wwn": None, "model": None,
         "rota": True, "tran": "virtio", "ro": False, "rm": False, "log-sec": 512},
    ]
}  # fmt: skip
HOST_INTERFACE = (
    bytes([42, 107, 0, 0, 0x40, 0, 1, 4, 91]) + bytes(51) + bytes([1, 169, 254, 3, 254]) + bytes(40)
)


@dataclass
class Machine:
    """A machine that boots and looks at itself."""

    folder: Path
    rack: LookingRack
    server: str

    def file(self, path: str, text: str | bytes) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text if isinstance(text, bytes) else text.encode())

    def card(self, name: str, mac: str, *, kind: str = "1", bus: str = "pci", speed: str = "25000") -> None:
        device = self.folder / f"sys/devices/{name}"
        for link, target in (("driver", f"drivers/mlx5_{name}"), ("subsystem", f"bus/{bus}")):
            (self.folder / "sys" / target).mkdir(parents=True, exist_ok=True)
            device.mkdir(parents=True, exist_ok=True)
            (device / link).symlink_to(self.folder / "sys" / target)
        base = f"sys/class/net/{name}"
        for file, text in (("address", mac), ("type", kind), ("speed", speed), ("carrier", "1")):
            self.file(f"{base}/{file}", f"{text}\n")
        (self.folder / base / "device").symlink_to(device)

    def empty_disks(self) -> None:
        """Take away what is on them: nothing holds the machine's place in the world then."""
        for name, text in (
            ("wipefs", "#!/bin/sh\n:\n"),
            ("lsblk", TOOLS["lsblk"].replace("\\n%s1 part", "").replace('"$5" "$5"', '"$5"')),
        ):
            self.file(f"bin/{name}", text)

    def boot(self, seconds: float = 120) -> "subprocess.Popen[str]":
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "FAKE": str(self.folder),
            "FL_ETC": str(self.folder / "etc"),
            "FL_RUN": str(self.folder / "run"),
            "FL_SYS": str(self.folder / "sys"),
            "FL_BY_PATH": str(self.folder / "by-path"),
            "FL_CMDLINE": str(self.folder / "cmdline"),
            "FL_INSTALLER": str(self.folder / "bin/install-it"),
        }
        script = str(ROOT / "configs/installer/discover")
        process = subprocess.Popen(
            ("timeout", str(seconds), "sh", script), env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        threading.Timer(seconds + 5, process.kill).start()
        return process

    def inventory(self) -> Inventory | None:
        return self.rack.site.strangers.inventory(W3)


@pytest.fixture(name="machine")
def fixture_machine(tmp_path: Path) -> Iterator[Machine]:
    now = datetime.now(UTC)
    Keystore(tmp_path / "pki").ensure(
        [row for row in rows(PROVISIONING) if row.name.startswith("provisioning/")], now
    )
    rack = LookingRack()
    with served(rack.app, tmp_path / "pki") as server:
        made = Machine(tmp_path, rack, server)
        made.file("etc/provisioning-ca.crt", (tmp_path / "pki/provisioning/ca.crt").read_bytes())
        made.file("etc/install.json", json.dumps({"server": server, "cluster": "lab"}))
        made.file(
            "cmdline",
            f"boot=firstlight ignition.config.url=http://10.77.0.1:8080/v1/ignition/{W3.replace(':', '-')} "
            f"firstlight.arm=discover firstlight.image={'b' * 64}\n",
        )
        made.file("lsblk.json", json.dumps(LSBLK))
        for name, text in {**TOOLS, "install-it": INSTALLER}.items():
            made.file(f"bin/{name}", text)
            (tmp_path / "bin" / name).chmod(0o755)
        yield made


def hardware(machine: Machine) -> None:
    """Furnish a server: two nodes, a GPU, a screen of its BMC, four cards, TPM 2, secure boot."""
    for number in (0, 1):
        base = f"sys/devices/system/node/node{number}"
        machine.file(f"{base}/cpulist", f"{number}-{number + 1}\n")
        machine.file(f"{base}/meminfo", f"Node {number} MemTotal:       1024 kB\n")
    for address, kind, vendor, device in (
        ("0000:41:00.0", "0x030200", "0x10de", "0x2330"),
        ("0000:02:00.0", "0x030000", "0x1a03", "0x2000"),
        ("0000:01:00.0", "0x020000", "0x15b3", "0x1021"),
    ):
        for file, text in (("class", kind), ("vendor", vendor), ("device", device)):
            machine.file(f"sys/bus/pci/devices/{address}/{file}", f"{text}\n")
    machine.card("eth0", W3)
    machine.card("eth1", "52:54:00:aa:00:f3", speed="-1")
    machine.card("usb0", "52:54:00:aa:00:f4", bus="usb")
    machine.card("ib0", "00:00:00:48:fe:80:00:00:00:00:00:00:00:02:c9:03:00:00:00:01", kind="32")
    machine.file("sys/class/tpm/tpm0/tpm_version_major", "2\n")
    machine.file("sys/firmware/efi/efivars/SecureBoot-8be4df61", bytes([6, 0, 0, 0, 1]))
    machine.file("sys/firmware/dmi/entries/42-0/raw", HOST_INTERFACE)
    for name, text in (("sys_vendor", "Maker"), ("product_uuid", "4c4c4544-0051-3310-8051-b4c04f4a4d32")):
        machine.file(f"sys/class/dmi/id/{name}", f"{text}\n")


def test_it_tells_what_is_in_it(machine: Machine) -> None:
    hardware(machine)
    process = machine.boot()
    found = _until(machine.inventory)
    process.terminate()
    process.communicate()

    said = found.model_dump(exclude_defaults=True)
    assert [node["memory"] for node in said["nodes"]] == [1 << 20, 1 << 20]
    assert [(gpu["vendor"], gpu["device"]) for gpu in said["gpus"]] == [("1a03", "2000"), ("10de", "2330")]
    assert found.nvidia_gpus == 1
    assert [(card.name, card.speed, card.bus) for card in found.cards] == [
        ("eth0", 25000, "pci"),
        ("eth1", None, "pci"),
        ("usb0", 25000, "usb"),
    ]
    assert found.own_cards == (W3, "52:54:00:aa:00:f3")
    assert (said["bmc"], said["tpm"]) == ({"present": True, "address": "169.254.3.254"}, "2")
    assert (said["firmware"]["kind"], said["firmware"]["secure_boot"]) == ("uefi", True)
    (disk,) = found.disks
    assert (disk.serial, disk.size, disk.signatures) == ("S1", 1 << 30, ("LVM2_member", "gpt", "partition"))
    assert (found.vendor, found.cpus) == ("Maker", os.cpu_count())


def test_a_machine_of_which_little_can_be_known_tells_that(machine: Machine) -> None:
    process = machine.boot()
    found = _until(machine.inventory)
    process.terminate()
    process.communicate()

    assert (found.cards, found.gpus, found.nodes, found.bmc.present) == ((), (), (), False)
    assert found.memory


def test_it_waits_and_goes_on_to_the_installer_when_it_is_accepted(machine: Machine) -> None:
    machine.empty_disks()
    process = machine.boot()
    _until(machine.inventory)
    assert process.poll() is None
    accepted = machine.rack.accept(pool="workers", name="w7")
    assert accepted.status_code == 200, accepted.text
    out, _ = process.communicate(timeout=120)

    assert "discovered; to install it: machine accept" in out
    assert f"installer: {machine.rack.record(W3).arm} w7" in out


def test_it_restarts_if_its_pool_has_another_live_system(machine: Machine) -> None:
    machine.empty_disks()
    machine.file("cmdline", (machine.folder / "cmdline").read_text().replace("b" * 64, "e" * 64))
    process = machine.boot()
    _until(machine.inventory)
    machine.rack.accept(pool="workers")
    out, _ = process.communicate(timeout=120)

    assert out.endswith("restarted\n")


def test_it_tells_again_when_the_appliance_has_forgotten_it(machine: Machine) -> None:
    machine.empty_disks()
    process = machine.boot()
    _until(machine.inventory)
    machine.rack.site.store.commit(machine.rack.site.strangers.gone(W3))
    _until(machine.inventory)
    process.terminate()
    out, _ = process.communicate()

    assert "NOT" not in out


def test_somebody_elses_server_is_looked_at_and_goes_on_to_its_disk(machine: Machine) -> None:
    out, _ = machine.boot().communicate(timeout=120)

    assert "its disks hold something" in out
    assert out.endswith("restarted\n")
    assert machine.rack.strangers()[0]["state"] == "discovered"


def test_a_card_of_a_listed_machine_boots_anew(machine: Machine) -> None:
    machine.card("eth0", W1)
    out, _ = machine.boot().communicate(timeout=120)

    assert "this card belongs to w1" in out
    assert out.endswith("restarted\n")


def test_an_appliance_that_is_away_is_asked_again(machine: Machine) -> None:
    machine.rack.store.writes_fail = True
    process = machine.boot()
    _until((machine.folder / "run/inventory.json").exists)
    threading.Event().wait(0.5)
    assert machine.inventory() is None
    machine.rack.store.writes_fail = False
    _until(machine.inventory)
    process.terminate()
    process.communicate()


def _until(ask: Any, seconds: float = 90) -> Any:
    """Return the first answer that is one."""
    deadline = datetime.now(UTC).timestamp() + seconds
    pause = threading.Event()
    while datetime.now(UTC).timestamp() < deadline:
        if found := ask():
            return found
        pause.wait(0.05)
    raise AssertionError(f"no answer in {seconds} s")
