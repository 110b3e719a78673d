"""Real members of etcd on loopback, with certificates that our own keystore makes."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

from bootstrap.etcd import Credentials
from certs.keyring import Keyring
from certs.keystore import Keystore
from certs.wanted import Names, rows

LOOPBACK = IPv4Address("127.0.0.1")


def names_of(members: tuple[str, ...]) -> Names:
    return Names(
        cluster="rack1",
        dns_domain="cluster.local",
        service_ip=IPv4Address("10.3.0.1"),
        api_dns=members,
        api_ips=(LOOPBACK,),
        etcd_hosts=tuple((name, LOOPBACK) for name in members),
        appliance_dns=("appliance.example.net",),
        appliance_ips=(LOOPBACK,),
    )


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind((str(LOOPBACK), 0))
        return int(taken.getsockname()[1])


@dataclass
class Members:
    """The processes of a cluster, by the members' names."""

    folder: Path
    keyring: Keyring
    client_ports: dict[str, int]
    peer_ports: dict[str, int]
    processes: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    @property
    def addresses(self) -> dict[str, str]:
        return {name: f"{LOOPBACK}:{port}" for name, port in self.client_ports.items()}

    @property
    def credentials(self) -> Credentials:
        client = "etcd/healthcheck-client"
        certificates = self.keyring.certificates
        return Credentials(certificates["etcd/ca"], certificates[client], self.keyring.keys[client])

    def start(self, name: str) -> None:
        pki = self.folder / "pki" / "etcd"
        client = f"https://{LOOPBACK}:{self.client_ports[name]}"
        peer = f"https://{LOOPBACK}:{self.peer_ports[name]}"
        everyone = ",".join(f"{each}=https://{LOOPBACK}:{port}" for each, port in self.peer_ports.items())
        flags = {
            "name": name,
            "data-dir": self.folder / name,
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": everyone,
            "initial-cluster-token": "rack1",
            "client-cert-auth": "true",
            "trusted-ca-file": pki / "ca.crt",
            "cert-file": pki / f"server-{name}.crt",
            "key-file": pki / f"server-{name}.key",
            "peer-client-cert-auth": "true",
            "peer-trusted-ca-file": pki / "ca.crt",
            "peer-cert-file": pki / f"peer-{name}.crt",
            "peer-key-file": pki / f"peer-{name}.key",
            "logger": "zap",
        }
        program = shutil.which("etcd")
        assert program, "etcd is not installed (etcd-server)"
        argv = [program, *(f"--{flag}={value}" for flag, value in flags.items())]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(argv, stdout=log, stderr=log)

    def end(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


@contextmanager
def members(folder: Path, *names: str) -> Iterator[Members]:
    """Run a cluster of members called `names`; nothing of it is left."""
    keyring = Keystore(folder / "pki").ensure(rows(names_of(names)), datetime.now(UTC))
    running = Members(
        folder, keyring, {name: free_port() for name in names}, {name: free_port() for name in names}
    )
    try:
        for name in names:
            running.start(name)
        yield running
    finally:
        running.end()
