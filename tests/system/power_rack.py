"""A virtual computer that runs the appliance, so that its power can be cut: SIGKILL of its QEMU.

What the guest's kernel has handed to the disk outlives the QEMU that carried it out, in this computer's page cache;
what it had not yet written is gone, as it is from a real computer's memory. So an event that was acknowledged before
it was synced is lost here. (A disk that lies about its own cache would lose more; none of ours can be told apart.)
"""

import ctypes
import http.client
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bootstrap.artifacts import Manifest, artifact_path, import_file, save_manifest
from bootstrap.lab.machine import ACCEL_OPTIONS, QEMU
from tests.system import web_bench
from tests.system.power_image import make_initrd
from tests.system.storage_bench import CUT, History, Machine, Stored, command, crowd, macs, mounted, stored

NAMESPACE = "flpower"
HOST, GUEST, PREFIX = "10.79.0.1", "10.79.0.2", 24
HTTP_PORT, HTTPS_PORT = 8080, 8443
CLONE_NEWNET = 0x40000000
DISK_MEBIBYTES = 256
MEMORY = "1G"
ARM = re.compile(rb"firstlight\.arm=([0-9a-f-]+)")
READY_SECONDS = 240.0  # alone it takes about 20 s; the two processors may be busy with others


@contextmanager
def network() -> Iterator[None]:
    """Make the namespace with one cable, and put this thread and those that it starts into it."""
    command("ip", "netns", "add", NAMESPACE)
    inside = ("ip", "-n", NAMESPACE)
    try:
        command(*inside, "link", "set", "lo", "up")
        command(*inside, "tuntap", "add", "tap0", "mode", "tap")
        command(*inside, "addr", "add", f"{HOST}/{PREFIX}", "dev", "tap0")
        command(*inside, "link", "set", "tap0", "up")
        with Path("/proc/self/ns/net").open() as home, Path(f"/run/netns/{NAMESPACE}").open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())
    finally:
        command("ip", "netns", "del", NAMESPACE)


def _enter(descriptor: int) -> None:
    assert ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) == 0


@dataclass
class Rack:
    """The one computer: its kernel, its initrd and its disk, below `folder`."""

    folder: Path
    kernel: Path
    machines: int
    careless: bool = False
    process: subprocess.Popen[bytes] | None = None
    boots: list[float] = field(default_factory=list)

    @property
    def disk(self) -> Path:
        """Return the file that is the disk with the work folder."""
        return self.folder / "disk"

    @property
    def console(self) -> Path:
        """Return what the computer printed since it was made."""
        return self.folder / "console"

    def crew(self, history: History) -> list[Machine]:
        """Let each machine boot from the network, which tells it its arm; return them, ready to report."""
        trust = ssl.create_default_context(
            cafile=str(self.folder / "work/bundle/appliance/provisioning-ca.crt")
        )
        return [Machine(GUEST, HTTPS_PORT, trust, mac, arm_of(mac), history) for mac in macs(self.machines)]

    def new_disk(self) -> None:
        """Make the disk anew, with the rendered work folder on it and no store."""
        with self.disk.open("wb") as file:
            file.truncate(DISK_MEBIBYTES << 20)
        command("mke2fs", "-q", "-t", "ext4", "-d", str(self.folder / "work"), str(self.disk))

    def power_on(self) -> None:
        """Start the computer and return when its appliance serves."""
        began = time.monotonic()
        with self.console.open("ab") as output:
            self.process = subprocess.Popen(
                self._argv(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._await_ready()
        self.boots.append(time.monotonic() - began)

    def cut_power(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None

    def look(self) -> Stored:
        """Return what a copy of the disk holds, after the recovery of file system and database."""
        copy = self.folder / "copy"
        shutil.copyfile(self.disk, copy)
        with mounted("ext4", self.folder / "look", "-o", "loop", str(copy)) as work:
            found = stored(work / "state" / "state.db")
        copy.unlink()
        return found

    def story(self) -> str:
        """Return the end of the console."""
        return self.console.read_text(errors="replace")[-4000:]

    def _argv(self) -> tuple[str, ...]:
        control = " power.careless" if self.careless else ""
        return (
            QEMU,
            *ACCEL_OPTIONS["tcg"],
            *("-machine", "q35,graphics=off", "-m", MEMORY),
            *("-no-user-config", "-nodefaults", "-display", "none", "-vga", "none", "-serial", "stdio"),
            *("-no-reboot", "-object", "rng-builtin,id=rng0", "-device", "virtio-rng-pci,rng=rng0"),
            *("-kernel", str(self.kernel), "-initrd", str(self.folder / "initrd")),
            *("-append", f"console=ttyS0 quiet panic=-1{control}"),
            *("-netdev", "tap,id=net0,ifname=tap0,script=no,downscript=no"),
            *("-device", "virtio-net-pci,netdev=net0,romfile="),
            *("-drive", f"if=none,id=disk0,file={self.disk},format=raw,cache=writeback"),
            *("-device", "virtio-blk-pci,drive=disk0"),
        )

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not is_ready():
            assert self.process is not None
            assert self.process.poll() is None, self.story()
            assert time.monotonic() < deadline, self.story()
            time.sleep(0.2)


def get(path: str) -> tuple[int, bytes]:
    """Ask the appliance over plain HTTP."""
    connection = http.client.HTTPConnection(GUEST, HTTP_PORT, timeout=20)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def is_ready() -> bool:
    """Return whether the appliance in the computer serves."""
    try:
        return get("/readyz")[0] == http.HTTPStatus.OK
    except CUT:
        return False


def arm_of(mac: str) -> str:
    """Boot as a machine: get the script and Ignition; return the arm that the script carries."""
    status, script = get(f"/ipxe?mac={mac}&platform=efi")
    found = ARM.search(script)
    assert found, (status, script)
    assert get(f"/v1/ignition/{mac}")[0] == http.HTTPStatus.OK
    return found[1].decode()


@contextmanager
def rack(folder: Path, manifest: Manifest, cache: Path, machines: int) -> Iterator[Rack]:
    """Make the computer, its network and its disk, and take all of it away in the end."""
    section: dict[str, object] = {
        "interface": "eth0",
        "address": f"{GUEST}/{PREFIX}",
        "dhcp": {"mode": "off"},
        "httpPort": HTTP_PORT,
        "httpsPort": HTTPS_PORT,
    }
    work, small = folder / "work", folder / "small"
    work.mkdir(mode=0o700)
    web_bench.render(crowd(machines, section), work)
    tiny_image(small, folder)
    make_initrd(folder / "initrd", manifest, cache, small, f"{GUEST}/{PREFIX}")
    made = Rack(folder, artifact_path(cache, manifest.kernel.sha256), machines)
    made.new_disk()
    with network():
        try:
            yield made
        finally:
            made.cut_power()


def tiny_image(cache: Path, folder: Path) -> None:
    """Put an image into the cache that nobody will write: without one, no machine is told to install."""
    source = folder / "tiny"
    source.write_bytes(b"tiny")
    part = import_file(cache, source)
    manifest = Manifest(
        key="tiny",
        family="debian",
        release="13",
        kernel_flavour="cloud",
        kernel_version="6.12",
        built="2026-01-01T00:00:00Z",
        kernel=part,
        initrd=part,
        disk=part,
        raw_size=1,
    )
    save_manifest(cache, manifest)
