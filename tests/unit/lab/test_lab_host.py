import copy
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import pytest

from bootstrap.errors import LabError
from bootstrap.lab import container as processes
from bootstrap.lab import hosts as all_hosts
from bootstrap.lab import network, requirements
from bootstrap.lab.container import Container, hierarchies
from bootstrap.lab.host import (
    LabHost,
    argv,
    container_name,
    files,
    hosts_from,
    known_hosts_line,
    port_of,
)
from bootstrap.lab.hosts import Hosts, with_host_keys
from bootstrap.lab.rack import Rack
from bootstrap.model import Cluster
from bootstrap.power import PowerState
from certs.secret import Secret

M1 = LabHost(name="m1", address=IPv4Interface("10.77.0.11/24"), port=22, user="root")
M2 = LabHost(name="m2", address=IPv4Interface("10.77.0.12/24"), port=2222, user="core")
FOLDER = Path("/srv/firstlight/deploy/lab/lab/m1")
PUBLIC = "ssh-ed25519 AAAA firstlight-lab"


def with_hosts(document: dict[str, Any], *names: str) -> Cluster:
    document = copy.deepcopy(document)
    document["controlPlane"] = {
        "hosts": [
            {"name": "m1", "address": "10.77.0.11"},
            {"name": "m2", "address": "10.77.0.12", "user": "core", "port": 2222},
            {"name": "m3", "address": "10.77.0.13"},
        ]
    }
    document["lab"]["hosts"] = [{"name": name} for name in names or ("m2", "m1")]
    return Cluster.model_validate(document)


@pytest.fixture
def rack(document: dict[str, Any], tmp_path: Path) -> Rack:
    return Rack(with_hosts(document), tmp_path)


def test_a_host_has_the_address_port_and_user_of_the_control_plane_host_it_stands_for(
    document: dict[str, Any],
) -> None:
    assert hosts_from(with_hosts(document)) == (M2, M1)


def test_a_cluster_without_hosts_has_none(cluster: Cluster, tmp_path: Path) -> None:
    assert hosts_from(cluster) == ()
    assert Rack(cluster, tmp_path).hosts.all == {}


def test_a_host_boots_a_systemd_of_its_own_on_the_racks_bridge() -> None:
    command = argv(M1, FOLDER, namespace=Path("/run/netns/fl-lab"), bridge="fl0")

    assert command[:4] == (
        *("nsenter", "--net=/run/netns/fl-lab"),
        *("systemd-nspawn", f"--directory={FOLDER}/root"),
    )
    assert f"--machine={container_name(FOLDER)}" in command
    assert {"--boot", "--hostname=m1", "--register=no", "--keep-unit", "--network-bridge=fl0"} <= set(command)
    assert "ip" not in command, "ip netns exec hides the control groups"


def test_names_follow_from_the_folder_and_fit_an_interface() -> None:
    other = Path("/home/someone/deploy/lab/lab/m1")

    assert re.fullmatch(r"fl[0-9a-f]{10}", container_name(FOLDER))
    assert container_name(other) != container_name(FOLDER)
    assert len(port_of(FOLDER)) == 15
    assert port_of(FOLDER).endswith(container_name(FOLDER))


def test_what_a_host_starts_with() -> None:
    found = files(M2, ("ssh-ed25519 BBBB me",), Secret(b"private"), PUBLIC)

    network, _ = found["etc/systemd/network/10-firstlight-lab.network"]
    assert b"Name=host0\n" in network
    assert b"Address=10.77.0.12/24\n" in network
    assert b"Gateway" not in network, "no packet leaves the rack"
    assert b"Port 2222\n" in found["etc/ssh/sshd_config.d/20-firstlight-lab.conf"][0]
    assert found["etc/ssh/ssh_host_ed25519_key"] == (b"private", 0o600)
    assert found["root/.ssh/authorized_keys"] == (b"ssh-ed25519 BBBB me\n", 0o600)
    assert found["etc/sudoers.d/firstlight-lab"] == (b"core ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    assert "etc/sudoers.d/firstlight-lab" not in files(M1, (), Secret(b"private"), PUBLIC)


def test_a_host_that_is_to_be_a_node_may_run_containers(document: dict[str, Any]) -> None:
    made = with_hosts(document)
    hosts = tuple(host.model_copy(update={"node": True}) for host in made.control_plane.hosts)
    plane = made.control_plane.model_copy(update={"hosts": hosts})
    (host, _) = hosts_from(made.model_copy(update={"control_plane": plane}))
    assert host == replace(M2, node=True)
    found, plain = files(host, (), Secret(b"private"), PUBLIC), files(M2, (), Secret(b"private"), PUBLIC)
    script, mode = found["etc/firstlight-lab/node"]

    assert set(plain) < set(found)
    assert mode == 0o755
    assert b"show vm/overcommit_memory 1\n" in script
    assert subprocess.run(["sh", "-n"], input=script, check=False).returncode == 0
    space = {"namespace": Path("/run/netns/fl-lab"), "bridge": "fl0"}
    more = set(argv(host, FOLDER, **space)) - set(argv(M2, FOLDER, **space))  # type: ignore[arg-type]
    assert more == {"--system-call-filter=@keyring bpf"}


def test_old_control_groups_are_one_hierarchy_a_controller(tmp_path: Path) -> None:
    for name in ("unified", "systemd", "memory", "cpu,cpuacct", "cpuset"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    (tmp_path / "cpu").symlink_to("cpu,cpuacct")
    (tmp_path / "other").mkdir()

    assert [path.name for path in processes.controllers(tmp_path)] == ["cpu,cpuacct", "cpuset", "memory"]
    (tmp_path / "cgroup.procs").touch()
    assert processes.controllers(tmp_path) == ()


def test_a_new_cpuset_has_all_that_its_parent_has(tmp_path: Path) -> None:
    (tmp_path / "child").mkdir()
    for name, text in {"cpuset.cpus": "0-1\n", "cpuset.mems": "0\n", "child/cpuset.cpus": "\n"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "child" / "cpuset.mems").touch()
    processes._fill_cpuset(tmp_path / "child")

    assert (tmp_path / "child" / "cpuset.cpus").read_text() == "0-1\n"
    assert (tmp_path / "child" / "cpuset.mems").read_text() == "0\n"


def test_its_key_is_known_by_address_and_by_another_port() -> None:
    assert known_hosts_line(M1, PUBLIC) == "10.77.0.11 ssh-ed25519 AAAA\n"
    assert known_hosts_line(M2, PUBLIC) == "[10.77.0.12]:2222 ssh-ed25519 AAAA\n"


def test_the_configuration_learns_the_keys_of_the_labs_hosts_alone(
    document: dict[str, Any], tmp_path: Path
) -> None:
    cluster = with_hosts(document)
    first, again = with_host_keys(cluster, tmp_path), with_host_keys(cluster, tmp_path)
    keys = [host.host_key for host in first.control_plane.hosts]

    assert first == again
    assert keys[2] is None, "m3 is a real host"
    assert len({str(key) for key in keys[:2]}) == 2
    assert all(str(key).startswith("ssh-ed25519 ") for key in keys[:2])
    assert (tmp_path / "lab" / "m1" / "ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    assert with_host_keys(first, tmp_path / "elsewhere") == first, "a key that is configured stays"


def test_ssh_into_a_host_knows_its_key_user_and_port(rack: Rack, tmp_path: Path) -> None:
    command = rack.hosts.ssh_argv("m2", ("echo", "two words"))
    known = tmp_path / "known_hosts" / "m2"

    assert command[:4] == ("ip", "netns", "exec", "fl-lab")
    assert command[-5:] == ("-p", "2222", "core@10.77.0.12", "--", "echo 'two words'")
    assert {"StrictHostKeyChecking=yes", f'UserKnownHostsFile="{known}"'} <= set(command)
    assert known.read_text().startswith("[10.77.0.12]:2222 ssh-ed25519 ")


def test_a_host_without_a_root_says_what_makes_one(rack: Rack, tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    with pytest.raises(
        LabError, match="host m2 of the lab has no root yet: `image build` makes what it starts"
    ):
        rack.hosts.furnish({})
    with pytest.raises(LabError, match="host m1 cannot be switched on: it has no root yet"):
        rack.hosts.boot("m1")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = tmp_path / "made"
    for name in ("etc/ssh/sshd_config.d", "etc/systemd/network", "etc/sudoers.d", "root/.ssh"):
        (root / name).mkdir(parents=True)
    (root / "etc" / "mine").write_text("as installed\n")
    subprocess.run(["tar", "-C", root, "-cf", tmp_path / "root.tar", "."], check=True)
    return tmp_path / "root.tar"


def test_a_root_is_unpacked_once_and_keeps_what_was_changed_in_it(
    document: dict[str, Any], tmp_path: Path, archive: Path
) -> None:
    hosts = Rack(with_hosts(document, "m1"), tmp_path).hosts
    (tmp_path / "lab" / "m1" / "root.partial").mkdir(parents=True)
    hosts.furnish({False: archive})
    root = tmp_path / "lab" / "m1" / "root"
    (root / "etc" / "mine").write_text("changed\n")
    (root / "etc" / "hosts").write_text("changed\n")
    (root / "root" / ".ssh" / "authorized_keys").write_text("somebody else's\n")

    hosts.furnish({})

    assert (root / "etc" / "mine").read_text() == "changed\n"
    assert (root / "etc" / "hosts").read_text() == "changed\n"
    assert (root / "etc" / "hostname").read_text() == "m1\n"
    assert (root / "root" / ".ssh" / "authorized_keys").read_text().endswith(" firstlight-lab\n")
    assert not root.with_name("root.partial").exists()


def test_a_damaged_archive_leaves_no_half_root(rack: Rack, tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "root.tar").write_bytes(b"no archive")

    with pytest.raises(LabError, match="tar failed"):
        rack.hosts.furnish({False: tmp_path / "root.tar"})

    assert not (tmp_path / "lab" / "m2" / "root").exists()


def test_hosts_are_listed_before_machines_and_are_off(rack: Rack) -> None:
    assert list(rack.states().items())[:3] == [
        ("m2", PowerState.OFF),
        ("m1", PowerState.OFF),
        ("w1", PowerState.OFF),
    ]
    assert rack.names == ("w1", "w2")


def test_a_host_is_not_switched_on_without_a_network(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "is_namespace", lambda _: False)
    with pytest.raises(LabError, match="host m1 cannot be switched on: the lab is down"):
        rack.power_on("m1")


def test_a_host_has_a_log_and_no_console(rack: Rack, tmp_path: Path) -> None:
    log = tmp_path / "lab" / "m1" / "console.log"

    assert rack.console_log("m1") == log
    with pytest.raises(LabError, match=f"m1 is a host, without a console to type at; read {log}"):
        rack.console("m1")


@pytest.mark.parametrize("act", ["freeze", "thaw"])
def test_only_hosts_are_frozen(rack: Rack, act: str) -> None:
    with pytest.raises(LabError, match="no host w1 in the lab; there are: m2, m1"):
        getattr(rack, act)("w1")


def test_what_hosts_need_of_this_computer_is_asked_only_with_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert "systemd-container" in requirements.missing_packages((), hosts=True)
    assert "systemd-container" not in requirements.missing_packages(())


def test_control_groups_of_new_and_of_older_systems(tmp_path: Path) -> None:
    new, hybrid = tmp_path / "new", tmp_path / "hybrid"
    for group in (new, hybrid / "unified", hybrid / "systemd", hybrid / "memory"):
        group.mkdir(parents=True)
        (group / "cgroup.procs").touch()

    assert hierarchies(new) == (new,)
    assert hierarchies(hybrid) == (hybrid / "unified", hybrid / "systemd")
    assert hierarchies(tmp_path) == ()


@pytest.fixture
def sleeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Container, int]]:
    """A process in a made-up control group, two levels deep, of a container."""
    container = Container(tmp_path / "m1")
    monkeypatch.setattr(processes, "hierarchies", lambda: (tmp_path / "groups",))
    group = tmp_path / "groups" / container_name(container.folder) / "payload" / "system.slice"
    group.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as process:
        (group / "cgroup.procs").write_text(f"{process.pid}\n")
        yield container, process.pid
        process.kill()


def test_a_frozen_host_is_unknown_and_goes_on_when_thawed(sleeper: tuple[Container, int]) -> None:
    container, pid = sleeper
    assert container.pids() == (pid,)
    assert container.state() is PowerState.ON

    container.freeze()
    assert container.state() is PowerState.UNKNOWN

    container.thaw()
    assert container.state() is PowerState.ON


def test_a_host_that_does_not_end_is_an_error(
    sleeper: tuple[Container, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    container, pid = sleeper
    monkeypatch.setattr(processes, "ROUNDS", 2)

    with monkeypatch.context() as deaf:
        deaf.setattr(os, "kill", lambda *_: None)
        with pytest.raises(LabError, match=f"host m1 does not end: processes {pid}"):
            container.switch_off()


def test_a_host_needs_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "hierarchies", lambda: ())

    with pytest.raises(LabError, match="no control groups are mounted"):
        Container(tmp_path).start(("true",))


def test_a_host_that_never_answers_shows_its_console(
    rack: Rack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(all_hosts, "START_SECONDS", 0.0)
    monkeypatch.setattr(Hosts, "ssh_argv", lambda *_: ("false",))
    (tmp_path / "lab" / "m1").mkdir(parents=True)
    (tmp_path / "lab" / "m1" / "console.log").write_text("Failed to mount /proc\n")

    with pytest.raises(
        LabError, match="host m1 does not answer SSH after 0 s; its console said:\nFailed to mount"
    ):
        rack.hosts.await_ssh("m1")
