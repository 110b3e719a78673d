"""Real firmware that boots from a network of namespaces, and what it asks our HTTP port for."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bootstrap.lab.machine import Vm, argv, disk_file, variables_file
from bootstrap.lab.requirements import find_ovmf
from bootstrap.model import LabDisk
from bootstrap.model.appliance import Loaders
from bootstrap.model.lab import VmFirmware
from tests.system.pxe_segment import SERVER, Bench, Segment, inside, run, wait_for
from web.loaders import HttpLoaders

MEMORY, MEMORY_TO_INSTALL = 256 * 1024**2, 2 * 1024**3
DISK = 4 * 1024**3  # the smallest that the image fits on
AAVMF = Path("/usr/share/AAVMF")
_TCPDUMP = ("tcpdump", "-Z", "root", "-n", "-U", "--immediate-mode")
END = b"#!ipxe\necho firstlight: reached\nsleep 600\n"


class Asked(list[str]):
    """What was asked for over HTTP, in order: `ADDRESS PATH`, with the machine's questions cut off."""

    def by(self, path: str) -> list[str]:
        """Return the addresses that asked for `path`."""
        return [line.partition(" ")[0] for line in self if line.partition(" ")[2] == path]


@contextmanager
def boot_files(where: Segment, ground: Bench) -> Iterator[Asked]:
    """Serve the rendered /boot.ipxe and iPXE on our HTTP port; whoever asks for its own script stays there."""
    asked = Asked()
    folder = ground.work / "run" / "loader"
    HttpLoaders(ground.work / "cache", folder).look(Loaders())
    loaders = {f"/loader/{path.name}": path.read_bytes() for path in folder.iterdir()}
    script = (ground.work / "bundle/web/boot.ipxe").read_bytes()
    files = {**loaders, "/boot.ipxe": script, "/ipxe": END}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:  # the name that http.server calls
            path = self.path.partition("?")[0]
            asked.append(f"{self.client_address[0]} {path}")
            content = files.get(path)
            self.send_response(200 if content else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"" if self.command == "GET" else b"")

        def log_message(self, *_: object) -> None:
            return

    with inside(where.server):
        server = ThreadingHTTPServer((SERVER, 8080), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def machine(
    where: Segment,
    bridge: str,
    folder: Path,
    firmware: VmFirmware,
    mac: str,
    *,
    name: str = "m",
    has_disk: bool = False,
) -> Iterator[Path]:
    """Switch on a machine whose cable is in `bridge` of the client's side; yields its console's log.

    With a disk, its serial is `virtio-` and the name, and there is memory enough to install.
    """
    disks = (LabDisk(serial=f"virtio-{name}", size=DISK),) if has_disk else ()
    memory = MEMORY_TO_INSTALL if has_disk else MEMORY
    vm = Vm(name=name, mac=mac, uuid=_uuid(mac), firmware=firmware, cpus=1, memory=memory, disks=disks)
    (folder / vm.folder).mkdir(parents=True)
    ovmf, pid_file = find_ovmf(), folder / f"{name}.pid"
    if vm.is_uefi:
        assert ovmf is not None, "install ovmf"
        shutil.copy(ovmf.variables, folder / variables_file(vm, ovmf))
    for disk in disks:
        with (folder / disk_file(vm, disk)).open("wb") as file:
            file.truncate(disk.size)
    command = argv(vm, accel="tcg", pid_file=pid_file, ovmf=ovmf)
    with _on((where, bridge), vm.tap, folder, command, pid_file):
        yield folder / vm.folder / "console.log"


@contextmanager
def arm64_machine(where: Segment, bridge: str, folder: Path, mac: str, *, name: str = "a") -> Iterator[Path]:
    """Switch on a machine with an arm64 processor and without a disk, which boots by HTTP; yields its console's log."""
    console, pid_file, tap = folder / f"{name}.console", folder / f"{name}.pid", f"tap{mac.replace(':', '')}"
    shutil.copy(AAVMF / "AAVMF_VARS.fd", folder / f"{name}.vars")
    flash, names = "if=pflash,format=raw", ("IPv6PXESupport", "IPv6Support", "IPv4PXESupport")
    command = (
        *("qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a57", "-accel", "tcg", "-smp", "1"),
        *("-name", name, "-uuid", _uuid(mac), "-m", "512M"),
        *("-no-user-config", "-nodefaults", "-display", "none", "-serial", f"file:{console}"),
        *("-smbios", f"type=1,manufacturer=firstlight,product=arm,serial={name}"),
        *("-object", "rng-builtin,id=rng0", "-device", "virtio-rng-pci,rng=rng0"),
        *("-drive", f"{flash},unit=0,readonly=on,file={AAVMF / 'AAVMF_CODE.fd'}"),
        *("-drive", f"{flash},unit=1,file={folder / f'{name}.vars'}"),
        *(word for no in names for word in ("-fw_cfg", f"name=opt/org.tianocore/{no},string=n")),
        *("-netdev", f"tap,id=net0,ifname={tap},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=net0,mac={mac},bootindex=1,romfile="),
        *("-daemonize", "-pidfile", str(pid_file)),
    )
    with _on((where, bridge), tap, folder, command, pid_file):
        yield console


@contextmanager
def _on(
    at: tuple[Segment, str], tap: str, folder: Path, command: Sequence[str], pid_file: Path
) -> Iterator[None]:
    """Keep a machine on, with its cable in a bridge of the client's side."""
    where, bridge = at
    run("ip", "-n", where.client, "tuntap", "add", tap, "mode", "tap")
    run("ip", "-n", where.client, "link", "set", tap, "master", bridge, "up")
    subprocess.run(
        ("nice", "-n", "5", "ip", "netns", "exec", where.client, *command), cwd=folder, check=True, timeout=60
    )
    pid = int(pid_file.read_text())
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda: not Path(f"/proc/{pid}").exists())
        run("ip", "-n", where.client, "link", "delete", tap)


@contextmanager
def captured(namespace: str, interface: str, file: Path) -> Iterator[Callable[[str], int]]:
    """Record the UDP packets of an interface; yields what counts those of a filter (pcap-filter(7)) until now."""
    log = file.with_suffix(".log")
    inside_it = ("ip", "netns", "exec", namespace)
    with log.open("wb") as output:
        process = subprocess.Popen(
            (
                *inside_it,
                *["tcpdump", "-Z", "root", "-n", "-U", "--immediate-mode", "-i"],
                interface,
                "-w",
                file,
                "udp",
            ),
            stderr=output,
        )

    def count(filter_: str) -> int:
        # The last packet may just be half written: that ends with an error, after all others.
        return len(run("tcpdump", "-n", "-r", str(file), filter_, check=False).stdout.splitlines())

    try:
        assert wait_for(lambda: "listening on" in log.read_text()), log.read_text()
        yield count
    finally:
        process.terminate()
        process.wait(10)


def _uuid(mac: str) -> str:
    return f"00000000-0000-4000-8000-{mac.replace(':', '')}"


def await_script(asked: Asked, console: Path, seconds: float) -> str:
    """Wait until a machine has asked for its own script, by way of /boot.ipxe; return its address."""
    begun = time.monotonic()
    reached = wait_for(lambda: bool(asked.by("/ipxe")), seconds)
    assert reached, (asked, console.read_text(errors="replace")[-2000:])
    print(f"its script after {time.monotonic() - begun:.0f} s")  # noqa: T201  # for the log of the run
    assert asked.by("/boot.ipxe"), asked
    return asked.by("/ipxe")[0]
