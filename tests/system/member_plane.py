"""Three control-plane hosts as configs/lab-ha.yaml has them, brought up by the product, and faults of one of them."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bootstrap import binaries, etcd
from bootstrap.apply.control_plane import apply_cluster
from bootstrap.apply.etcd_data import Ids, ids_in
from bootstrap.apply.run import Outcome
from bootstrap.apply.sites import servers_of, site_of, trees_with
from bootstrap.config import load
from bootstrap.image import host as host_image
from bootstrap.keys import FOLDER, ensure_keys
from bootstrap.kubernetes.tree import HostTree
from bootstrap.lab.rack import Rack
from bootstrap.model import Cluster
from bootstrap.progress import silent
from bootstrap.workplace import Workplace
from certs.keyring import Keyring
from tests.system.apply_lab import Lines
from tests.system.spine import CACHE, ROOT, wait_for

LAB_HA = ROOT / "configs/lab-ha.yaml"
WHOLE_SECONDS = 180.0
ASK_SECONDS = 5
LASTING = ("etcd", "kube-apiserver")
"""The programs that nothing but a person ends; the other two end by themselves whenever they lose their lease."""


def cluster_called(name: str) -> Cluster:
    """Return the cluster of configs/lab-ha.yaml under another name, without its virtual machines."""
    given = load([LAB_HA])
    assert given.lab
    return given.model_copy(
        update={
            "metadata": given.metadata.model_copy(update={"name": name}),
            "lab": given.lab.model_copy(update={"machines": ()}),
            "machines": (),
        }
    )


@dataclass(frozen=True)
class Member:
    """What of a running member must stay as it is: its processes, and whose data lies where."""

    pids: Mapping[str, int]
    ids: Ids | None
    inodes: tuple[int, int]


@dataclass(frozen=True)
class Plane:
    """The hosts, up and applied; a fault is done to one of them from outside, at once."""

    cluster: Cluster
    place: Workplace
    rack: Rack
    keyring: Keyring
    trees: tuple[HostTree, ...] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.cluster.etcd.members)

    def apply(self) -> tuple[Outcome, list[str]]:
        """Apply, and return what came of it and what was said."""
        lines, work = Lines(), self.place.work
        site = site_of(self.cluster, work, self.keyring, self.trees)
        return apply_cluster(site, lines, datetime.now(UTC)), lines.said

    def member(self, name: str) -> Member:
        root = self.rack.hosts.container(name).root
        data = root / "var/lib/etcd"
        log = min((data / "member/wal").glob("*.wal"))
        inodes = (data.stat().st_ino, (data / "member").stat().st_ino)
        return Member({unit: self.pid(name, unit) for unit in LASTING}, ids_in(log.read_bytes()[:72]), inodes)

    def pid(self, name: str, program: str) -> int:
        """Return the process of `program` on a host, as this computer numbers it."""
        for pid in self.rack.hosts.container(name).pids():
            if _program(pid) == program:
                return pid
        raise AssertionError(f"{program} does not run on {name}")

    def kill(self, name: str, program: str) -> None:
        os.kill(self.pid(name, program), signal.SIGKILL)

    def unwell(self) -> str:
        """Return which server or member is not ready yet, or nothing."""
        for url in servers_of(self.cluster):
            if not self._is_ready(f"{url}/readyz"):
                return url
        hosts = {host.name: host.address for host in self.cluster.control_plane.hosts}
        addresses = {name: f"{hosts[name]}:{etcd.PORT}" for name in self.names}
        client = "etcd/healthcheck-client"
        certificates = self.keyring.certificates
        identity = etcd.Credentials(certificates["etcd/ca"], certificates[client], self.keyring.keys[client])
        question = etcd.Question("healthy", addresses, identity, self.names, 5)
        asked = self.rack.in_namespace(etcd.argv())
        done = subprocess.run(
            asked, cwd=ROOT, input=question.to_json(), capture_output=True, timeout=120, check=False
        )
        return "" if done.stdout.strip() == b'{"answer": {}}' else done.stdout.decode() or "etcd"

    def await_whole(self) -> None:
        """Wait until every API server is ready and every member healthy."""
        said = [""]

        def is_whole() -> bool:
            said[0] = self.unwell()
            return not said[0]

        wait_for(is_whole, f"all three are well again ({said})", timeout=WHOLE_SECONDS, every=1.0)

    def _is_ready(self, url: str) -> bool:
        pki = self.place.work / FOLDER
        identity = ("--cacert", pki / "ca.crt", "--cert", pki / "admin.crt", "--key", pki / "admin.key")
        argv = ("curl", "--silent", "--fail", "--max-time", str(ASK_SECONDS), *map(str, identity), url)
        done = subprocess.run(self.rack.in_namespace(argv), check=False, capture_output=True, text=True)
        return done.stdout == "ok"


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name
    except OSError:
        return ""


@contextmanager
def plane(name: str, deploy: Path) -> Iterator[Plane]:
    """Run the three hosts with a control plane; nothing of them is left outside `deploy`."""
    cluster, place = cluster_called(name), Workplace(deploy, name)
    place.make()
    rack = Rack(cluster, place.work)
    try:
        rack.up(host_roots={False: host_image.build(CACHE, silent)})
        keyring = ensure_keys(cluster, place.work, datetime.now(UTC)).keyring
        found = binaries.resolve(cluster, base=LAB_HA.parent, cache=CACHE)
        made = Plane(cluster, place, rack, keyring, trees_with(cluster, place, keyring, found))
        outcome, said = made.apply()
        assert outcome.exit_code == 0, said
        yield made
    finally:
        for host in rack.hosts.all:
            rack.hosts.container(host).thaw()
        rack.down()


@contextmanager
def frozen(made: Plane, name: str) -> Iterator[None]:
    """Have every process of a host stand still (SIGSTOP)."""
    made.rack.freeze(name)
    try:
        yield
    finally:
        made.rack.thaw(name)


@contextmanager
def parted(made: Plane, name: str) -> Iterator[None]:
    """Have a host's cable pulled."""
    made.rack.plug(name, connected=False)
    try:
        yield
    finally:
        made.rack.plug(name, connected=True)


@contextmanager
def killed(made: Plane, name: str, program: str) -> Iterator[None]:
    """Kill -9 one process of a host; systemd there starts it again."""
    made.kill(name, program)
    yield
