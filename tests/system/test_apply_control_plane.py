"""`deploy.py apply` with the whole control plane on a host of the lab: etcd and a real Kubernetes."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from bootstrap.image import host as host_image
from bootstrap.lab.rack import Rack
from bootstrap.model import Cluster
from bootstrap.progress import silent
from tests.system.apply_lab import Hosts, document
from tests.system.spine import CACHE, ROOT, Outcome, Site, wait_for
from tests.tier import Promise, rounds

pytestmark = pytest.mark.system

NAME = f"plane{os.getpid()}"
ADDRESSES = {"m1": "10.77.0.11", "m2": "10.77.0.12", "m3": "10.77.0.13"}
NAMES = tuple(ADDRESSES)[: rounds(ci=1, soak=3)]
WANTED = tuple({"name": name, "address": ADDRESSES[name], "user": "core"} for name in NAMES)
SERVERS = ", ".join(f"https://{ADDRESSES[name]}:6443" for name in NAMES)
UNITS = (
    "etcd.service",
    "kube-apiserver.service",
    "kube-controller-manager.service",
    "kube-scheduler.service",
)
RUN_SECONDS = 240.0
A_YEAR_AGO = ("faketime", "--exclude-monotonic", "-f", "-366d")


def configuration(**more: Any) -> dict[str, Any]:
    made = document(NAME, WANTED, NAMES)
    made["kubernetes"] |= {"version": "v1.20.2", "binaries": {"build": str(ROOT / "tests/kubernetes/build")}}
    if len(NAMES) > 1:  # a name stands for all of them
        made["kubernetes"] |= {"controlPlaneEndpoint": "api.rack.internal:6443"}
    made["kubernetes"] |= more
    return made


class Plane:
    """A folder with a configuration, and the host that it speaks of."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "config.yaml"
        self.site = Site(folder / "deploy", CACHE, (str(self.file),), NAME)
        self.write()

    def write(self, *addons: Any, **more: Any) -> None:
        made = {**configuration(**more), "addons": list(addons)}
        self.file.write_text(json.dumps(made))  # JSON is YAML too

    def run(self, *arguments: str) -> Outcome:
        return self.site.run(*arguments, timeout=RUN_SECONDS)

    @contextmanager
    def a_year_ago(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start a command that takes today for 366 days ago; what runs on the hosts knows better. It ends with us."""
        env = {**self.site.environment, "PYTHONPATH": str(ROOT / "tests" / "system" / "clock")}
        argv = (*A_YEAR_AGO, *self.site.argv(*arguments))
        with subprocess.Popen(
            argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, start_new_session=True
        ) as process:
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def done_a_year_ago(self, *arguments: str) -> bool:
        """Return whether a command of a year ago succeeded."""
        with self.a_year_ago(*arguments) as process:
            return process.wait(RUN_SECONDS) == 0

    def apply(self, *arguments: str) -> dict[str, Any]:
        done = self.run("--output", "json", "apply", *arguments)
        assert done.code == 0, done.err
        found: dict[str, Any] = json.loads(done.out)
        return found


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    found = Plane(tmp_path_factory.mktemp("plane"))
    rack = Rack(Cluster.model_validate(configuration()), found.site.work)
    found.site.work.mkdir(parents=True, mode=0o700)
    try:
        rack.up(host_roots={False: host_image.build(CACHE, silent)})
        rendered = tmp_path_factory.mktemp("rendered") / "bundle"
        assert found.done_a_year_ago("render", "--output", str(rendered)), "its authorities are old"
        yield found
    finally:
        rack.down()


@pytest.fixture
def hosts(plane: Plane) -> Hosts:
    cluster = Cluster.model_validate(configuration())
    return Hosts(Rack(cluster, plane.site.work), plane.site.work, cluster)


def test_a_control_plane_from_nothing_is_proven_from_end_to_end(plane: Plane, hosts: Hosts) -> None:
    found = plane.apply()

    assert found["hosts"]["m1"]["state"] == "done"
    assert "ClusterRoleBinding/kubeadm:cluster-admins" in found["objects"]
    assert f"API: an object written and read through {SERVERS}" in found["proven"]
    assert f"etcd: {len(NAMES)} members healthy, a key written and read through each" in found["proven"]
    assert hosts.run("m1", "systemctl", "--failed", "--plain", "--no-legend") == ""


def test_again_nothing_changes_and_nothing_restarts(plane: Plane, hosts: Hosts) -> None:
    pids = [hosts.pid("m1", unit) for unit in UNITS]
    found = plane.apply()

    assert (found["changes"], found["objects"]) == (0, [])
    assert [hosts.pid("m1", unit) for unit in UNITS] == pids


def test_addons_come_with_apply_once_and_go_by_their_names_alone(plane: Plane) -> None:
    """By the API server of the lab, which is asked through its door."""
    plane.write("coredns", {"metallb": {"addresses": ["10.77.0.200-10.77.0.210"]}})
    first, again = plane.apply()["addons"], plane.apply()["addons"]

    assert {"Deployment/kube-system/coredns", "Namespace/metallb-system"} <= set(first["changed"])
    assert (first["failed"], again) == ({}, {"changed": [], "failed": {}})
    assert plane.run("addon", "diff").out == ""
    plane.write()
    assert plane.apply()["addons"] == {"changed": [], "failed": {}}
    rows = json.loads(plane.run("--output", "json", "addon", "list").out)
    assert [(row["addon"], row["configured"], row["ready"]) for row in rows] == [
        ("coredns", "no", "0/2"),
        ("metallb", "no", "0/1"),
    ]
    for name in ("coredns", "metallb"):
        assert plane.run("addon", "remove", name).code == 0
    assert json.loads(plane.run("--output", "json", "addon", "list").out) == []


def test_a_new_name_of_the_api_server_restarts_the_api_server_alone(plane: Plane, hosts: Hosts) -> None:
    pids = dict(zip(UNITS, (hosts.pid("m1", unit) for unit in UNITS), strict=True))
    plane.write(apiServer={"certSANs": ["api.example.net"]})
    shown = plane.run("apply", "--dry-run")
    assert [line for line in shown.out.splitlines() if line.startswith("m1:")] == [
        "m1: files: 1 changed",
        "m1: restart kube-apiserver.service",
    ]
    assert "-----BEGIN CERTIFICATE-----" in shown.out
    assert "PRIVATE KEY" not in shown.out
    assert [hosts.pid("m1", unit) for unit in UNITS] == list(pids.values())

    found = plane.apply()

    assert [step for step in found["hosts"]["m1"]["steps"] if "healthy" not in step] == [
        "m1: files: 1 changed",
        "m1: restart kube-apiserver.service",
    ]
    assert hosts.pid("m1", "kube-apiserver.service") != pids["kube-apiserver.service"]
    assert (
        hosts.pid("m1", "etcd.service") == pids["etcd.service"]
    )  # the others lose their leases and end by themselves


def test_a_host_that_is_not_there_is_a_mistake_of_the_command_line(plane: Plane) -> None:
    done = plane.run("apply", "--limit", "m7")

    assert done.code == 2
    assert "no control-plane host is called m7; there are: m1" in done.err


def test_no_secret_went_through_a_log(plane: Plane, hosts: Hosts) -> None:
    key = (plane.site.work / "pki" / "apiserver.key").read_text().splitlines()[1]
    journal = hosts.run("m1", "journalctl", "--no-pager", "-o", "cat")

    assert key not in journal
    assert "PRIVATE KEY" not in journal


def test_a_year_later_one_command_brings_everything_back(
    plane: Plane, hosts: Hosts, promise: Promise
) -> None:
    """Every certificate has ended, on the hosts too, and nothing speaks to anything; no file is edited by hand."""
    plane.apply()
    assert plane.done_a_year_ago("certs", "renew")
    with plane.a_year_ago("apply"):
        wait_for(lambda: all_refuse_for_their_age(hosts), "the hosts have them", timeout=RUN_SECONDS)

    done = plane.run("certs", "renew", "--apply")

    assert done.code == 0, done.err
    assert not any(refuses_for_its_age(hosts, name) for name in NAMES)
    for name in NAMES:
        assert hosts.run(name, "systemctl", "--failed", "--plain", "--no-legend") == ""
    found = plane.apply()
    assert (found["changes"], found["objects"]) == (0, [])
    assert f"API: an object written and read through {SERVERS}" in found["proven"]
    promise(
        promise="S-15 a year later",
        asked="every certificate has ended: one command restores mTLS, no file edited by hand",
        done=f"366 days later, {len(NAMES)} hosts and members of etcd",
        found="all speak again; the next apply: 0 changes",
    )


def all_refuse_for_their_age(hosts: Hosts) -> bool:
    """Return whether no API server has a certificate that still holds."""
    return all(refuses_for_its_age(hosts, name) for name in NAMES)


def refuses_for_its_age(hosts: Hosts, name: str) -> bool:
    """Return whether the certificate that the API server of a host shows has ended."""
    asked = (
        "openssl",
        "s_client",
        "-connect",
        f"{ADDRESSES[name]}:6443",
        "-CAfile",
        str(hosts.work / "pki" / "ca.crt"),
    )
    said = subprocess.run(
        hosts.rack.in_namespace(asked), input="", capture_output=True, text=True, timeout=30, check=False
    )
    return "certificate has expired" in said.stdout + said.stderr
