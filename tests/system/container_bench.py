"""A container engine of the test's own, and an appliance in containers on one side of a cable."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootstrap.containers.table import KEPT_BY_PXE
from bootstrap.processes import is_gone
from tests.system.pxe_segment import KNOWN_ADDRESS, KNOWN_MAC, SERVER, Segment, segment, wait_for
from tests.system.spine import ROOT, Site

NAME = "boxes"
BASE = "docker.io/library/debian:trixie-slim"
CANARY = "canary-of-the-site.invalid"
"""Something of this computer's settings that a build uses and no image may hold."""
CONFIG = f"""
apiVersion: firstlight/v1alpha1
kind: Cluster
metadata: {{name: {NAME}}}
kubernetes: {{version: v1.36.4, controlPlaneEndpoint: "10.77.0.10:6443", cni: {{plugin: none}}}}
appliance:
  interface: srv0
  address: {SERVER}/24
  dhcp: {{mode: server, range: [10.77.0.150, 10.77.0.199]}}
  engine: podman
pools:
  - name: workers
    os: {{family: debian, release: "13"}}
    disk: {{select: {{type: virtio}}}}
machines:
  - {{name: w1, mac: "{KNOWN_MAC}", pool: workers, address: {KNOWN_ADDRESS}}}
"""
CONTAINERS_CONF = """
[containers]
netns = "host"
default_ulimits = ["nofile=16384:16384", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{folder}/root"
runroot = "{folder}/run"
"""
SLIM = ("doc", "info", "locale", "man")
"""What Debian's own slim images leave out of /usr/share."""
SERVES = "pxe: dnsmasq 2."
"""What pxe says when its dnsmasq serves."""
MEGABYTE = 10**6
READY_SECONDS, STOP_SECONDS, GONE_SECONDS = 180.0, 90.0, 60.0


@dataclass(frozen=True, kw_only=True)
class Store:
    """An engine with a store of its own; `environment` is what makes podman use it."""

    folder: Path
    environment: Mapping[str, str]

    def succeeds(self, *words: str) -> bool:
        """Return whether podman does something on this store."""
        return self._run(*words).returncode == 0

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["podman", *words],
            env={**os.environ, **self.environment},
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def podman(self, *words: str, check: bool = True) -> str:
        """Run podman on this store; return what it says."""
        done = self._run(*words)
        assert not check or done.returncode == 0, f"podman {' '.join(words)}: {done.stderr}"
        return done.stdout

    def containers(self) -> list[str]:
        """Return the names of all containers, running or not."""
        return self.podman("ps", "--all", "--format", "{{.Names}}").split()

    def image(self, part: str) -> dict[str, Any]:
        """Return what podman knows of the image of a part."""
        found: list[dict[str, Any]] = json.loads(
            self.podman("image", "inspect", self.tag(part))
        )  # one of each: the store was empty
        return found[0]

    def tag(self, part: str) -> str:
        """Return the one image of a part."""
        listed = self.podman("images", "--format", "{{.Repository}}:{{.Tag}}").split()
        (tag,) = (name for name in listed if f"firstlight-{part}:" in name)
        return tag


@contextmanager
def store(folder: Path) -> Iterator[Store]:
    """Make an empty store with nothing but the base image, made here, under the name that the Dockerfiles use."""
    conf, storage = folder / "containers.conf", folder / "storage.conf"
    conf.write_text(CONTAINERS_CONF)
    storage.write_text(STORAGE_CONF.format(folder=folder))
    made = Store(
        folder=folder,
        environment={"CONTAINERS_CONF": str(conf), "CONTAINERS_STORAGE_CONF": str(storage)},
    )
    try:
        assert made.podman("images", "--quiet") == ""
        base = folder / "base.tar"
        left_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in SLIM]
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", *left_out, "trixie", str(base)], check=True
        )
        made.podman("import", "--quiet", str(base), BASE)
        base.unlink()
        yield made
    finally:
        made.podman("rm", "--all", "--force", check=False)
        unmount(folder)
        shutil.rmtree(folder / "root", ignore_errors=True)
        shutil.rmtree(folder / "run", ignore_errors=True)


def unmount(folder: Path) -> None:
    """Unmount what podman mounted below its store."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for target in reversed([path for path in mounted if path.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", target], check=False)


@dataclass(kw_only=True)
class Served:
    """An appliance in containers: `serve` runs in the server's namespace, a client is on the other side."""

    store: Store
    site: Site
    cable: Segment
    log: Path
    built: str = ""
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def work(self) -> Path:
        """Return the work folder."""
        return self.site.work

    def render(self) -> None:
        """Render the documents, as `up` does."""
        done = self.site.run("render", "--output", str(self.work / "bundle"))
        assert done.code == 0, done.err

    def start(self, *options: str) -> None:
        """Start `serve`, and wait until both containers serve."""
        before = self.text().count(SERVES)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.inside(*self.site.argv("serve", *options)),
                cwd=ROOT,
                env=self.site.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        # Containers that a killed one left answer too, until they are replaced.
        assert wait_for(lambda: self.text().count(SERVES) > before and self.is_ready(), READY_SECONDS), (
            self.text()
        )

    def inside(self, *argv: str) -> list[str]:
        """Return the command on the server's network, with this computer's mounts: the store needs them."""
        return ["nsenter", f"--net=/run/netns/{self.cable.server}", *argv]

    def is_ready(self) -> bool:
        """Return whether both parts serve."""
        assert self.process is not None
        assert self.process.poll() is None, self.text()
        ready = self.work / "run" / "pxe.ready"
        return ready.exists() and self.curl(f"http://{SERVER}:8080/readyz") == b"ok\n"

    def curl(self, *words: str) -> bytes:
        """Fetch something from the client's side; nothing if it does not come."""
        argv = ("ip", "netns", "exec", self.cable.client, "curl", "-sS", "--max-time", "5", *words)
        return subprocess.run(argv, check=False, capture_output=True).stdout

    def secure(self, path: str) -> bytes:
        """Fetch something over TLS, trusting the provisioning CA alone."""
        authority = self.work / "pki" / "provisioning" / "ca.crt"
        return self.curl("--cacert", str(authority), f"https://{SERVER}:8443{path}")

    def container(self, part: str) -> str:
        """Return the name of the container of a part."""
        (name,) = (name for name in self.store.containers() if name.endswith(f"-{part}"))
        return name

    def pid(self, part: str) -> int:
        """Return the first process of a container, as this computer numbers it."""
        return int(self.store.podman("inspect", "--format", "{{.State.Pid}}", self.container(part)))

    def text(self) -> str:
        """Return the log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def stop(self) -> float:
        """Ask `serve` to end; return the seconds that it took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.terminate()
        assert self.process.wait(STOP_SECONDS) == 0, self.text()
        return time.monotonic() - began

    def clients(self) -> list[int]:
        """Return the `podman run` processes of this store's appliance."""
        return [pid for pid in self.cable.pids(self.cable.server) if _is_client(pid)]

    def kill_all_but_containers(self) -> None:
        """Kill `serve` and its podman clients in one go, so that nobody tells the containers."""
        assert self.process is not None
        pids = [self.process.pid, *self.clients()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)  # none of them may notice that another has gone
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        assert wait_for(lambda: all(is_gone(pid) for pid in pids))

    def is_clean(self) -> bool:
        """Return whether nothing runs or lies about but what outlives an appliance."""
        left = {path.name for path in (self.work / "run").iterdir()}
        return (
            not self.store.containers()
            and not self.cable.pids(self.cable.server)
            and left <= {*KEPT_BY_PXE, "lock"}
        )


def _is_client(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"podman\0run\0")
    except OSError:
        return False


def is_small_file(path: Path) -> bool:
    """Return whether a file may be read whole."""
    return path.is_file() and not path.is_symlink() and path.stat().st_size < MEGABYTE


@contextmanager
def served(engine: Store, folder: Path) -> Iterator[Served]:
    """Lay a cable and render a cluster; nothing runs yet. Whatever runs in the end is ended."""
    config = folder / "config.yaml"
    config.write_text(CONFIG)
    deploy = folder / "deploy"
    site = Site(
        deploy=deploy,
        cache=folder / "cache",
        configs=(str(config),),
        name=NAME,
        extra={**engine.environment, "PIP_TRUSTED_HOST": CANARY},
    )
    with segment() as cable:
        made = Served(store=engine, site=site, cable=cable, log=folder / "serve.log")
        made.render()
        try:
            yield made
        finally:
            if made.process is not None and made.process.poll() is None:
                made.process.kill()
                made.process.wait()
            site.run("down")
