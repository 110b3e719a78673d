"""configs/node/endpoint: which API servers a node refuses to itself, and when it lets them in again."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootstrap.kubernetes.nodes import hosts_text, node_kubeconfig
from tests import samples
from tests.unit.node.appliance import ROOT

SCRIPT = ROOT / "configs/node/endpoint"
SERVERS = ("10.77.0.10", "10.77.0.11", "10.77.0.12")
# A server is ready in the rounds that its file names.
PROGRAMS = {
    "curl": 'echo "$*" >> "$FAKE/asked"; for word; do case $word in api.*:*:*) server=${word##*:};; esac; done; '
    'round=$(cat "$FAKE/round"); grep -qx "$round" "$FAKE/$server"',
    "sleep": ":",
    "iptables-restore": 'cat >> "$FAKE/rules"',
    "iptables": 'echo "$*" >> "$FAKE/calls"; [ "$2" != -C ]',
    "ss": 'echo "$*" >> "$FAKE/killed"',
    # Called once a round, before anybody is asked.
    "sed": 'n=$(cat "$FAKE/round"); case $* in *hosts) echo $((n + 1)) > "$FAKE/round";; esac; exec /usr/bin/sed "$@"',
}


@dataclass(frozen=True)
class Machine:
    folder: Path

    def ready(self, *rounds: str) -> None:
        """Say of each server in which rounds it is ready: "12-4" is in all of the first four but the third."""
        for server, text in zip(SERVERS, rounds, strict=True):
            (self.folder / server).write_text("".join(f"{digit}\n" for digit in text if digit != "-"))

    def run(self, rounds: int, *arguments: str) -> str:
        """Run the script for some rounds, and return what it says."""
        done = subprocess.run(
            ("sh", str(SCRIPT), *arguments),
            env={
                "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
                "FAKE": str(self.folder),
                "FL_KUBECONFIG": str(self.folder / "kubelet.conf"),
                "FL_HOSTS": str(self.folder / "hosts"),
                "FL_IDENTITY": str(self.folder / "kubelet.conf"),
                "FL_ROUNDS": str(rounds),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stderr

    def refused(self) -> list[list[str]]:
        """Return whom each new set of rules refuses, the first one made before anybody was asked."""
        sets = (self.folder / "rules").read_text().split("*filter\n")[1:]
        return [[line.split()[3] for line in rules.splitlines() if line.startswith("-A")] for rules in sets]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "bin").mkdir()
    for name, text in PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    cluster = samples.cluster("lab-ha")
    (tmp_path / "hosts").write_bytes(hosts_text(cluster, "w1"))
    (tmp_path / "kubelet.conf").write_bytes(node_kubeconfig(cluster, "w1"))
    (tmp_path / "round").write_text("0\n")
    return Machine(tmp_path)


def test_while_all_are_ready_nobody_is_refused(machine: Machine) -> None:
    machine.ready("123", "123", "123")
    machine.run(3)

    assert machine.refused() == [[]]


def test_each_is_asked_by_name_at_its_own_address_from_a_port_that_is_never_refused(machine: Machine) -> None:
    machine.ready("1", "1", "1")
    machine.run(1)
    asked = (machine.folder / "asked").read_text().splitlines()

    assert sorted(word for line in asked for word in line.split() if word.startswith("api.")) == [
        f"api.lab.internal:6443:{server}" for server in SERVERS
    ]
    assert all("--local-port 28000-28999" in line for line in asked)
    assert all(line.endswith("https://api.lab.internal:6443/readyz") for line in asked)


def test_one_that_is_silent_twice_is_refused_and_cut_off(machine: Machine) -> None:
    machine.ready("1", "1234", "1234")
    said = machine.run(4)

    assert machine.refused() == [[], [SERVERS[0]]]
    rules = (machine.folder / "rules").read_text()
    assert f"-d {SERVERS[0]} -p tcp -m tcp --dport 6443 ! --sport 28000:28999 -j REJECT" in rules
    assert "-w -I OUTPUT -j FIRSTLIGHT-API" in (machine.folder / "calls").read_text()
    assert (machine.folder / "killed").read_text().count(f"dst {SERVERS[0]} dport = :6443") == 1
    assert f"not asked any more: {SERVERS[0]}" in said


def test_one_that_is_silent_once_is_not(machine: Machine) -> None:
    machine.ready("1-3-5", "12345", "12345")
    machine.run(5)

    assert machine.refused() == [[]]


def test_one_that_is_ready_again_is_let_in_at_once(machine: Machine) -> None:
    machine.ready("45", "12345", "12345")
    machine.run(5)

    assert machine.refused() == [[], [SERVERS[0]], []]


def test_while_nobody_is_ready_nobody_is_refused(machine: Machine) -> None:
    machine.ready("6", "126", "126")
    machine.run(5)

    assert machine.refused() == [[], [SERVERS[0]], []]


def test_an_endpoint_with_one_address_is_left_alone(machine: Machine) -> None:
    (machine.folder / "hosts").write_text(f"{SERVERS[0]} api.lab.internal\n")
    machine.ready("", "", "")
    machine.run(3)

    assert machine.refused() == [[]]
    assert not (machine.folder / "asked").exists()


def test_before_there_is_a_certificate_nobody_is_asked(machine: Machine) -> None:
    (machine.folder / "kubelet.conf").unlink()
    machine.ready("", "1", "1")
    machine.run(3)

    assert not (machine.folder / "asked").exists()


def test_when_it_is_stopped_nobody_is_refused_any_more(machine: Machine) -> None:
    machine.run(0, "clear")

    assert machine.refused() == [[]]
