"""Real members of etcd, on loopback or in namespaces, with certificates that our own keystore makes."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
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


def names_of(members: tuple[str, ...], addresses: Mapping[str, IPv4Address] | None = None) -> Names:
    return Names(
        cluster="rack1",
        dns_domain="cluster.local",
        service_ip=IPv4Address("10.3.0.1"),
        api_dns=members,
        api_ips=(LOOPBACK,),
        etcd_hosts=tuple((name, (addresses or {}).get(name, LOOPBACK)) for name in members),
        appliance_dns=("appliance.example.net",),
        appliance_ips=(LOOPBACK,),
    )


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind((str(LOOPBACK), 0))
        return int(taken.getsockname()[1])


@dataclass
class Members:
    """The processes of a cluster, by the members' names; each in its namespace, if it has one, at its address there."""

    folder: Path
    keyring: Keyring
    client_ports: dict[str, int]
    peer_ports: dict[str, int]
    processes: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)
    hosts: Mapping[str, IPv4Address] = field(default_factory=dict)
    namespaces: Mapping[str, str] = field(default_factory=dict)

    @property
    def addresses(self) -> dict[str, str]:
        return {name: f"{self.host(name)}:{port}" for name, port in self.client_ports.items()}

    @property
    def urls(self) -> list[str]:
        return [f"https://{address}" for address in self.addresses.values()]

    def host(self, name: str) -> IPv4Address:
        return self.hosts.get(name, LOOPBACK)

    @property
    def credentials(self) -> Credentials:
        client = "etcd/healthcheck-client"
        certificates = self.keyring.certificates
        return Credentials(certificates["etcd/ca"], certificates[client], self.keyring.keys[client])

    def start(self, name: str) -> None:
        pki = self.folder / "pki" / "etcd"
        client = f"https://{self.host(name)}:{self.client_ports[name]}"
        peer = f"https://{self.host(name)}:{self.peer_ports[name]}"
        everyone = ",".join(
            f"{each}=https://{self.host(each)}:{port}" for each, port in self.peer_ports.items()
        )
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
        there = self.namespaces.get(name)
        inside = ("ip", "netns", "exec", there) if there else ()
        argv = [*inside, program, *(f"--{flag}={value}" for flag, value in flags.items())]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(argv, stdout=log, stderr=log)

    def end(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


@contextmanager
def members(
    folder: Path,
    *names: str,
    hosts: Mapping[str, IPv4Address] | None = None,
    namespaces: Mapping[str, str] | None = None,
) -> Iterator[Members]:
    """Run a cluster of members called `names`; nothing of it is left."""
    keyring = Keystore(folder / "pki").ensure(rows(names_of(names, hosts)), datetime.now(UTC))
    running = Members(
        folder,
        keyring,
        {name: free_port() for name in names},
        {name: free_port() for name in names},
        hosts=hosts or {},
        namespaces=namespaces or {},
    )
    try:
        for name in names:
            running.start(name)
        yield running
    finally:
        running.end()
