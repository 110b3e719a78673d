"""Control-plane hosts of the lab for the tests of apply, trees with a small unit, and a look at what is on a host."""

import hashlib
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bootstrap import ssh
from bootstrap.apply import manifest
from bootstrap.apply.control_plane import Site, apply_cluster
from bootstrap.apply.host import Deadlines
from bootstrap.apply.run import Outcome
from bootstrap.image import host as host_image
from bootstrap.kubernetes.tree import HostFile, HostTree, LocalFile, Unit
from bootstrap.lab.hosts import with_host_keys
from bootstrap.lab.rack import Rack
from bootstrap.lab.ssh import key_file
from bootstrap.model import Cluster
from bootstrap.progress import Progress, silent
from certs.secret import Secret
from tests.system.spine import CACHE

UNIT = "fl-app.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
CONF = "/etc/fl-app/conf"
EXTRAS = ("/etc/fl-app/even", "/etc/fl-app/odd")
"""Which of them there is differs from one version to the next."""
PROGRAM = "/opt/firstlight/bin/fl-app"
STATE = "/var/lib/firstlight"
LEFT = ".firstlight"  # how a file ends that waits for its place
UNIT_TEXT = f"""[Unit]
Description=What the tests of apply run
[Service]
User=fl-app
ExecStart={PROGRAM} infinity
[Install]
WantedBy=multi-user.target
"""


NEVER_ON = {
    "name": "w1",
    "firmware": "bios",
    "mac": "52:54:00:fd:00:01",
    "disks": [{"serial": "w1-root", "size": "1GiB"}],
}


def document(name: str, hosts: tuple[Mapping[str, Any], ...], etcd: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "apiVersion": "firstlight/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": name},
        "kubernetes": {"version": "v1.36.4", "controlPlaneEndpoint": "10.77.0.11:6443"},
        "controlPlane": {"hosts": [dict(host) for host in hosts]},
        "etcd": {"members": list(etcd)},
        "appliance": {
            "interface": "eth0",
            "address": "10.77.0.1/24",
            "dhcp": {"mode": "server", "range": ["10.77.0.100", "10.77.0.120"]},
        },
        "pools": [
            {
                "name": "workers",
                "os": {"family": "debian", "release": "13"},
                "disk": {"select": {"type": "virtio"}},
            }
        ],
        "lab": {"machines": [NEVER_ON], "hosts": [{"name": host["name"]} for host in hosts], "accel": "tcg"},
    }


@dataclass
class Lines:
    """A reporter that keeps what was said."""

    said: list[str] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Progress]:
        self.said.append(f"# {name}")
        yield silent

    def say(self, text: str) -> None:
        self.said.append(text)


@dataclass(frozen=True)
class Hosts:
    """The hosts of one test module: up, reachable, and looked at from outside."""

    rack: Rack
    work: Path
    cluster: Cluster

    def site(self, trees: tuple[HostTree, ...], **more: Any) -> Site:
        way = ssh.Way(self.work / "known_hosts", wrap=self.rack.in_namespace, key=key_file(self.work))
        given = {"deadlines": Deadlines(look=30, put=30, units=60), "probe_seconds": 20.0, **more}
        return Site(cluster=self.cluster, work=self.work, trees=trees, way=way, **given)

    def apply(self, *trees: HostTree, limit: tuple[str, ...] = (), **more: Any) -> tuple[Outcome, list[str]]:
        """Apply `trees` in this process, and return what came of it and what was said."""
        lines = Lines()
        return apply_cluster(self.site(trees, **more), lines, datetime.now(UTC), limit=limit), lines.said

    def root(self, name: str) -> Path:
        return self.rack.hosts.container(name).root

    def run(self, name: str, *command: str, seconds: float = 60) -> str:
        user = next(host.user for host in self.cluster.control_plane.hosts if host.name == name)
        words = command if user == "root" else ("sudo", "-n", *command)
        done = subprocess.run(
            self.rack.hosts.ssh_argv(name, words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{name}: {command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def pid(self, name: str, unit: str = UNIT) -> int:
        return int(self.run(name, "systemctl", "show", "-p", "MainPID", "--value", unit))

    def clean(self, name: str) -> None:
        """Take away whatever tests put onto a host."""
        script = (
            f"systemctl disable --quiet --now {UNIT} etcd 2>/dev/null;"
            f"rm -rf {STATE} /run/firstlight-host /etc/fl-app /opt/firstlight {UNIT_FILE} /etc/kubernetes"
            " /etc/sysusers.d/firstlight.conf /etc/systemd/system/etcd* /var/lib/etcd; systemctl daemon-reload"
        )
        self.run(name, "sh", "-c", f"{script}; true")


@contextmanager
def hosts(
    name: str, work: Path, wanted: tuple[Mapping[str, Any], ...], etcd: tuple[str, ...] = ()
) -> Iterator[Hosts]:
    """Run the hosts `wanted`; nothing of them is left outside `work`."""
    cluster = Cluster.model_validate(document(name, wanted, etcd))
    rack = Rack(cluster, work)
    try:
        rack.up(host_roots={False: host_image.build(CACHE, silent)})
        yield Hosts(rack, work, with_host_keys(cluster, work))
    finally:
        rack.down()


def tree(host: str, version: int, program: Path = Path("/bin/sleep")) -> HostTree:
    """Return a tree whose every kind of file differs between versions: text, secret, program, unit, one that goes."""
    sha256 = hashlib.sha256(program.read_bytes()).hexdigest()
    files = {
        CONF: HostFile(f"version {version}\n".encode()),
        "/etc/fl-app/key": HostFile(Secret(f"hidden-{version}".encode()), 0o640, group="fl-app"),
        "/etc/fl-app/same": HostFile(b"the same always\n", 0o600),
        "/etc/sysusers.d/firstlight.conf": HostFile(b'u fl-app - "tests of apply" / /usr/sbin/nologin\n'),
        PROGRAM: HostFile(LocalFile(program, sha256), 0o755),
        UNIT_FILE: HostFile(UNIT_TEXT.encode()),
    }
    files[EXTRAS[version % 2]] = HostFile(b"in every other version\n")
    reads = ("/etc/fl-app/", PROGRAM, UNIT_FILE)
    return HostTree(host, files, (Unit(UNIT, reads, "fl-app"),))


def found_on(root: Path) -> dict[str, bytes]:
    """Return everything that apply may have left in a host's root, by path."""
    places = ("etc/fl-app", "opt/firstlight", "var/lib/firstlight")
    files = [path for place in places for path in (root / place).rglob("*") if path.is_file()]
    single = [root / UNIT_FILE[1:], root / "etc/sysusers.d/firstlight.conf"]
    left = [path for place in ("etc", "opt", "var/lib") for path in (root / place).rglob(f"*{LEFT}")]
    every = {*files, *(path for path in single if path.exists()), *left}
    return {f"/{path.relative_to(root)}": path.read_bytes() for path in sorted(every)}


def expected(cluster: str, wanted: HostTree) -> dict[str, bytes]:
    """Return what a host holds after an apply that nothing disturbed."""
    stamps = {
        f"{STATE}/units/{unit.name}": f"{manifest.stamp_of(unit, wanted)}\n".encode() for unit in wanted.units
    }
    contents = {path: content_of(file) for path, file in wanted.files.items()}
    return {**contents, **stamps, manifest.FILE: manifest.manifest(cluster, wanted)}


def content_of(file: HostFile) -> bytes:
    match file.content:
        case LocalFile(path=path):
            return path.read_bytes()
        case Secret() as secret:
            return secret.reveal()
        case bytes() as content:
            return content


Context = AbstractContextManager[Hosts]
Change = Callable[[HostTree], HostTree]


def with_file(given: HostTree, path: str, file: HostFile) -> HostTree:
    return replace(given, files={**given.files, path: file})
