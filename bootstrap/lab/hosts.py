"""All hosts of a rack: their roots and keys, their start, and the way into them."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootstrap.disk import write_file
from bootstrap.errors import LabError
from bootstrap.lab import host as description
from bootstrap.lab import ssh
from bootstrap.lab.console import tail
from bootstrap.lab.container import Container
from bootstrap.lab.host import ROOT_USER, LabHost, hosts_from
from bootstrap.lab.network import Network
from bootstrap.model import Cluster
from bootstrap.processes import wait_until
from bootstrap.progress import Progress, silent
from certs.secret import Secret

PRIVATE = 0o700
UNPACK_SECONDS = 300.0
START_SECONDS = 120.0
"""A host answers SSH 2 seconds after its start, unless everything else on this computer is busy."""
READ_AT_START = ("etc/ssh/", "etc/systemd/")
USER_SCRIPT = """
id "$1" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$1"
install -d -m 700 -o "$1" -g "$1" "/home/$1/.ssh"
install -m 600 -o "$1" -g "$1" /root/.ssh/authorized_keys "/home/$1/.ssh/authorized_keys"
"""


@dataclass(frozen=True)
class Hosts:
    """The hosts of the rack in `work` (absolute); `authorized` are the public keys that may log in."""

    work: Path
    network: Network
    all: Mapping[str, LabHost]
    authorized: tuple[str, ...]

    @classmethod
    def of(cls, cluster: Cluster, work: Path, network: Network) -> "Hosts":
        """Return the hosts of `cluster`; raises LabError as `hosts_from`."""
        found = {host.name: host for host in hosts_from(cluster)}
        return cls(work, network, found, cluster.ssh.authorized_keys)

    def container(self, name: str) -> Container:
        """Return the container that is the host `name`."""
        return Container(self.work / "lab" / name)

    def furnish(self, archives: Mapping[bool, Path], progress: Progress = silent) -> None:
        """Give every host its root, unpacked where there is none, and what belongs to us in it.

        `archives` are the roots by whether the host is to be a node.

        What else changed in a root stays. A running host whose address, port or host key changed is switched off, so
        that its next start finds them.

        Raises:
            LabError: a root is missing and there is no archive, or it could not be unpacked.
        """
        for name, host in self.all.items():
            container = self.container(name)
            container.folder.mkdir(mode=PRIVATE, exist_ok=True)
            if not container.root.is_dir():
                progress(f"lab: root of {name}")
                self._unpack(host, container, archives.get(host.node))
            if self._write(host, container) and container.pids():
                progress(f"lab: what {name} starts with changed: starting it again")
                container.switch_off()

    def _unpack(self, host: LabHost, container: Container, archive: Path | None) -> None:
        if archive is None or not archive.is_file():
            raise LabError(
                f"host {host.name} of the lab has no root yet: `image build` makes what it starts from"
            )
        partial = container.root.with_name("root.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o755)
        where = ("--directory", f"{partial}", "--file", f"{archive}")
        _run(("tar", "--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*", *where))
        for path, text in description.files_once(host).items():
            (partial / path).write_text(text)
        partial.rename(container.root)

    def _write(self, host: LabHost, container: Container) -> bool:
        """Write what is ours in a root, and return whether a running host must start again to know of it."""
        key = self._key(host)
        public = ssh.public_of(key)
        wanted = description.files(host, (ssh.ensure_lab_key(self.work), *self.authorized), key, public)
        stale = [path for path, (content, _) in wanted.items() if not _holds(container.root / path, content)]
        for path in stale:
            content, mode = wanted[path]
            (container.root / path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_file(container.root / path, content, mode)
        if stale and host.user != ROOT_USER:
            _run(("chroot", f"{container.root}", "sh", "-euc", USER_SCRIPT, "sh", host.user))
        return any(path.startswith(READ_AT_START) for path in stale)

    def _key(self, host: LabHost) -> Secret:
        """Return the SSH host key of a host, made at the first call."""
        return ssh.ensure_key(self.container(host.name).key)

    def start(self, progress: Progress = silent) -> None:
        """Boot the hosts that are off, all at once, and wait until each answers SSH with its key.

        Raises:
            LabError: one does not; the text holds the end of its console.
        """
        for name in self.all:
            self.boot(name)
        for name in self.all:
            progress(f"lab: waiting until {name} answers SSH")
            self.await_ssh(name)

    def boot(self, name: str) -> None:
        """Boot a host and do not wait; one that runs stays as it is."""
        container = self.container(name)
        if not container.root.is_dir():
            raise LabError(f"host {name} cannot be switched on: it has no root yet (lab up makes it)")
        command = description.argv(
            self.all[name], container.folder, namespace=self.network.file, bridge=self.network.bridge
        )
        container.start(command, with_controllers=self.all[name].node)

    def await_ssh(self, name: str) -> None:
        """Wait until a host answers SSH with its key; raises LabError when it does not in two minutes."""
        command = self.ssh_argv(name, ("true",))
        if not wait_until(lambda: _works(command), START_SECONDS):
            said = tail(self.container(name).console_log)
            raise LabError(
                f"host {name} does not answer SSH after {START_SECONDS:.0f} s; its console said:\n{said}"
            )

    def ssh_argv(self, name: str, command: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the command that runs `command` (none: a shell) on a host; it enters the rack's network itself."""
        host = self.all[name]
        inside = ssh.ssh_argv(
            key=ssh.key_file(self.work),
            address=str(host.address.ip),
            known_hosts=self.known_hosts(name),
            command=command,
            user=host.user,
            port=host.port,
        )
        return ("ip", "netns", "exec", self.network.namespace, *inside)

    def known_hosts(self, name: str) -> Path:
        """Write the known_hosts file of a host and return it."""
        folder = self.work / "known_hosts"
        folder.mkdir(mode=PRIVATE, exist_ok=True)
        line = description.known_hosts_line(self.all[name], ssh.public_of(self._key(self.all[name])))
        write_file(folder / name, line.encode(), 0o600)
        return folder / name


def with_host_keys(cluster: Cluster, work: Path) -> Cluster:
    """Return `cluster` with the SSH host keys of the lab's hosts, which we make; one that is configured stays.

    Raises:
        LabError: a key that is there is damaged.
    """
    virtual = {host.name for host in cluster.lab.hosts} if cluster.lab else set()
    hosts = tuple(
        host.model_copy(update={"host_key": _public_line(work, host.name)})
        if host.name in virtual and host.host_key is None
        else host
        for host in cluster.control_plane.hosts
    )
    control_plane = cluster.control_plane.model_copy(update={"hosts": hosts})
    return cluster.model_copy(update={"control_plane": control_plane})


def _public_line(work: Path, name: str) -> str:
    return ssh.public_of(ssh.ensure_key(Container(work.resolve() / "lab" / name).key))


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _works(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=START_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _run(argv: Sequence[str]) -> None:
    try:
        subprocess.run(
            argv,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=UNPACK_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        raise LabError(f"{argv[0]} failed: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{argv[0]} failed: {error}") from error
