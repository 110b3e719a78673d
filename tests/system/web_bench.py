"""A real `python -m web` with real nginx, keys and documents, on loopback ports of the test's own."""

import hashlib
import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bootstrap.artifacts import Artifact, Manifest, import_file, save_manifest
from bootstrap.keys import ensure_keys
from bootstrap.model import Cluster
from bootstrap.operator import Operator
from bootstrap.render.bundle import render_bundle
from tests.unit.web.fakes import cluster as small_cluster

ROOT = Path(__file__).parents[2]
ADDRESS = "127.77.0.1"  # all of 127/8 is loopback: nothing leaves this computer
PATIENCE_SECONDS = 30.0
IMAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Appliance:
    """The running process and ways to ask it."""

    work: Path
    cache: Path
    cluster: Cluster
    image: Manifest
    process: subprocess.Popen[bytes]
    log: Path

    def plain(self, method: str, path: str, **more: Any) -> Answer:
        return asked(http.client.HTTPConnection(ADDRESS, self.http_port, timeout=20), method, path, **more)

    def secure(self, method: str, path: str, *, certificate: str | None = None, **more: Any) -> Answer:
        context = self.context(certificate)
        connection = http.client.HTTPSConnection(ADDRESS, self.https_port, timeout=20, context=context)
        return asked(connection, method, path, **more)

    def context(self, certificate: str | None = None) -> ssl.SSLContext:
        """Return what a machine trusts: the provisioning CA and nothing else."""
        context = ssl.create_default_context(cafile=str(self.work / "bundle/appliance/provisioning-ca.crt"))
        if certificate:
            pki = self.work / "pki"
            context.load_cert_chain(str(pki / f"{certificate}.crt"), str(pki / f"{certificate}.key"))
        return context

    @property
    def http_port(self) -> int:
        return self.cluster.appliance.http_port

    @property
    def https_port(self) -> int:
        return self.cluster.appliance.https_port

    @property
    def operator(self) -> Operator:
        return Operator(self.work)

    def nginx_master(self) -> int:
        return int((self.work / "run/nginx.pid").read_text())

    def await_ready(self) -> None:
        wait_for(self.operator.is_ready, self.text)

    def text(self) -> str:
        """Return the log without the complaints of an nginx that waits for the application."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if "connect() to unix" not in line)


def asked(connection: http.client.HTTPConnection, method: str, path: str, **more: Any) -> Answer:
    try:
        connection.request(method, path, body=more.get("body"), headers=more.get("headers", {}))
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def wait_for(question: Callable[[], bool], story: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not question():
        assert time.monotonic() < deadline, story()
        time.sleep(0.05)


def free_port() -> int:
    with socket.create_server((ADDRESS, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def cluster_on_loopback() -> Cluster:
    """Return the small cluster, moved to loopback and to ports that nobody uses now."""
    document = small_cluster().model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_defaults=True
    )
    document["appliance"] = {
        "interface": "lo",
        "address": f"{ADDRESS}/24",
        "dhcp": {"mode": "off"},
        "httpPort": free_port(),
        "httpsPort": free_port(),
    }
    return Cluster.model_validate(document)


@contextmanager
def appliance(folder: Path) -> Iterator[Appliance]:
    """Render a work folder below `folder`, run the appliance in it, and end it."""
    # Deep on purpose: a Unix socket's path ends at 107 bytes, and a work folder may be anywhere.
    work, cache = folder / "deep" / ("x" * 60) / "work", folder / "cache"
    work.mkdir(parents=True, mode=0o700)
    cluster = cluster_on_loopback()
    render(cluster, work)
    image = make_image(folder, cache)
    log = folder / "web.log"
    made = Appliance(work, cache, cluster, image, start(work, cache, log), log)
    try:
        made.await_ready()
        yield made
    finally:
        end(made.process)


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def start(work: Path, cache: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        command = (sys.executable, "-m", "web", "--work", str(work), "--cache", str(cache))
        return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)


def render(cluster: Cluster, work: Path) -> None:
    keys = ensure_keys(cluster, work, datetime.now(UTC))
    for path, file in render_bundle(cluster, keys.keyring.public).items():
        target = work / "bundle" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(file.mode)


def make_image(folder: Path, cache: Path) -> Manifest:
    """Put an image of recognisable bytes into the cache."""
    source = folder / "image"
    source.write_bytes(
        b"".join(hashlib.sha256(str(n).encode()).digest() * 32768 for n in range(IMAGE_BYTES >> 20))
    )
    disk = import_file(cache, source)
    source.write_bytes(b"kernel")
    kernel: Artifact = import_file(cache, source)
    manifest = Manifest(
        key="debian-13-cloud",
        family="debian",
        release="13",
        kernel_flavour="cloud",
        kernel_version="6.12",
        built="2026-01-01T00:00:00Z",
        kernel=kernel,
        initrd=kernel,
        disk=disk,
        raw_size=IMAGE_BYTES,
    )
    save_manifest(cache, manifest)
    source.unlink()
    return manifest


def children_of(pid: int) -> list[int]:
    """Return the pids of all that descend from `pid`."""
    direct = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return direct + [deep for child in direct for deep in children_of(child)]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
