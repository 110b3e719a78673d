"""Two control-plane hosts of a lab that are to be nodes, the configuration that speaks of them, and what is asked."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bootstrap.kubernetes.api import Api
from bootstrap.lab.rack import Rack
from bootstrap.model import Cluster
from tests.system.apply_lab import Hosts, document
from tests.system.kubectl import Kubectl
from tests.system.pxe_segment import inside as inside_thread
from tests.system.spine import CACHE, ROOT, Outcome, Site
from tests.unit.web.conftest import Rack as Appliance
from web.approver import Approver
from web.credentials import Credentials

NAME = f"nodehosts{os.getpid()}"
M1 = {"name": "m1", "address": "10.77.0.11", "node": True}
M2 = {"name": "m2", "address": "10.77.0.12", "user": "core", "node": True}
KUBELETS = ("kubelet.service", "kube-proxy.service", "containerd.service")
RUN_SECONDS = 420.0


def configuration(*hosts: dict[str, Any]) -> dict[str, Any]:
    made = document(NAME, hosts, ("m1",))
    build = str(ROOT / "tests/kubernetes/build")
    made["kubernetes"] |= {
        "version": "v1.20.2",
        "binaries": {"build": build},
        "sandboxImage": "localhost/pause:1",
    }
    return made


class Nodes:
    """Two hosts of a lab, the configuration that speaks of them, and what is asked of them."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "config.yaml"
        self.site = Site(folder / "deploy", CACHE, (str(self.file),), NAME)
        self.site.work.mkdir(parents=True, mode=0o700)
        self.write(M1, M2)
        self.rack = Rack(self.cluster, self.site.work)
        self.kubectl = Kubectl(folder / "kubeconfig")

    def write(self, *hosts: dict[str, Any]) -> None:
        self.cluster = Cluster.model_validate(configuration(*hosts))
        self.file.write_text(json.dumps(configuration(*hosts)))  # JSON is YAML too

    @property
    def hosts(self) -> Hosts:
        return Hosts(self.rack, self.site.work, self.cluster)

    def run(self, *arguments: str) -> Outcome:
        return self.site.run(*arguments, timeout=RUN_SECONDS)

    def apply(self) -> dict[str, Any]:
        done = self.run("--output", "json", "apply")
        assert done.code == 0, done.err
        found: dict[str, Any] = json.loads(done.out)
        return found

    def take_kubeconfig(self) -> None:
        """Let `kubectl` in, as the cluster's administrator."""
        done = self.run("kubeconfig")
        assert done.code == 0, done.err
        self.kubectl.kubeconfig.write_text(done.out)

    def planned(self, host: str) -> list[str]:
        done = self.run("apply", "--dry-run")
        assert done.code == 0, done.err
        return [line for line in done.out.splitlines() if line.startswith(f"{host}:")]

    def pids(self, host: str) -> dict[str, int]:
        return {unit: self.hosts.pid(host, unit) for unit in KUBELETS}

    @contextmanager
    def approving(self) -> Iterator[Appliance]:
        """Have the appliance's approver go its rounds on the hosts' network."""
        pki = Credentials(self.site.work / "pki")
        appliance = Appliance(cluster=self.cluster, connect=pki)
        appliance.clock.now = datetime.now(UTC)
        over, errors = threading.Event(), list[Exception]()

        def rounds() -> None:
            approver = Approver(appliance.site)
            with inside_thread(self.rack.namespace):
                while not over.wait(1.0):
                    try:
                        approver.look()
                    except Exception as error:  # noqa: BLE001  # it is told in the test's own thread
                        errors.append(error)

        thread = threading.Thread(target=rounds)
        thread.start()
        try:
            yield appliance
        finally:
            over.set()
            thread.join(60)
            if connection := pki(self.cluster):
                for api in (connection.api, connection.watching):
                    assert isinstance(api, Api)
                    api.close()
        assert not errors, errors
