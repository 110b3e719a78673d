"""A whole appliance (pxe, nginx, web) on a network of cables, and machines that it installs to their disks."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bootstrap import config
from bootstrap.keys import ensure_keys
from bootstrap.localboot import make_localboot
from bootstrap.operator import Operator
from bootstrap.render.bundle import render_bundle
from tests.system.pxe_segment import ROOT, wait_for
from tests.system.relay_segment import Relayed
from tests.system.spine import CACHE

END_SECONDS = 20.0
INSTALL_SECONDS = 900.0  # 2 to 3 minutes where processors are idle
CONFIG = """
apiVersion: firstlight/v1alpha1
kind: Cluster
metadata: {{name: install}}
kubernetes: {{version: v1.36.4, controlPlaneEndpoint: "10.77.0.10:6443", cni: {{plugin: none}}}}
appliance:
  interface: srv0
  address: 10.77.0.1/24
  discovery: false
  dhcp: {dhcp}
  pxe: {pxe}
pools:
  - name: workers
    os: {{family: debian, release: "13", kernel: cloud}}
    disk: {{select: {{type: virtio}}}}
machines:
"""


@dataclass(frozen=True, kw_only=True)
class Rack:
    """What runs, and the words to ask it; `work` is the work folder."""

    work: Path

    @property
    def operator(self) -> Operator:
        return Operator(self.work)

    def text(self, log: str) -> str:
        """Return a log below the work folder."""
        return (self.work / log).read_text(errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        return self.operator.events(machine=name)

    def runs_from_its_disk(self, name: str) -> bool:
        """Return whether a machine was installed, has started from its disk, and answers there."""
        seen = {event["what"] for event in self.events(name)}
        return {"complete", "booted", "ssh-answers"} <= seen

    def await_installed(self, consoles: Mapping[str, Path]) -> None:
        """Wait until the machines with these consoles run from their disks."""
        installed = wait_for(lambda: all(map(self.runs_from_its_disk, consoles)), INSTALL_SECONDS)
        assert installed, self.story(consoles.values())

    def story(self, consoles: Iterable[Path]) -> str:
        """Return what tells why a test failed."""
        logs = (*self.work.glob("*.log"), *self.work.glob("log/*.log"), *consoles)
        return "\n".join(f"--- {log}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)


@contextmanager
def appliance(
    network: Relayed, folder: Path, dhcp: str, machines: Sequence[str], pxe: str = "{}"
) -> Iterator[Rack]:
    """Render a cluster, run pxe and web on our own network, and end both.

    `dhcp` and `pxe` are those keys of the appliance, `machines` the entries of that list, as YAML.
    """
    work = folder / "install"
    work.mkdir(mode=0o700)
    _render(folder / "config.yaml", work, dhcp, machines, pxe)
    rack = Rack(work=work)
    with ExitStack() as stack:
        runtime = Path(tempfile.mkdtemp(prefix="firstlight-test-", dir="/run"))
        stack.callback(shutil.rmtree, runtime)
        stack.enter_context(_part(network, work, "web", "--cache", str(CACHE.resolve())))
        assert wait_for(rack.operator.is_ready, 60), rack.story([])
        stack.enter_context(_part(network, work, "pxe", "--runtime", str(runtime), "--no-probe"))
        assert wait_for((work / "run" / "pxe.ready").exists, 30), rack.story([])
        yield rack


def _render(source: Path, work: Path, dhcp: str, machines: Sequence[str], pxe: str) -> None:
    source.write_text(CONFIG.format(dhcp=dhcp, pxe=pxe) + "".join(f"  - {line}\n" for line in machines))
    cluster = config.load([source])
    keyring = ensure_keys(cluster, work, datetime.now(UTC)).keyring
    for path, file in render_bundle(cluster, keyring.public).items():
        target = work / "bundle" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
    (work / "run").mkdir(mode=0o700)
    make_localboot(work)


@contextmanager
def _part(network: Relayed, work: Path, name: str, *options: str) -> Iterator[None]:
    """Run a part of the appliance, as serve does."""
    argv = (sys.executable, "-m", name, "--work", str(work), *options)
    with (work / f"{name}.log").open("wb") as output:
        process = subprocess.Popen(
            ("ip", "netns", "exec", network.near.server, *argv),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
