"""Three members of etcd and two web replicas over them, each in a network namespace of its own, on one switch.

A member's cable can be pulled. The replicas are `python -m web` with its nginx, from copies of one work folder, as a
balancer's backends are: both serve on the same address, each in its own namespace.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from bootstrap import etcd
from bootstrap.model import Cluster
from bootstrap.stores import bring_credentials
from tests.system.etcd_members import Members, members
from tests.system.fleet_site import Answer, Connection, asked
from tests.system.web_bench import ADDRESS, ROOT, children_of, end, make_image, render
from tests.unit.web.fakes import cluster as small_cluster

NAMES = ("m1", "m2", "m3")
REPLICAS = ("r1", "r2")
HOSTS = {name: IPv4Address(f"10.80.0.{10 + at}") for at, name in enumerate((*NAMES, *REPLICAS), 1)}
HTTP, HTTPS = 18080, 18443
READY_SECONDS = 90.0


def ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True, capture_output=True, timeout=30)


@contextmanager
def switch(prefix: str) -> Iterator[Mapping[str, str]]:
    """Lay a switch and a cable to a namespace for each of HOSTS; yield their names, and remove everything."""
    names = {name: f"{prefix}{name}" for name in HOSTS}
    hub = f"{prefix}hub"
    try:
        for namespace in (hub, *names.values()):
            ip("netns", "add", namespace)
            ip("-n", namespace, "link", "set", "lo", "up")
        ip("-n", hub, "link", "add", "br0", "type", "bridge")
        ip("-n", hub, "link", "set", "br0", "up")
        for name, namespace in names.items():
            ip("link", "add", "eth0", "netns", namespace, "type", "veth", "peer", name, "netns", hub)
            ip("-n", hub, "link", "set", name, "master", "br0", "up")
            ip("-n", namespace, "address", "add", f"{HOSTS[name]}/24", "dev", "eth0")
            ip("-n", namespace, "link", "set", "eth0", "up")
        yield {**names, "hub": hub}
    finally:
        for namespace in (hub, *names.values()):
            subprocess.run(("ip", "netns", "delete", namespace), check=False, capture_output=True, timeout=30)


def cluster_over(running: Members, macs: Mapping[str, str]) -> Cluster:
    """Return a small cluster of machines, with its state in etcd."""
    machines = [{"name": name, "mac": mac, "pool": "spare"} for name, mac in macs.items()]
    document = small_cluster(*machines, hosts=1).model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_defaults=True
    )
    pki = running.folder / "pki" / "etcd"
    document["appliance"] = {
        "interface": "lo",
        "address": f"{ADDRESS}/24",
        "dhcp": {"mode": "off"},
        "httpPort": HTTP,
        "httpsPort": HTTPS,
        "store": "etcd",
        "etcd": {
            "endpoints": running.urls,
            "caFile": str(pki / "ca.crt"),
            "certFile": str(pki / "healthcheck-client.crt"),
            "keyFile": str(pki / "healthcheck-client.key"),
        },
    }
    return Cluster.model_validate(document)


@dataclass
class Replica:
    """One web: its work folder, its namespace, and its process."""

    name: str
    work: Path
    cache: Path
    namespace: str
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self, **extra: str) -> None:
        command = (sys.executable, "-m", "web", "--work", str(self.work), "--cache", str(self.cache))
        with self.log.open("ab") as output:
            argv = ("ip", "netns", "exec", self.namespace, *command)
            self.process = subprocess.Popen(
                argv, cwd=ROOT, env={**os.environ, **extra}, stdout=output, stderr=output
            )

    def stop(self) -> None:
        if self.process is not None:
            end(self.process)
            self.process = None

    def kill_worker(self) -> None:
        """Kill -9 the application and its worker; the supervisor starts them again."""
        first = int((self.work / "run/server.session").read_text())
        for pid in (*children_of(first), first):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Ask as the operator; raises OSError or HTTPException."""
        return asked(Connection(self.work / "run/operator.sock"), method, path, body)

    def is_ready(self) -> bool:
        try:
            return self.ask("GET", "/readyz").status == 200
        except (OSError, HTTPException):
            return False

    def text(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


@dataclass
class Rack:
    """Everything that runs."""

    etcd: Members
    replicas: tuple[Replica, ...]
    names: Mapping[str, str]

    def plug(self, name: str, *, connected: bool) -> None:
        """Pull a member's cable at the switch, or put it back."""
        ip("-n", self.names["hub"], "link", "set", name, "up" if connected else "down")

    def leader(self) -> str:
        """Return the member that leads, as a majority says."""
        found = self.health()
        leaders = [one["leader"] for one in found.values() if one["leader"]]
        return max(set(leaders), key=leaders.count) if leaders else NAMES[0]

    def health(self) -> dict[str, dict[str, Any]]:
        """Return what each member says of itself, asked from where a replica is."""
        question = etcd.Question("health", self.etcd.addresses, self.etcd.credentials)
        done = subprocess.run(
            ("ip", "netns", "exec", self.names["r1"], *etcd.argv()),
            cwd=etcd.root(),
            input=question.to_json(),
            capture_output=True,
            timeout=120,
            check=False,
        )
        found: dict[str, dict[str, Any]] = json.loads(done.stdout)["answer"]
        return found

    def await_whole(self) -> None:
        """Wait until every member and every replica is well."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            unwell = [name for name, one in self.health().items() if not one["is_healthy"]]
            unwell += [one.name for one in self.replicas if not one.is_ready()]
            if not unwell:
                return
            assert time.monotonic() < deadline, (unwell, [one.text() for one in self.replicas])
            time.sleep(0.2)


@contextmanager
def rack(folder: Path, macs: Mapping[str, str]) -> Iterator[Rack]:
    """Run three members and two replicas for machines with these names and MAC addresses; nothing of it is left."""
    with ExitStack() as stack:
        names = stack.enter_context(switch(f"fle{os.getpid() % 10000}"))
        hosts = {name: HOSTS[name] for name in NAMES}
        inside = {name: names[name] for name in NAMES}
        running = stack.enter_context(members(folder / "etcd", *NAMES, hosts=hosts, namespaces=inside))
        cluster = cluster_over(running, macs)
        first = folder / REPLICAS[0]
        first.mkdir(mode=0o700)
        render(cluster, first)
        bring_credentials(cluster, folder, first)
        make_image(folder, folder / "cache")
        for name in REPLICAS[1:]:
            shutil.copytree(first, folder / name)
        made = tuple(
            Replica(name, folder / name, folder / "cache", names[name], folder / f"{name}.log")
            for name in REPLICAS
        )
        found = Rack(running, made, names)
        for replica in made:
            stack.callback(replica.stop)
        for replica in made:
            replica.start()
        found.await_whole()
        yield found
