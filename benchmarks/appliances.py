"""Real appliances: `python -m web` with nginx, on loopback, each in a work folder of its own."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.processes import processor_seconds
from benchmarks.racks import cluster_of
from bootstrap.artifacts import Manifest, import_file, save_manifest
from bootstrap.disk import write_bundle
from bootstrap.keys import ensure_keys
from bootstrap.model import Cluster
from bootstrap.operator import Operator
from bootstrap.render.bundle import render_bundle

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = "127.78.0.1"  # all of 127/8 is loopback: nothing leaves this computer
START_SECONDS = 300
STOP_SECONDS = 60
PRODUCT = ("-m", "web")


@dataclass(frozen=True)
class Appliance:
    """A running appliance of `cluster`, whose image's disk holds `disk_bytes` bytes."""

    work: Path
    cluster: Cluster
    image: Manifest
    pid: int

    @property
    def plain(self) -> str:
        """Return the URL of its plain HTTP listener."""
        return self.cluster.base_url

    @property
    def secure(self) -> str:
        """Return the URL of its HTTPS listener."""
        return self.cluster.secure_url

    @property
    def socket(self) -> Path:
        """Return the socket of the application behind nginx."""
        return self.work / "run" / "web.sock"

    @property
    def artifact(self) -> str:
        """Return the path of the image's disk below `plain`."""
        return f"/artifacts/sha256/{self.image.disk.sha256}"

    def processor_seconds(self) -> float:
        """Return the processor time that all its processes have used."""
        return processor_seconds(self.pid)

    def arms(self) -> list[tuple[str, str]]:
        """Return MAC and arm of every machine, from the store."""
        rows = self.rows("SELECT value FROM entries WHERE key >= 'machine/' AND key < 'machine0'")
        texts = [bytes(row[0]).decode() for row in rows]
        return [(_field(text, "mac"), _field(text, "arm")) for text in texts]

    def rows(self, query: str, values: Sequence[str] = ()) -> list[tuple[bytes, ...]]:
        """Ask the store's file, as another process that only reads."""
        file = f"file:{self.work / 'state' / 'state.db'}?mode=ro"
        with closing(sqlite3.connect(file, uri=True, timeout=30)) as connection:
            return connection.execute(query, values).fetchall()


def _field(text: str, name: str) -> str:
    found = re.search(rf'"{name}":"([^"]*)"', text)
    if found is None:
        raise RuntimeError(f"a record lacks {name}: {text[:200]}")
    return found[1]


@contextmanager
def appliance(
    folder: Path, count: int, *, disk_bytes: int = 4096, program: Sequence[str] = PRODUCT
) -> Iterator[Appliance]:
    """Render a rack of `count` machines below `folder`, serve it until the block ends, and stop it.

    Raises:
        RuntimeError: it did not become ready; the text holds the end of its log.
    """
    work, cache = folder / "work", folder / "cache"
    work.mkdir(parents=True)
    cluster = on_loopback(cluster_of(folder, count))
    keys = ensure_keys(cluster, work, datetime.now(UTC))
    write_bundle(work / "bundle", render_bundle(cluster, keys.keyring.public))
    image = make_image(folder, cache, disk_bytes)
    log = folder / "web.log"
    with log.open("wb") as output:
        command = (sys.executable, *program, "--work", str(work), "--cache", str(cache))
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    try:
        _await_ready(work, process, log)
        yield Appliance(work, cluster, image, process.pid)
    finally:
        stop(process)


def on_loopback(cluster: Cluster) -> Cluster:
    """Return `cluster` with an appliance on loopback ports that nobody uses now."""
    document = cluster.model_dump(mode="json", by_alias=True, exclude_none=True)
    document["appliance"] = {
        "interface": "lo",
        "address": f"{ADDRESS}/8",
        "dhcp": {"mode": "off"},
        "httpPort": free_port(),
        "httpsPort": free_port(),
    }
    return Cluster.model_validate(document)


def free_port() -> int:
    """Return a port of ADDRESS that nobody listens on."""
    with socket.create_server((ADDRESS, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def make_image(folder: Path, cache: Path, disk_bytes: int) -> Manifest:
    """Put an image into the cache, as `image build` does; its disk holds random bytes."""
    source = folder / "disk"
    with source.open("wb") as file:
        for start in range(0, disk_bytes, 2**20):
            file.write(os.urandom(min(2**20, disk_bytes - start)))
    disk = import_file(cache, source)
    source.write_bytes(b"kernel")
    kernel = import_file(cache, source)
    source.unlink()
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
        raw_size=disk_bytes,
    )
    save_manifest(cache, manifest)
    return manifest


def _await_ready(work: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
    operator, deadline = Operator(work), time.monotonic() + START_SECONDS
    while not operator.is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the appliance is not ready: {log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.1)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process that we started, and wait until it has ended."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
