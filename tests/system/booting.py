"""Real firmware that boots from a network of namespaces, and what it asks our HTTP port for."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

from bootstrap.lab.machine import Vm, argv, variables_file
from bootstrap.lab.requirements import find_ovmf
from tests.system.pxe_segment import SERVER, Bench, Segment, inside, run, wait_for

MEMORY = 256 * 1024**2
END = b"#!ipxe\necho firstlight: reached\nsleep 600\n"


class Asked(list[str]):
    """What was asked for over HTTP, in order: `ADDRESS PATH`, with the machine's questions cut off."""

    def by(self, path: str) -> list[str]:
        """Return the addresses that asked for `path`."""
        return [line.partition(" ")[0] for line in self if line.partition(" ")[2] == path]


@contextmanager
def boot_files(where: Segment, ground: Bench) -> Iterator[Asked]:
    """Serve the rendered /boot.ipxe on our HTTP port; whoever asks for its own script stays there."""
    asked = Asked()
    files = {"/boot.ipxe": (ground.work / "bundle/web/boot.ipxe").read_bytes(), "/ipxe": END}

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
    where: Segment, bridge: str, folder: Path, firmware: Literal["bios", "uefi"], mac: str
) -> Iterator[Path]:
    """Switch on a machine without a disk whose cable is in `bridge` of the client's side; yields its console's log."""
    vm = Vm(name="m", mac=mac, uuid=_uuid(mac), firmware=firmware, cpus=1, memory=MEMORY, disks=())
    run("ip", "-n", where.client, "tuntap", "add", vm.tap, "mode", "tap")
    run("ip", "-n", where.client, "link", "set", vm.tap, "master", bridge, "up")
    (folder / vm.folder).mkdir(parents=True)
    ovmf, pid_file = find_ovmf(), folder / "m.pid"
    if firmware == "uefi":
        assert ovmf is not None, "install ovmf"
        shutil.copy(ovmf.variables, folder / variables_file(vm, ovmf))
    command = argv(vm, accel="tcg", pid_file=pid_file, ovmf=ovmf)
    subprocess.run(
        ("nice", "-n", "5", "ip", "netns", "exec", where.client, *command), cwd=folder, check=True, timeout=60
    )
    pid = int(pid_file.read_text())
    try:
        yield folder / vm.folder / "console.log"
    finally:
        os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda: not Path(f"/proc/{pid}").exists())
        run("ip", "-n", where.client, "link", "delete", vm.tap)


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
