"""A BMC whose chassis is a real QEMU: `power cycle` by the command line restarts a machine, and netboots it."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from bootstrap.processes import end, is_gone, wait_until
from tests import samples
from tests.system.power_peers import PASSWORD, IpmiPeer

pytestmark = pytest.mark.system

BOOT_SECONDS = 120.0
BANNER = "SeaBIOS (version"
NETBOOT, DISK = "Booting from ROM", "Booting from Hard Disk"  # SeaBIOS's words for its choices

# A chassis whose power is a QEMU that lives: SeaBIOS tells its debug port what it does. The card is on QEMU's own
# network inside its process, restricted: no packet leaves it.
CHASSIS = """\
#!/bin/sh
cd "$(dirname "$0")"
shift
act=$1
shift
alive() { [ -s pid ] && kill -0 "$(cat pid)" 2>/dev/null; }
switch_on() {
    alive && return
    order=c
    [ "$(cat boot 2>/dev/null)" = pxe ] && order=n
    rm -f boot
    qemu-system-x86_64 -machine q35,accel=tcg -m 64 -nodefaults -display none -boot "order=$order,strict=on" \\
        -netdev user,id=net,restrict=on -device virtio-net-pci,netdev=net -drive file=disk,format=raw,if=ide \\
        -chardev file,id=said,path=said,append=on -device isa-debugcon,iobase=0x402,chardev=said \\
        -pidfile pid -daemonize </dev/null >qemu.out 2>&1
}
switch_off() {
    alive || return
    kill -9 "$(cat pid)"
    while alive; do sleep 0.1; done
    rm -f pid
}
while [ $# -gt 0 ]; do
    case "$act $1" in
    "get power") if alive; then echo power:1; else echo power:0; fi ;;
    "get boot") echo "boot:$(cat boot 2>/dev/null || echo default)" ;;
    "get "*) echo "$1:0" ;;
    "set power") if [ "$2" = 1 ]; then switch_on; else switch_off; fi; shift ;;
    "set boot") echo "$2" >boot; shift ;;
    *) shift ;;
    esac
    shift
done
"""


class Machine:
    """A machine in QEMU behind a BMC, and a configuration that knows it as w1."""

    def __init__(self, bmc: IpmiPeer) -> None:
        self.folder = bmc.folder
        (self.folder / "said").write_text("")
        # A boot sector that stops the processor: cli; hlt; jmp to hlt.
        (self.folder / "disk").write_bytes(
            b"\xfa\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20)
        )
        tree = yaml.safe_load((samples.ROOT / "configs/lab.yaml").read_text())
        tree["machines"][0]["power"] = bmc.power
        self.config = self.folder / "rack.yaml"
        self.config.write_text(json.dumps(tree))

    @property
    def pid(self) -> int | None:
        """Return the pid of its QEMU, or None if it is off."""
        file = self.folder / "pid"
        pid = int(file.read_text()) if file.exists() and file.read_text().strip() else None
        return None if pid is None or is_gone(pid) else pid

    def choices(self) -> list[str]:
        """Return what each boot tried first, in order."""
        boots = (self.folder / "said").read_text(errors="replace").split(BANNER)[1:]
        found = [re.search(f"{NETBOOT}|{DISK}", boot) for boot in boots]
        return [first[0] for first in found if first]

    def has_chosen(self, *choices: str) -> None:
        """Wait until there were as many boots, and check what they tried first."""
        assert wait_until(lambda: len(self.choices()) >= len(choices), BOOT_SECONDS), self.choices()
        assert self.choices() == list(choices)

    def power(self, action: str) -> str:
        """Run `power ACTION w1` as a person does; return what stdout shows of the machine."""
        argv = (
            sys.executable, str(samples.ROOT / "deploy.py"), "--config", str(self.config),
            "--deploy", str(self.folder / "deploy"), "power", action, "w1",
        )  # fmt: skip
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert PASSWORD not in done.stdout + done.stderr + shlex.join(argv)
        return done.stdout.splitlines()[1]


@pytest.fixture(name="machine")
def fixture_machine(tmp_path: Path) -> Iterator[Machine]:
    with IpmiPeer(tmp_path / "bmc", chassis=CHASSIS).serving() as bmc:
        machine = Machine(bmc)
        try:
            yield machine
        finally:
            if machine.pid is not None:
                end(machine.pid, patience_seconds=5)


def test_a_real_machine_is_switched_cycled_and_netbooted_once(machine: Machine) -> None:
    assert machine.power("status").split() == ["w1", "ipmi", "off", "done"]

    assert machine.power("on").split() == ["w1", "ipmi", "on", "done"]
    first = machine.pid
    assert first is not None
    machine.has_chosen(DISK)

    machine.power("netboot")
    assert machine.pid == first, "netboot switches nothing"
    machine.power("cycle")
    second = machine.pid
    assert second not in {None, first}
    machine.has_chosen(DISK, NETBOOT)

    machine.power("cycle")
    assert machine.pid not in {None, first, second}
    machine.has_chosen(DISK, NETBOOT, DISK)

    assert machine.power("off").split() == ["w1", "ipmi", "off", "done"]
    assert machine.pid is None
    machine.power("cycle")
    assert machine.pid is not None, "a cycle of a machine that is off switches it on"
