"""The hosts of the rack, for real: systemd, SSH with a known key, faults; what is left afterwards is nothing."""

import contextlib
import copy
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootstrap.errors import LabError
from bootstrap.image import host as host_image
from bootstrap.lab.host import container_name
from bootstrap.lab.rack import Rack
from bootstrap.model import Cluster
from bootstrap.power import PowerState
from bootstrap.processes import wait_until
from bootstrap.progress import silent
from tests.system.lab_rack import DOCUMENT
from tests.system.spine import CACHE, HEARS_CTRL_C, ROOT

pytestmark = pytest.mark.system

NAME = f"labhosts{os.getpid()}"
HOSTS = [
    {"name": "m1", "address": "10.77.0.11"},
    {"name": "m2", "address": "10.77.0.12", "user": "core", "port": 2222},
]
PATIENCE_SECONDS = 60.0


CUT_BUILD = """\
import sys
from pathlib import Path
from bootstrap.image import host
host.build(Path(sys.argv[1]), lambda *told: print(*told, flush=True))
"""


def document() -> dict[str, Any]:
    made = copy.deepcopy(DOCUMENT)
    made["metadata"]["name"] = NAME
    made["controlPlane"] = {"hosts": copy.deepcopy(HOSTS)}
    made["lab"]["hosts"] = [{"name": "m1"}, {"name": "m2"}]
    return made


@pytest.fixture(scope="module")
def root() -> Path:
    return host_image.build(CACHE, silent)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def made(work: Path) -> Iterator[Rack]:
    rack = Rack(Cluster.model_validate(document()), work)
    yield rack
    rack.down()


@pytest.fixture
def rack(made: Rack, root: Path) -> Rack:
    """The rack with both hosts up, whatever the test before did to them."""
    made.up(host_roots={False: root})
    return made


def on(rack: Rack, name: str, *command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    argv = rack.hosts.ssh_argv(name, command)
    return subprocess.run(
        argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
    )


def said(rack: Rack, name: str, *command: str) -> str:
    done = on(rack, name, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def boot_of(rack: Rack, name: str) -> str:
    """What differs between two starts of a host: when its first process began."""
    return said(rack, name, "cut", "-d", " ", "-f", "22", "/proc/1/stat")


def traces(work: Path) -> list[str]:
    """What hosts may have left behind outside their work folder."""
    names = {container_name(work / "lab" / name) for name in ("m1", "m2")}
    found = [str(path) for name in names for path in Path("/sys/fs/cgroup").glob(f"**/{name}")]
    found += [str(path) for path in Path("/run").rglob("*") if path.name in {*names, f"fl-{NAME}"}]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [line for line in mounts if NAME in line or str(work) in line]
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
            if str(work) in command or str(folder.joinpath("root").readlink()).startswith(str(work)):
                found.append(f"{folder.name}: {command}")
    return found


def connects(rack: Rack, address: str, port: int) -> bool:
    """Whether the kernel at `address` takes a TCP connection."""
    attempt = f"import socket; socket.create_connection(({address!r}, {port}), 3)"
    argv = rack.in_namespace((sys.executable, "-c", attempt))
    return subprocess.run(argv, check=False, capture_output=True).returncode == 0


def test_a_host_runs_a_whole_system_and_is_known_by_its_key(rack: Rack) -> None:
    for name, user in (("m1", "root"), ("m2", "core")):
        assert said(rack, name, "systemctl", "is-system-running", "--wait") == "running"
        assert said(rack, name, "systemctl", "--failed", "--plain", "--no-legend") == ""
        assert said(rack, name, "hostname") == name
        assert said(rack, name, "id", "-un") == user
    assert said(rack, "m2", "sudo", "-n", "id", "-un") == "root"
    assert rack.states()["m1"] is PowerState.ON


def test_another_key_is_refused(rack: Rack, work: Path) -> None:
    known = rack.hosts.known_hosts("m1")
    stranger = rack.hosts.known_hosts("m2").read_text().split()[1:]
    argv = rack.hosts.ssh_argv("m1", ("true",))
    known.write_text(f"10.77.0.11 {' '.join(stranger)}\n")

    done = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    assert done.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr
    assert work in known.parents


def test_hosts_reach_each_other_and_nothing_else(rack: Rack) -> None:
    routes = said(rack, "m1", "ip", "route").splitlines()
    between = said(rack, "m1", "bash", "-c", "exec 3<>/dev/tcp/10.77.0.12/2222 && head -c 4 <&3")
    out = on(rack, "m1", "timeout", "3", "bash", "-c", "exec 3<>/dev/tcp/192.0.2.1/80")

    assert [route.split()[:3] for route in routes] == [["10.77.0.0/24", "dev", "host0"]]
    assert between == "SSH-"
    assert "Network is unreachable" in out.stderr


def test_a_second_up_leaves_running_hosts_alone(rack: Rack) -> None:
    before = {name: boot_of(rack, name) for name in ("m1", "m2")}
    rack.up()

    assert {name: boot_of(rack, name) for name in ("m1", "m2")} == before


def test_down_leaves_nothing_and_the_next_up_finds_what_was_changed(rack: Rack, work: Path) -> None:
    said(rack, "m1", "sh", "-c", "echo mine > /etc/mine")
    identity = said(rack, "m1", "cat", "/etc/machine-id")
    key = rack.hosts.known_hosts("m1").read_text()

    rack.down()
    rack.down()
    assert traces(work) == []
    assert set(rack.states().values()) == {PowerState.OFF}

    rack.up()
    assert said(rack, "m1", "cat", "/etc/mine", "/etc/machine-id").split() == ["mine", identity]
    assert rack.hosts.known_hosts("m1").read_text() == key


def test_a_frozen_host_takes_connections_and_does_not_answer(rack: Rack) -> None:
    rack.freeze("m1")
    try:
        assert rack.states()["m1"] is PowerState.UNKNOWN
        assert connects(rack, "10.77.0.11", 22)
        with pytest.raises(subprocess.TimeoutExpired):
            on(rack, "m1", "true", seconds=3)
        assert said(rack, "m2", "true") == ""
    finally:
        rack.thaw("m1")

    assert rack.states()["m1"] is PowerState.ON
    assert said(rack, "m1", "hostname") == "m1"


def test_a_host_whose_cable_is_out_is_silent_and_comes_back(rack: Rack) -> None:
    before = boot_of(rack, "m1")
    rack.plug("m1", connected=False)
    try:
        assert not connects(rack, "10.77.0.11", 22)
        assert rack.states()["m1"] is PowerState.ON
    finally:
        rack.plug("m1", connected=True)

    assert boot_of(rack, "m1") == before


def test_power_is_cut_at_once_and_comes_back(rack: Rack) -> None:
    before = boot_of(rack, "m1")
    said(rack, "m1", "sh", "-c", "echo acknowledged > /root/written")
    rack.power_off("m1")
    assert rack.states()["m1"] is PowerState.OFF
    assert not connects(rack, "10.77.0.11", 22)
    with pytest.raises(LabError, match="is it switched on"):
        rack.plug("m1", connected=False)

    rack.power_on("m1")
    rack.hosts.await_ssh("m1")

    assert boot_of(rack, "m1") != before
    assert said(rack, "m1", "cat", "/root/written") == "acknowledged"
    assert said(rack, "m1", "systemctl", "is-system-running", "--wait") == "running"


def test_a_frozen_host_is_switched_off_all_the_same(rack: Rack, work: Path) -> None:
    rack.freeze("m1")
    rack.cycle("m1")
    rack.hosts.await_ssh("m1")
    rack.freeze("m2")
    rack.down()

    assert traces(work) == []


def test_what_a_killed_supervisor_leaves_running_is_ended_too(rack: Rack, work: Path) -> None:
    """A SIGKILL of systemd-nspawn alone leaves the system it started alive, in a network namespace of its own."""
    supervisors = [pid for pid in rack.hosts.container("m1").pids() if comm(pid) == "systemd-nspawn"]
    assert len(supervisors) == 1
    os.kill(supervisors[0], signal.SIGKILL)
    assert wait_until(lambda: comm(supervisors[0]) == "", PATIENCE_SECONDS)
    assert rack.hosts.container("m1").pids()

    rack.down()

    assert traces(work) == []


def comm(pid: int) -> str:
    """Return the name of a process that runs, or nothing."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    name, _, rest = status.partition("(")[2].rpartition(")")
    return "" if rest.split()[0] == "Z" else name


def test_a_host_that_powers_itself_off_is_off_and_can_be_switched_on(rack: Rack) -> None:
    on(rack, "m1", "systemctl", "poweroff")
    assert wait_until(lambda: rack.states()["m1"] is PowerState.OFF, PATIENCE_SECONDS)

    rack.power_on("m1")
    rack.hosts.await_ssh("m1")

    assert rack.states()["m1"] is PowerState.ON


def test_a_changed_address_and_a_host_that_left_are_seen_by_the_next_up(rack: Rack, work: Path) -> None:
    changed = document()
    changed["controlPlane"]["hosts"][0]["address"] = "10.77.0.21"
    changed["lab"]["hosts"] = [{"name": "m1"}]
    other = Rack(Cluster.model_validate(changed), work)

    other.up()

    assert said(other, "m1", "hostname") == "m1"
    assert other.hosts.known_hosts("m1").read_text().startswith("10.77.0.21 ")
    assert list(other.states())[:1] == ["m1"]
    assert rack.states()["m2"] is PowerState.OFF


def test_roots_are_destroyed_with_the_disks_and_not_under_a_running_host(rack: Rack, work: Path) -> None:
    with pytest.raises(LabError, match="switch off first: m1, m2"):
        rack.destroy_disks()
    rack.down()
    rack.destroy_disks()

    assert not (work / "lab" / "m1").exists()
    assert traces(work) == []


def test_a_cut_build_of_the_root_leaves_nothing(tmp_path: Path) -> None:
    argv = [*HEARS_CTRL_C, sys.executable, "-c", CUT_BUILD, str(tmp_path)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as build:
        try:
            assert build.stdout is not None
            assert any("unpacking packages" in line for line in build.stdout)
            children = descendants_of(build.pid)
            assert children
            build.send_signal(signal.SIGTERM)
            assert build.wait(timeout=PATIENCE_SECONDS) != 0
        finally:
            build.kill()

    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
    assert [path.name for path in (tmp_path / "building").iterdir()] == ["lock"]
    assert not (tmp_path / "hosts").exists()
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def descendants_of(pid: int) -> list[int]:
    """Return the processes that `pid` started, and those that they started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for each in map(int, children) for child in (each, *descendants_of(each))]
