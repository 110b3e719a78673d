"""A BMC of the lab before a real virtual machine: `power` switches it over IPMI, and netboots it once."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootstrap.lab import qmp
from bootstrap.lab.power import Slot
from bootstrap.processes import is_gone
from tests.power_targets import secret
from tests.system.disk_rack import appliance
from tests.system.explain_rack import make_image
from tests.system.spine import ROOT, Outcome, Site, leftovers, show_logs, wait_for
from tests.system.word_disk import say

pytestmark = pytest.mark.system

CONFIG = "tests/system/lab-bmc.yaml"
PASSWORD = "Right-Pass_1"  # the test's own
BOOT_SECONDS = 240.0


@pytest.fixture(scope="module", name="site")
def fixture_site(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("labbmc")
    shutil.copy(ROOT / CONFIG, folder / "rack.yaml")
    secret(folder, "bmc.pw", PASSWORD)
    configs = (str(folder / "rack.yaml"),)
    make_image(folder, folder / "cache")
    site = Site(deploy=folder / "deploy", cache=folder / "cache", configs=configs, name="labbmc")
    failed_before = request.session.testsfailed
    with appliance(site, folder / "serve.log", builds=()):
        for name in ("w1", "w2"):
            say(site.work / f"lab/{name}/word.raw", f"WORD-OF-{name}")
        yield site
        if request.session.testsfailed > failed_before:
            for log in site.work.glob("lab/*/bmc/log"):
                print(log, log.read_text(errors="replace")[-2000:])  # noqa: T201  # for who reads the failure
            show_logs(site)
    assert leftovers(site) == []


@dataclass
class Told:
    """A machine as an operator and a person at its screen see it."""

    site: Site
    name: str

    @property
    def slot(self) -> Slot:
        return Slot(self.site.work / "lab" / self.name)

    def run(self, *verb: str) -> Outcome:
        return self.site.run("--output", "json", *verb, self.name, timeout=150)

    def power(self, action: str) -> str:
        """Run `power ACTION` as a person does; return the state that it shows."""
        done = self.run("power", action)
        assert done.code == 0, done.err
        (row,) = json.loads(done.out)
        assert (row["name"], row["driver"], row["error"]) == (self.name, "ipmi", "")
        return str(row["power"])

    def disk_boots(self) -> int:
        if not self.slot.console_log.exists():
            return 0  # it was never on
        return self.site.console(self.name).count(f"WORD-OF-{self.name}")

    def netboots(self) -> int:
        """Return how often the appliance was asked for this machine's script."""
        log = (self.site.work / "log" / "nginx-access.log").read_text()
        mac = {"w1": "52-54-00-74-00-01", "w2": "52-54-00-74-00-02"}[self.name]
        return log.count(f"/ipxe?mac={mac}")

    def await_disk(self, times: int) -> None:
        what = f"{self.name} starts its disk for the {times}. time"
        wait_for(lambda: self.disk_boots() >= times, what, timeout=BOOT_SECONDS, every=0.5)

    def await_netboot(self, reason: str) -> None:
        """Wait until its iPXE has asked the appliance, and shows the answer."""
        what = f"{self.name} asks the appliance"
        wait_for(lambda: self.netboots() > 0, what, timeout=BOOT_SECONDS, every=0.5)
        said = f"firstlight: {self.name} {reason}"
        wait_for(
            lambda: said in self.site.console(self.name), f"{self.name} says {said}", timeout=60, every=0.5
        )


@pytest.mark.parametrize("name", ["w1", "w2"])
def test_power_switches_the_real_machine_and_netboots_it_once(site: Site, name: str) -> None:
    """Disk first; with the network chosen a cycle netboots it; a restart and another cycle are from the disk again."""
    machine = Told(site, name)
    assert machine.power("status") == "off"
    assert machine.power("on") == "on"
    first = machine.slot.pid()
    assert first is not None
    machine.await_disk(1)
    assert machine.power("on") == "on"
    assert (machine.slot.pid(), machine.netboots()) == (first, 0)

    assert machine.power("netboot") == "on"
    assert machine.slot.pid() == first, "netboot switches nothing"
    assert machine.power("cycle") == "on"
    second = machine.slot.pid()
    assert second not in {None, first}
    assert is_gone(first)
    machine.await_netboot("is accepted - arm it")
    assert machine.disk_boots() == 1

    with qmp.opened(machine.slot.monitor) as monitor:
        monitor.execute("system_reset")
    machine.await_disk(2)
    assert machine.power("cycle") == "on"
    machine.await_disk(3)

    assert machine.power("off") == "off"
    assert machine.slot.pid() is None
    assert machine.power("off") == "off"
    assert machine.power("cycle") == "on", "a cycle of a machine that is off switches it on"
    assert machine.power("off") == "off"


def test_arming_with_a_cycle_installs_at_once(site: Site) -> None:
    """The disk comes first: without the BMC's word the machine would start what is on it."""
    machine = Told(site, "w1")
    before = machine.disk_boots()

    armed = site.run("machine", "arm", "w1", "--cycle", "--yes", timeout=150)

    assert armed.code == 0, armed.err
    said = "installing w1, attempt 1 of 3"
    wait_for(lambda: said in site.console("w1"), f"w1 says {said}", timeout=BOOT_SECONDS, every=0.5)
    assert machine.disk_boots() == before
    assert machine.power("off") == "off"


def test_the_bmc_sees_what_others_do_to_the_machine(site: Site) -> None:
    machine = Told(site, "w1")
    assert site.run("lab", "power", "on", "w1").code == 0
    assert machine.power("status") == "on"

    pid = machine.slot.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: is_gone(pid), "QEMU is gone", timeout=30, every=0.2)

    assert machine.power("status") == "off"


def test_the_password_is_in_a_private_file_and_nowhere_else(site: Site) -> None:
    files = [path for path in site.work.rglob("*") if path.is_file() and path.stat().st_size < 1 << 20]
    holding = {str(path.relative_to(site.work)): path for path in files if PASSWORD in _text(path)}
    shown = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            shown += [(process / name).read_bytes() for name in ("cmdline", "environ")]

    assert {"lab/w1/bmc/lan", "lab/w2/bmc/lan"} == set(holding)
    assert {path.stat().st_mode & 0o777 for path in holding.values()} == {0o600}
    assert not [one for one in shown if PASSWORD.encode() in one]


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")


def test_a_wrong_password_is_refused_by_the_bmc(site: Site, tmp_path: Path) -> None:
    shutil.copy(site.configs[0], tmp_path / "rack.yaml")
    secret(tmp_path, "bmc.pw", "Wrong-Pass_2")
    other = Site(deploy=site.deploy, cache=site.cache, configs=(str(tmp_path / "rack.yaml"),), name=site.name)

    refused = other.run("power", "on", "w1")

    assert refused.code == 1
    assert "the BMC at 10.99.0.1 port 623 refuses user 'admin'" in refused.err
    assert Told(site, "w1").power("status") == "off"


def test_nobody_outside_the_lab_reaches_its_bmcs(site: Site) -> None:
    """Their addresses are on the loopback of the lab's namespace alone; `lab up` again changes nothing."""
    pid = (site.work / "lab/w1/bmc/pid").read_text().strip()

    assert site.run("lab", "up").code == 0

    assert (site.work / "lab/w1/bmc/pid").read_text().strip() == pid
    place = "0100630A:026F"  # 10.99.0.1 port 623, as the kernel writes it
    assert place in Path(f"/proc/{pid}/net/udp").read_text()
    assert place not in Path("/proc/net/udp").read_text()
