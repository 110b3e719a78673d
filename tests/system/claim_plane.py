"""A real control plane of one host for tests: its tree laid below a folder, its programs run in a network namespace.

What tests/kubernetes/build makes runs here (minutes, the first time); paths of the host are moved below the folder.
"""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bootstrap.keys import names_from
from bootstrap.kubernetes.access import Access
from bootstrap.kubernetes.api import Api
from bootstrap.kubernetes.control_plane import host_tree, wanted_binaries
from bootstrap.kubernetes.kubeconfig import Credentials, kubeconfig
from bootstrap.kubernetes.rbac import objects
from bootstrap.kubernetes.subnets import allotment
from bootstrap.kubernetes.tree import HostFile, HostTree, LocalFile
from bootstrap.model import Cluster
from certs.keyring import Keyring
from certs.keystore import Keystore
from certs.secret import Secret
from certs.wanted import first_binder, rows
from tests import samples
from tests.system.spine import CACHE
from tests.unit.kubernetes.planes import cluster_of

VERSION, HOST, PORT = "v1.20.2", "m1", 6443
MOVED = (
    "/etc/kubernetes",
    "/opt/firstlight",
    "/var/lib/etcd-snapshots",
    "/var/lib/etcd",
    "/var/log/kubernetes",
)


def built() -> Path:
    """Return the folder of real programs, which are made if they are not there."""
    argv = (samples.ROOT / "tests/kubernetes/build", CACHE)
    return Path(subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip())


class Plane:
    """The control plane of one host in a namespace, with what is asked of it; `pki` is the folder of its keys."""

    def __init__(
        self,
        root: Path,
        programs: Path,
        namespace: str,
        *,
        cluster: Cluster | None = None,
        pki: Path | None = None,
    ) -> None:
        self.root, self.programs, self.namespace = root, programs, namespace
        self.cluster = cluster or cluster_of("lab", version=VERSION)
        self.address = str(self.cluster.control_plane.hosts[0].address)
        self.server = f"https://{self.address}:{PORT}"
        self.pki = pki or root / "pki"
        wanted, now = rows(names_from(self.cluster)), datetime.now(UTC)
        store = Keystore(self.pki)
        self.keyring = store.ensure(wanted, now)
        self.binder = Credentials(*store.brief(first_binder(), wanted, now))
        self.tree = lay(root, self._tree(self.keyring))

    def _tree(self, keyring: Keyring) -> HostTree:
        found = {
            name: LocalFile(self.programs / name, "0" * 64) for name in wanted_binaries(self.cluster, HOST)
        }
        return host_tree(self.cluster, HOST, keyring, found, allotment(self.cluster))

    def kubectl(self, who: str, *words: str, given: str = "", check: bool = True) -> str:
        """Return what kubectl prints as the user of the row `who`."""
        credentials = self.binder
        if who != "first-binder":
            credentials = Credentials(self.keyring.certificates[who], self.keyring.keys[who])
        conf = self.root / f"{who}.conf"
        ca = self.keyring.certificates["ca"]
        made = kubeconfig(name="t", server=self.server, ca=ca, user=who, credentials=credentials)
        conf.touch(0o600)
        conf.write_bytes(made.reveal())
        argv: tuple[str | Path, ...] = (self.programs / "kubectl", "--kubeconfig", conf, *words)
        result = self.inside(*argv, given=given)
        assert result.returncode == 0 or not check, result.stderr
        return result.stdout if result.returncode == 0 else result.stderr

    def inside(self, *argv: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in the namespace; a failure is the caller's to judge."""
        return subprocess.run(
            ("ip", "netns", "exec", self.namespace, *argv),
            input=given,
            text=True,
            capture_output=True,
            check=False,
            timeout=60,
        )

    def health(self, port: int) -> str:
        return self.inside("curl", "-sk", "--max-time", "5", f"https://127.0.0.1:{port}/healthz").stdout

    @contextmanager
    def running(self, service: str) -> Iterator[int]:
        """Run a service as its unit's command line says, and yield its process id."""
        log = (self.root / f"{service}.log").open("wb")
        argv = ("ip", "netns", "exec", self.namespace, *command_of(self.root, service))
        process = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            time.sleep(0.2)
            assert process.poll() is None, (self.root / f"{service}.log").read_text()[-2000:]
            yield process.pid
        finally:
            _end(process)
            log.close()

    @contextmanager
    def api(self, row: str, **more: Any) -> Iterator[Api]:
        """Open the API as the user of the row `row`, from the namespace that the calling thread is in."""
        access = Access(
            servers=more.pop("servers", (self.server,)),
            authority=more.pop("authority", self.pki / "ca.crt"),
            certificate=self.pki / f"{row}.crt",
            key=self.pki / f"{row}.key",
        )
        api = Api(access, **more)
        try:
            yield api
        finally:
            api.close()


@contextmanager
def control_plane(plane: Plane, *more: str) -> Iterator[Plane]:
    """Run etcd, the API server, the controllers and the services `more`, until the block is left."""
    with ExitStack() as stack:
        stack.enter_context(plane.running("etcd"))
        stack.enter_context(plane.running("kube-apiserver"))
        until(lambda: plane.kubectl("admin", "get", "--raw", "/readyz", check=False) == "ok")
        # Until then the controllers may not even read who may ask them.
        roles = ("get", "clusterroles", "-o", "name")
        until(lambda: "node-proxier" in plane.kubectl("first-binder", *roles, check=False))
        plane.kubectl("first-binder", "apply", "-f", "-", given=as_list(objects()))
        for service in ("kube-controller-manager", *more):
            stack.enter_context(plane.running(service))
        until(lambda: plane.health(10257) == "ok")
        yield plane


@contextmanager
def namespace_of(name: str, address: str) -> Iterator[str]:
    """Make a network namespace that has `address` on its loopback, and remove it."""
    subprocess.run(("ip", "netns", "add", name), check=True)
    try:
        for words in (("link", "set", "lo", "up"), ("address", "add", f"{address}/32", "dev", "lo")):
            subprocess.run(("ip", "-n", name, *words), check=True)
        yield name
    finally:
        subprocess.run(("ip", "netns", "del", name), check=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(70)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def lay(root: Path, tree: HostTree) -> HostTree:
    """Put the files of `tree` below `root`, and return the tree as it was."""
    for path, file in tree.files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(file.content, LocalFile):
            target.symlink_to(file.content.path)
        else:
            target.touch(0o600)
            target.write_bytes(moved(root, content_of(file)))
            target.chmod(file.mode)
    for folder in ("var/log/kubernetes", "var/lib/etcd-snapshots"):
        (root / folder).mkdir(parents=True)
    return tree


def content_of(file: HostFile) -> bytes:
    return file.content.reveal() if isinstance(file.content, Secret) else bytes(file.content)  # type: ignore[arg-type]


def moved(root: Path, content: bytes) -> bytes:
    """Return `content` with paths of the host below `root`."""
    names = "|".join(MOVED).encode()
    return re.sub(rb"(?<![\w./])(" + names + rb")", lambda match: bytes(root) + match[1], content)


def command_of(root: Path, service: str) -> list[str]:
    text = (root / f"etc/systemd/system/{service}.service").read_text().replace("\\\n", " ")
    return next(line for line in text.splitlines() if line.startswith("ExecStart="))[10:].split()


def until(what: Callable[[], object], *, seconds: int = 90) -> None:
    """Wait until `what()` is true, for a bounded time."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, what
        time.sleep(0.5)


def as_list(items: tuple[dict[str, Any], ...]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)})
