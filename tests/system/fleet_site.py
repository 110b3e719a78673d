"""A real appliance started by `deploy.py up` in a network namespace, and the cable to a rack of simulated machines."""

import hashlib
import http.client
import itertools
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bootstrap.artifacts import Artifact, Manifest, import_file, save_manifest
from bootstrap.image.recipe import Options
from bootstrap.image.recipe import key as image_key
from bootstrap.operator import Operator
from tests.system.spine import HEARS_CTRL_C
from tests.system.web_bench import children_of

ROOT = Path(__file__).resolve().parents[2]
SERVER, CARD = "10.79.0.1", "10.79.0.2"
NAME = "fleet"
IMAGE_BYTES = 192 * 1024
HTTP, HTTPS = 8080, 8443
RUN_SECONDS = 700.0
"""What runs longer hangs."""
ROLES = ("web", "application", "worker", "nginx", "nginx-worker", "pxe", "dnsmasq")
_NUMBERS = itertools.count(1)
HEAD = """
apiVersion: firstlight/v1alpha1
kind: Cluster
metadata: {{name: {name}}}
"""
RACK = """
appliance:
  interface: srv0
  address: {server}/20
  dhcp: {{mode: server, range: [10.79.6.1, 10.79.7.200]}}
pools:
  - name: workers
    arm: manual
    os: {{family: debian, release: "13"}}
    disk: {{select: {{type: virtio}}}}
machines:
{machines}
"""
KUBERNETES = """
kubernetes: {{version: v1.36.4, controlPlaneEndpoint: "10.79.0.10:6443", cni: {{plugin: none}}}}
"""
CONFIG = HEAD + KUBERNETES + RACK


def mac_of(number: int) -> str:
    return f"52:54:00:79:{number >> 8:02x}:{number & 255:02x}"


def address_of(number: int) -> str:
    """Return the address that is kept for a machine: half of them have it from DHCP."""
    return f"10.79.{4 + number // 250}.{number % 250 + 1}"


def name_of(number: int) -> str:
    return f"w{number}"


@dataclass(frozen=True)
class Answer:
    """What came over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection(http.client.HTTPConnection):
    """HTTP over the operator's Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=15)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(15)
        self.sock.connect(str(self._path))


@dataclass(frozen=True, kw_only=True)
class Site:
    """The appliance's folders, its namespace, and the namespace of the machines."""

    folder: Path
    server: str
    client: str
    count: int
    image: Artifact
    name: str = NAME

    @property
    def deploy(self) -> Path:
        return self.folder / "d"

    @property
    def work(self) -> Path:
        return self.deploy / self.name

    @property
    def log(self) -> str:
        return (self.work / "log" / "serve.log").read_text(errors="replace")

    def environment(self, **extra: str) -> dict[str, str]:
        mine = {"FIRSTLIGHT_DEPLOY": str(self.deploy), "FIRSTLIGHT_CACHE": str(self.folder / "cache")}
        return {**os.environ, **mine, **extra}

    def run(self, *verb: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run deploy.py in the appliance's namespace."""
        deploy = (sys.executable, "deploy.py", "--config", str(self.folder / "c.yaml"), *verb)
        argv = ("ip", "netns", "exec", self.server, *HEARS_CTRL_C, *deploy)
        with (self.folder / "deploy.log").open("a+") as log:
            start = log.seek(0, 2)
            done = subprocess.run(
                argv,
                cwd=ROOT,
                env=self.environment(**extra),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=RUN_SECONDS,
                check=False,
            )
            log.seek(start)
            return subprocess.CompletedProcess(argv, done.returncode, "", log.read())

    def up(self, **extra: str) -> None:
        done = self.run("up", "--no-wait", **extra)
        assert done.returncode == 0, done.stderr

    def down(self) -> None:
        done = self.run("down")
        assert done.returncode == 0, done.stderr

    def is_ready(self) -> bool:
        return Operator(self.work).is_ready()

    def is_at_work(self) -> bool:
        """Return whether web answers."""
        with suppress(OSError, http.client.HTTPException):
            return self.ask("GET", "/livez").status == 200
        return False

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Ask on the operator's socket; raises OSError or HTTPException."""
        return asked(Connection(self.work / "run/operator.sock"), method, path, body)

    def pid_of(self, role: str) -> int | None:
        """Return the process that plays `role` now, or None while it is being started again."""
        with suppress(OSError, ValueError, IndexError, StopIteration):
            return self._found(role)
        return None

    def _found(self, role: str) -> int:
        run = self.work / "run"
        match role:
            case "serve" | "web" | "pxe":
                return _running(int((run / f"{role}.pid").read_text()))
            case "nginx":
                return _running(int((run / "nginx.session").read_text()))
            case "application":
                return _running(int((run / "server.session").read_text()))
            case "nginx-worker":
                return children_of(self._found("nginx"))[0]
            case "worker":
                return next(pid for pid in children_of(self._found("application")) if _has_store(pid))
            case _:
                return next(pid for pid in children_of(self._found("pxe")) if _name(pid) == "dnsmasq")

    def pids(self) -> tuple[int, ...]:
        """Return everything that runs in the appliance's namespace."""
        argv = ("ip", "netns", "pids", self.server)
        found = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout
        return tuple(map(int, found.split()))

    def trusted(self) -> ssl.SSLContext:
        """Return what an installer trusts: the provisioning CA and nothing else."""
        return ssl.create_default_context(cafile=str(self.work / "bundle/appliance/provisioning-ca.crt"))


def asked(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Ask once; raises OSError or HTTPException when no whole answer came."""
    try:
        text = None if body is None else json.dumps(body)
        typed = {"Content-Type": "application/json"} if text else {}
        connection.request(method, path, body=text, headers={**typed, **(headers or {})})
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def _running(pid: int) -> int:
    """Return `pid`; raises OSError if it is gone or not more than a memory."""
    if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
        raise ProcessLookupError
    return pid


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _has_store(pid: int) -> bool:
    return any(str(file.readlink()).endswith("/state.db") for file in Path(f"/proc/{pid}/fd").iterdir())


def wait_for(question: Callable[[], bool], seconds: float, story: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, story()
        time.sleep(0.1)


Kind = TypeVar("Kind", bound=Site)


@contextmanager
def site(
    folder: Path,
    count: int,
    kind: type[Kind],
    *,
    config: str = CONFIG,
    name: str = NAME,
) -> Iterator[Kind]:
    """Lay the cable and prepare the folders of an appliance with `count` machines; end and remove everything."""
    number = f"{os.getpid()}-{next(_NUMBERS)}"
    server, client = f"flfleet-s{number}", f"flfleet-c{number}"
    made = kind(folder=folder, server=server, client=client, count=count, image=_image(folder), name=name)
    (folder / "c.yaml").write_text(config.format(name=name, server=SERVER, machines=_machines(count)))
    try:
        _cable(server, client)
        yield made
    finally:
        try:
            made.run("down")
        finally:
            _remove(made)


def _machines(count: int) -> str:
    """Return the machines: every other one with an address of its own."""
    lines = []
    for number in range(count):
        address = f", address: {address_of(number)}" if number % 2 else ""
        lines.append(f'  - {{name: {name_of(number)}, mac: "{mac_of(number)}", pool: workers{address}}}')
    return "\n".join(lines)


def _image(folder: Path) -> Artifact:
    """Put an image into the cache that `up` takes for the one it would build."""
    source, cache = folder / "source", folder / "cache"
    blocks = (hashlib.sha256(str(number).encode()).digest() * 128 for number in range(IMAGE_BYTES // 4096))
    source.write_bytes(b"".join(blocks))
    disk = import_file(cache, source)
    source.write_bytes(b"kernel")
    kernel = import_file(cache, source)
    save_manifest(
        cache,
        Manifest(
            key=image_key(Options()),
            family="debian",
            release="13",
            kernel_flavour="server",
            kernel_version="6.12",
            built="2026-01-01T00:00:00Z",
            kernel=kernel,
            initrd=kernel,
            disk=disk,
            raw_size=IMAGE_BYTES,
        ),
    )
    return disk


def _cable(server: str, client: str) -> None:
    for namespace in (server, client):
        _ip("netns", "add", namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")
    _ip("link", "add", "srv0", "netns", server, "type", "veth", "peer", "cli0", "netns", client)
    for namespace, card, address in ((server, "srv0", SERVER), (client, "cli0", CARD)):
        _ip("-n", namespace, "address", "add", f"{address}/20", "dev", card)
        _ip("-n", namespace, "link", "set", card, "up")
    # Every address that DHCP can give is one of the machines' side, without one command per machine.
    _ip("-n", client, "route", "add", "local", "10.79.4.0/22", "dev", "lo")


def _remove(made: Site) -> None:
    with suppress(subprocess.CalledProcessError):
        for pid in made.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for namespace in (made.server, made.client):
        subprocess.run(("ip", "netns", "delete", namespace), check=False, capture_output=True, timeout=30)


def _ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True, capture_output=True, timeout=30)
