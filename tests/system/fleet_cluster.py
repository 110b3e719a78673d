"""A site with a cluster to join: a real control plane of one host, which the appliance and its machines reach.

Nobody applies it over SSH: it runs in the appliance's namespace, under an address of its own. So `serve` is started
here as `up` would start it, on documents that `render` wrote.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bootstrap import binaries, node_programs
from bootstrap.config import load
from tests.system.claim_plane import VERSION, Plane, built, control_plane
from tests.system.fleet_site import HEAD, RACK, ROOT, Site, site, wait_for

NAME = "claims"
PLANE = "10.79.0.10"
READY_SECONDS, END_SECONDS = 150.0, 30.0
# Room for more nodes than the usual /16 has: each gets a /24.
KUBERNETES = """
kubernetes:
  version: VERSION
  controlPlaneEndpoint: "PLANE:6443"
  cni: {{plugin: none}}
  podSubnet: 10.4.0.0/14
  binaries: {{directory: PROGRAMS}}
controlPlane: {{hosts: [{{name: m1, address: PLANE}}]}}
etcd: {{members: [m1]}}
"""
CONFIG = HEAD + KUBERNETES + RACK


@dataclass(frozen=True, kw_only=True)
class ClusterSite(Site):
    """The appliance of a cluster whose control plane somebody else looks after."""

    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def bring_programs(self) -> None:
        """Put what nodes fetch into the artifact store, as `up` does: machines get documents to join with then."""
        cluster, cache = load([self.folder / "c.yaml"]), self.folder / "cache"
        found = binaries.resolve(cluster, base=self.folder, cache=cache)
        self.work.mkdir(mode=0o700, parents=True, exist_ok=True)
        node_programs.record(self.work, binaries.node_artifacts(found, cache))

    def prepare(self) -> None:
        """Make the keys and write the documents."""
        done = self.run("render", "--output", str(self.work / "bundle"))
        assert done.returncode == 0, done.stderr

    def up(self, **extra: str) -> None:
        """Start the appliance in the background, and return when it is ready."""
        self.start(**extra)
        wait_for(self.is_ready, READY_SECONDS, lambda: self.log[-4000:])

    def start(self, **extra: str) -> None:
        """Start the appliance in the background, and return when web answers: not the last one's, which ends alone."""
        self._reap()
        wait_for(lambda: self.pid_of("web") is None, END_SECONDS, lambda: self.log[-4000:])
        self.work.joinpath("log").mkdir(exist_ok=True)
        argv = (sys.executable, str(ROOT / "deploy.py"), "--config", str(self.folder / "c.yaml"), "serve")
        with (self.work / "log" / "serve.log").open("ab") as log:
            self.started.append(
                subprocess.Popen(
                    ("ip", "netns", "exec", self.server, *argv),
                    cwd=ROOT,
                    env=self.environment(**extra),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
        wait_for(self.is_at_work, READY_SECONDS, lambda: self.log[-4000:])

    def close(self) -> None:
        """Stop the appliance."""
        self.run("down")
        self._reap()

    def _reap(self) -> None:
        for process in self.started:
            process.wait(END_SECONDS)


@contextmanager
def cluster_site(
    folder: Path, count: int, text: str = CONFIG, *, joins: bool = False
) -> Iterator[tuple[ClusterSite, Plane]]:
    """Prepare an appliance with `count` machines and run its control plane; end and remove everything.

    `text` is its configuration; if machines are to get what they join with, `joins`.
    """
    programs = built()
    config = text.replace("VERSION", VERSION).replace("PLANE", PLANE).replace("PROGRAMS", str(programs))
    with ExitStack() as stack:
        made = stack.enter_context(site(folder, count, ClusterSite, config=config, name=NAME))
        stack.callback(made.close)
        address = ("ip", "-n", made.server, "address", "add", f"{PLANE}/32", "dev", "srv0")
        subprocess.run(address, check=True)
        if joins:
            made.bring_programs()
        made.prepare()
        root = folder / "plane"
        root.mkdir()
        cluster = load([folder / "c.yaml"])
        plane = Plane(root, programs, made.server, cluster=cluster, pki=made.work / "pki")
        yield made, stack.enter_context(control_plane(plane))
