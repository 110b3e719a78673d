"""The main job: two bare machines, power-on to their own disks, by one command. The tests build on each other."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.docs_commands import commands
from tests.system.spine import CACHE, ROOT, Outcome, Site, leftovers, wait_for

pytestmark = pytest.mark.system

NAMES = ("w1", "w2")
BOOT_SECONDS = 400.0  # firmware, iPXE and a Debian under emulation, two machines at once
INSTALLER = "installing w1 of cluster lab"
COMMIT = "firstlight: commit: "


@pytest.fixture(scope="module", name="site")
def fixture_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(deploy=tmp_path_factory.mktemp("spine"), cache=CACHE)
    yield site
    site.run("down", timeout=120)


@pytest.fixture(scope="module", name="first")
def fixture_first(site: Site) -> Outcome:
    """The first run of the command, from nothing."""
    return site.run()


@pytest.fixture(autouse=True)
def _consoles(site: Site, request: pytest.FixtureRequest) -> Iterator[None]:
    """Show the ends of the consoles and logs when a test failed."""
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed == failed_before:
        return
    for log in (*site.work.glob("lab/*/console.log"), *site.work.glob("log/*.log")):
        sys.stderr.write(f"--- {log}\n{log.read_text(errors='replace')[-4000:]}\n")


def test_one_command_takes_both_machines_from_power_on_to_their_own_disk(first: Outcome, site: Site) -> None:
    """The command exits 0 and prints both machines as installed, one BIOS and one UEFI."""
    assert first.code == 0, first.err[-4000:]
    lines = [re.split(r"\s{2,}", line.strip()) for line in first.out.strip().splitlines()]
    assert [
        "NAME", "POOL", "STATE", "FIRMWARE", "ADDRESS", "DISK", "SINCE", "MESSAGE",
    ] == lines[0]  # fmt: skip
    assert ["w1", "workers", "installed", "bios", "10.77.0.101", "virtio-w1-root 8 GiB"] == lines[1][:6]
    assert ["w2", "workers", "installed", "uefi", "10.77.0.102", "virtio-w2-root 8 GiB"] == lines[2][:6]
    assert {"booted from disk, ssh answers"} == {line[-1] for line in lines[1:]}
    assert {1} == {machine["attempts"] for machine in site.machines().values()}


def test_a_second_run_changes_nothing_and_says_so(first: Outcome, site: Site) -> None:
    """Nothing is made, restarted or installed again."""
    assert first.code == 0
    before = {name: machine["arm"] for name, machine in site.machines().items()}
    began = time.monotonic()

    second = site.run()

    assert second.code == 0, second.err
    assert "nothing changed" in second.err
    assert before == {name: machine["arm"] for name, machine in site.machines().items()}
    assert {1} == {machine["attempts"] for machine in site.machines().values()}
    assert time.monotonic() - began < 60, "a second run waits for nothing"


@pytest.mark.parametrize("name", NAMES)
def test_the_installed_system_is_what_the_configuration_says(first: Outcome, site: Site, name: str) -> None:
    """Hostname, root on the selected disk and grown to it, keys only, time and sleep settings, containerd."""
    assert first.code == 0
    assert name == site.in_machine(name, "hostname")
    disk = site.in_machine(name, "lsblk", "--noheadings", "--output", "SERIAL", "/dev/vda")
    root = site.in_machine(name, "findmnt", "--noheadings", "--output", "SOURCE,FSTYPE", "/").split()

    assert f"virtio-{name}-root" == disk.splitlines()[0].strip()
    assert root[0].startswith("/dev/vda")
    size = int(site.in_machine(name, "findmnt", "--bytes", "--noheadings", "--output", "SIZE", "/"))
    assert size > 7 * 1024**3, "the root file system fills the 8 GiB disk"
    assert "" == site.in_machine(name, "awk", "-F:", "$2 !~ /^[!*]/ {print $1}", "/etc/shadow")
    assert "passwordauthentication no" in site.in_machine(name, "sshd", "-T")
    for unit in ("sleep.target", "suspend.target", "hibernate.target", "hybrid-sleep.target"):
        masked = site.in_machine(name, "sh", "-c", f"systemctl is-enabled {unit} || true")
        assert "masked" == masked, unit
    assert "enabled" == site.in_machine(name, "systemctl", "is-enabled", "systemd-timesyncd.service")
    assert site.in_machine(name, "containerd", "--version").startswith("containerd ")
    assert site.in_machine(name, "ls", "/usr/lib/cni").count("\n") > 5
    failed = site.in_machine(name, "systemctl", "list-units", "--failed", "--plain", "--no-legend")
    assert "" == failed


@pytest.mark.parametrize("document", ["README.md", "docs/booting.md"])
def test_the_commands_of_the_documentation_work_on_the_running_lab(
    first: Outcome, site: Site, document: str
) -> None:
    """Each command that the document marks as one for the lab exits 0."""
    assert first.code == 0
    found = commands(ROOT / document, "lab")
    assert found
    cycled = tuple(words[-1] for words in found if "cycle" in words)
    before = site.machines()
    for words in found:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=site.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    wait_until_booted_again(site, cycled, before)


def test_each_power_cycle_with_network_first_boots_from_disk(first: Outcome, site: Site) -> None:
    """Three times off and on: each boot comes up from disk, and the disks were written exactly once."""
    assert first.code == 0
    for _ in range(3):
        cycle_and_wait(site, NAMES)

    for name in NAMES:
        machine = site.machine(name)
        assert ("installed", 1) == (machine["state"], machine["attempts"])
        assert 1 == write_passes(site, name)
        sent = re.findall(rf"firstlight: {name} is installed\s*$", site.console(name), re.MULTILINE)
        assert len(sent) >= 4, "each boot was sent to its disk by our server, and the console says so"


def cycle_and_wait(site: Site, names: tuple[str, ...]) -> None:
    """Cut the power of `names`, give it back, and wait until each has reported from its disk again."""
    before = site.machines()
    assert 0 == site.run("lab", "power", "cycle", *names, timeout=120).code
    wait_until_booted_again(site, names, before)


def wait_until_booted_again(
    site: Site, names: tuple[str, ...], before: Mapping[str, Mapping[str, Any]]
) -> None:
    """Wait until each of `names` has reported from its disk later than it had in `before`."""

    def all_back() -> bool:
        now = site.machines()
        return all(
            now[name]["bootedAt"] not in {None, before[name]["bootedAt"]} and now[name]["sshAnswers"]
            for name in names
        )

    wait_for(all_back, f"{names} booted from disk", timeout=BOOT_SECONDS)


def write_passes(site: Site, name: str) -> int:
    """Return how often the machine's installer began to write its disk, as its own console says."""
    return len(re.findall(r"firstlight: clear: \d+% ", site.console(name)))


def test_lost_completion_reports_never_cost_a_second_write(first: Outcome, site: Site) -> None:
    """With every report of the first attempt's end dropped, the marker on the disk tells the truth in the end."""
    assert first.code == 0
    passes = write_passes(site, "w1")
    assert 0 == site.run("machine", "arm", "w1", "--yes", timeout=60).code
    assert 0 == site.run("lab", "power", "cycle", "w1", timeout=60).code
    wait_for(
        lambda: site.console("w1").count(COMMIT) == passes + 1, "w1 commits", timeout=BOOT_SECONDS, every=0.05
    )
    with reports_dropped(site, "10.77.0.101"):
        installers = site.console("w1").count(INSTALLER)
        wait_for(
            lambda: site.console("w1").count(INSTALLER) == installers + 1,
            "w1 netboots the installer again",
            timeout=BOOT_SECONDS,
        )
        assert "installing" == site.machine("w1")["state"], "no report of the end has come through"
    wait_for(lambda: site.machine("w1")["sshAnswers"], "w1 is up from its disk", timeout=BOOT_SECONDS)

    machine = site.machine("w1")
    assert ("installed", 1) == (machine["state"], machine["attempts"])
    assert passes + 1 == write_passes(site, "w1")
    assert "already-installed" in {event["what"] for event in site.events("w1")}


class reports_dropped:  # noqa: N801  # reads as the clause it is
    """Drops every packet from `address` to our HTTPS port, in the lab's namespace only."""

    def __init__(self, site: Site, address: str) -> None:
        self._namespace = site.namespace
        self._rule = ("INPUT", "-s", address, "-p", "tcp", "--dport", "8443", "-j", "DROP")

    def _iptables(self, action: str) -> None:
        subprocess.run(["ip", "netns", "exec", self._namespace, "iptables", action, *self._rule], check=True)

    def __enter__(self) -> None:
        self._iptables("-I")

    def __exit__(self, *_: object) -> None:
        self._iptables("-D")


def test_down_leaves_nothing_behind(first: Outcome, site: Site) -> None:
    """No process, namespace, mount or file outside the work folder; down twice is fine."""
    assert first.code == 0

    assert 0 == site.run("down", timeout=120).code
    assert [] == leftovers(site)
    assert 0 == site.run("down", timeout=120).code


def test_up_after_down_goes_on_from_the_disks(first: Outcome, site: Site) -> None:
    """Keys, state and disks were kept: both machines come back without being installed again."""
    assert first.code == 0
    passes = {name: write_passes(site, name) for name in NAMES}

    again = site.run()

    assert again.code == 0, again.err
    assert passes == {name: write_passes(site, name) for name in NAMES}
    assert 0 == site.run("down", timeout=120).code
    assert [] == leftovers(site)
