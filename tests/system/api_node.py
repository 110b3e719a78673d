"""A node of the cluster as far as its way to the API goes: a network and a hosts file of its own, and Go's client.

`kubectl proxy` is that client: the transport of client-go, one connection for all requests, kept for as long as it
lasts, as kubelet's is. Beside it runs what a node has for its way to the API (configs/node/endpoint).
"""

import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootstrap.keys import FOLDER
from bootstrap.kubernetes.kubeconfig import admin_kubeconfig
from bootstrap.kubernetes.nodes import hosts_text, node_kubeconfig
from tests.system.kubectl import PROGRAM
from tests.system.member_plane import Plane
from tests.system.spine import ROOT, wait_for

ADDRESS = "10.77.0.101/24"
NAME = "w1"
ANSWER_SECONDS = 60.0
START_SECONDS = 60.0
WATCH_PORTS = "28"  # thousands: where the endpoint's watch asks from
# The file that the kernel's resolver and Go's read is this node's own.
WITH_HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'


@dataclass(frozen=True)
class Node:
    """Its folder and its network namespace."""

    folder: Path
    namespace: str

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "admin.conf"

    @property
    def door(self) -> Path:
        return self.folder / "api"

    def argv(self, command: Sequence[str]) -> tuple[str, ...]:
        """Return the command that runs `command` on the node."""
        inside = ("nsenter", f"--net=/run/netns/{self.namespace}", "unshare", "--mount")
        return (*inside, "sh", "-c", WITH_HOSTS, str(self.folder / "hosts"), *command)

    def kubectl(self, *words: str, seconds: float) -> subprocess.CompletedProcess[str]:
        """Run kubectl, which connects anew, by the endpoint's name."""
        argv = self.argv((str(PROGRAM), "--kubeconfig", str(self.kubeconfig), *words))
        return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=seconds)

    def server(self) -> str:
        """Return the address of the API server that its standing connection leads to."""
        inside = ("nsenter", f"--net=/run/netns/{self.namespace}", "ss", "--no-header", "--tcp", "--numeric")
        asked = (*inside, "state", "established", "dport = :6443")
        done = subprocess.run(asked, check=True, capture_output=True, text=True)
        ways = [line.split()[-2:] for line in done.stdout.splitlines()]
        found = [there for here, there in ways if not here.rpartition(":")[2].startswith(WATCH_PORTS)]
        assert found, done.stdout
        return found[0].partition(":")[0]

    def connection(self) -> "Door":
        return Door(self.door)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, bytes]:
        """Send one request over the node's standing connection; return status and body.

        Raises:
            OSError, HTTPException: no answer came.
        """
        door = self.connection()
        try:
            door.request(
                method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"}
            )
            answer = door.getresponse()
            return answer.status, answer.read()
        finally:
            door.close()


class Door(http.client.HTTPConnection):
    """HTTP over the Unix socket at which the node's client listens."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@contextmanager
def node(plane: Plane, folder: Path) -> Iterator[Node]:
    """Plug a node into the rack, with its client and its endpoint's watch; nothing of it is left."""
    folder.mkdir()
    made = Node(folder, f"{plane.rack.namespace}-{NAME}")
    with ExitStack() as stack:
        _plug(plane, made, stack)
        _furnish(plane, made)
        stack.enter_context(_running(made, "endpoint", ("sh", str(ROOT / "configs/node/endpoint")), plane))
        proxy = (str(PROGRAM), "proxy", f"--unix-socket={made.door}", "--kubeconfig", str(made.kubeconfig))
        stack.enter_context(_running(made, "proxy", proxy, plane))
        wait_for(lambda: _answers(made), "the node reaches the API", timeout=START_SECONDS, every=0.5)
        yield made


def _plug(plane: Plane, made: Node, stack: ExitStack) -> None:
    _ip("netns", "add", made.namespace)
    stack.callback(_ip, "netns", "del", made.namespace)
    peer = ("peer", "name", "eth0", "netns", made.namespace)
    _ip("-n", plane.rack.namespace, "link", "add", NAME, "type", "veth", *peer)
    _ip("-n", plane.rack.namespace, "link", "set", NAME, "master", plane.cluster.appliance.interface, "up")
    _ip("-n", made.namespace, "address", "add", ADDRESS, "dev", "eth0")
    for device in ("lo", "eth0"):
        _ip("-n", made.namespace, "link", "set", device, "up")


def _furnish(plane: Plane, made: Node) -> None:
    (made.folder / "hosts").write_bytes(hosts_text(plane.cluster, NAME))
    (made.folder / "kubelet.conf").write_bytes(node_kubeconfig(plane.cluster, NAME))
    made.kubeconfig.touch(mode=0o600)
    made.kubeconfig.write_bytes(admin_kubeconfig(plane.cluster, plane.keyring).reveal())
    pki = plane.place.work / FOLDER
    identity = made.folder / "identity.pem"
    identity.touch(mode=0o600)
    identity.write_bytes((pki / "admin.crt").read_bytes() + (pki / "admin.key").read_bytes())


@contextmanager
def _running(made: Node, name: str, command: Sequence[str], plane: Plane) -> Iterator[None]:
    own = {
        "FL_KUBECONFIG": str(made.folder / "kubelet.conf"),
        "FL_CA": str(plane.place.work / FOLDER / "ca.crt"),
        "FL_IDENTITY": str(made.folder / "identity.pem"),
    }
    with (made.folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            made.argv(command),
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _answers(made: Node) -> bool:
    try:
        return made.ask("GET", "/readyz")[0] == http.client.OK
    except (OSError, http.client.HTTPException):
        return False


def _ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True, capture_output=True)
