"""A bench for one virtual machine: a network namespace, DHCP, the appliance's part of the contract, and QEMU."""

import contextlib
import ctypes
import hashlib
import http.server
import json
import os
import shutil
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from bootstrap import artifacts
from bootstrap.artifacts import Manifest

INSTALLER = Path(__file__).parents[2] / "configs" / "installer"
SERVER = "10.78.0.1"
MAC = "52:54:00:78:00:01"
ADDRESS = "10.78.0.50"
ARM = "0f6c3f0e-5d0c-4b57-9d1e-6a3a5e1c0001"
SERIAL = "w1-root"
CLONE_NEWNET = 0x40000000
ACCEL = ("-accel", "tcg,thread=multi", "-cpu", "max,-cx16")


def sh(*argv: str, cwd: Path | None = None) -> str:
    """Run a command that must succeed; return what it printed."""
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


def file_entry(path: str, content: str, mode: int = 0o644) -> dict[str, Any]:
    """Return an Ignition file."""
    data = "".join(f"%{byte:02x}" for byte in content.encode())
    return {"path": path, "mode": mode, "overwrite": True, "contents": {"source": f"data:,{data}"}}


@dataclass
class Appliance:
    """The server's side of the contract, with the faults that a test asks for."""

    manifest: Manifest
    cache: Path
    folder: Path
    disk_rule: dict[str, Any]
    wipe: list[str] = field(default_factory=list)
    arm: str = ARM
    # faults
    deaf_to: set[str] = field(default_factory=set)
    wrong_sum: bool = False
    cut_after: int | None = None
    refuse: str | None = None
    # what happened
    events: list[dict[str, Any]] = field(default_factory=list)
    begins: list[dict[str, Any]] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def ca(self) -> str:
        """Return the provisioning CA in PEM."""
        return (self.folder / "ca.crt").read_text()

    def live(self) -> bytes:
        """Return the Ignition document of the live system."""
        install = {
            "cluster": "bench",
            "machine": "w1",
            "pool": "workers",
            "mac": MAC,
            "server": f"https://{SERVER}:8443",
            "disk": {"select": self.disk_rule, "wipe": self.wipe},
            "ntp": [],
        }
        return document(
            file_entry("/etc/firstlight/install.json", json.dumps(install)),
            file_entry("/etc/firstlight/provisioning-ca.crt", self.ca),
            file_entry("/opt/firstlight/install", impatient((INSTALLER / "install").read_text()), 0o755),
        )

    def installed(self) -> bytes:
        """Return the Ignition document of the installed system."""
        machine = {"cluster": "bench", "machine": "w1", "mac": MAC, "server": f"https://{SERVER}:8443"}
        unit = (
            "[Unit]\nWants=network-online.target\nAfter=network.target ssh.service\n"
            "[Service]\nType=oneshot\nExecStart=/opt/firstlight/report\n[Install]\nWantedBy=multi-user.target\n"
        )
        key = (self.folder / "id.pub").read_text().strip()
        return document(
            file_entry("/etc/hostname", "w1\n"),
            file_entry("/etc/firstlight/machine.json", json.dumps(machine)),
            file_entry("/etc/firstlight/provisioning-ca.crt", self.ca),
            file_entry("/opt/firstlight/report", (INSTALLER / "report").read_text(), 0o755),
            units=[
                {"name": "firstlight-report.service", "enabled": True, "contents": unit},
                {"name": "sleep.target", "mask": True},
            ],
            users=[{"name": "core", "sshAuthorizedKeys": [key], "shell": "/bin/bash"}],
        )

    def grant(self) -> dict[str, Any]:
        """Return the answer to an accepted begin."""
        disk = self.manifest.disk
        shown = "0" * 64 if self.wrong_sum else disk.sha256
        config = hashlib.sha256(self.installed()).hexdigest()
        return {
            "attempt": len(self.begins),
            "image": {
                "url": f"http://{SERVER}:8080/artifacts/sha256/{disk.sha256}",
                "sha256": shown,
                "size": disk.size,
                "rawSize": self.manifest.raw_size,
            },
            "config": {
                "url": f"https://{SERVER}:8443/v1/machine/config?mac={MAC}&arm={self.arm}",
                "sha256": config,
            },
        }

    def wait_for(self, kind: str, seconds: float, count: int = 1) -> dict[str, Any]:
        """Return the last of `count` events of this kind, or fail after `seconds`."""

        def matching() -> list[dict[str, Any]]:
            return [event for event in self.events if event["kind"] == kind]

        with self.changed:
            seen = self.changed.wait_for(lambda: len(matching()) >= count, timeout=seconds)
            assert seen, f"no {kind} event within {seconds} s; seen: {[e['kind'] for e in self.events]}"
            return matching()[-1]


def impatient(script: str) -> str:
    """Return the installer with short waits after a failure; everything else is as shipped."""
    for long, short in (("FL_TRIES:-8", "FL_TRIES:-2"), ("FL_FAILED_WAIT:-30", "FL_FAILED_WAIT:-1")):
        assert long in script
        script = script.replace(long, short)
    return script


def document(*files: dict[str, Any], units: object = (), users: object = ()) -> bytes:
    """Return an Ignition document."""
    return json.dumps(
        {
            "ignition": {"version": "3.3.0"},
            "storage": {"files": files},
            "systemd": {"units": units},
            "passwd": {"users": users},
        }
    ).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as web would."""

    protocol_version = "HTTP/1.1"
    appliance: Appliance

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Keep the test's output clean."""

    def answer(self, status: int, body: bytes) -> None:
        """Send a whole answer."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Serve documents and artifacts."""
        address = urlsplit(self.path)
        if address.path == "/v1/ignition/" + MAC.replace(":", "-"):
            self.answer(200, self.appliance.live())
        elif address.path == "/v1/machine/config" and parse_qs(address.query)["arm"] == [self.appliance.arm]:
            self.answer(200, self.appliance.installed())
        elif address.path.startswith("/artifacts/sha256/"):
            self.artifact(address.path.rsplit("/", 1)[1])
        else:
            self.answer(404, b"{}")

    def artifact(self, name: str) -> None:
        """Serve one range of a file; once, cut it short when the test wants so."""
        asked = self.headers["Range"].removeprefix("bytes=")
        first, last = (int(text) for text in asked.split("-"))
        self.appliance.ranges.append(asked)
        path = artifacts.artifact_path(self.appliance.cache, name)
        with path.open("rb") as content:
            content.seek(first)
            body = content.read(last - first + 1)
        self.send_response(206)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Range", f"bytes {first}-{last}/{path.stat().st_size}")
        self.end_headers()
        if self.appliance.cut_after is not None and first >= self.appliance.cut_after:
            self.appliance.cut_after = None
            self.wfile.write(body[: len(body) // 3])
            self.connection.close()
            return
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Take begins and events."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        appliance = self.appliance
        if self.path == "/v1/machine/begin":
            appliance.begins.append(body)
            if appliance.refuse:
                self.answer(409, json.dumps({"reason": appliance.refuse}).encode())
            else:
                self.answer(200, json.dumps(appliance.grant()).encode())
        elif body["kind"] in appliance.deaf_to:
            self.connection.shutdown(2)
        else:
            with appliance.changed:
                appliance.events.append(body)
                appliance.changed.notify_all()
            self.answer(200, json.dumps({"seq": len(appliance.events)}).encode())


class Server(http.server.ThreadingHTTPServer):
    """An HTTP server that does not print lost connections."""

    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: the tests cut connections on purpose."""


def make_keys(folder: Path) -> None:
    """Make a CA, a server certificate for SERVER, and an SSH key."""
    common = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    sh("openssl", "req", "-x509", *common, "-days", "30", "-subj", "/CN=provisioning", "-keyout", "ca.key",
       "-out", "ca.crt", cwd=folder)  # fmt: skip
    sh("openssl", "req", *common, "-subj", "/CN=appliance", "-keyout", "server.key", "-out", "server.csr",
       cwd=folder)  # fmt: skip
    (folder / "san").write_text(f"subjectAltName=IP:{SERVER}\n")
    sh("openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
       "-days", "30", "-extfile", "san", "-out", "server.crt", cwd=folder)  # fmt: skip
    sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "id"))


@dataclass(frozen=True)
class Disk:
    """One disk of the virtual machine."""

    path: Path
    serial: str
    bus: str = "virtio"


class Bench:
    """A private network with one virtual machine on it."""

    def __init__(self, folder: Path, appliance: Appliance) -> None:
        self.folder = folder
        self.appliance = appliance
        self.name = f"fl-image-{os.getpid()}"
        self.stack = contextlib.ExitStack()
        self.machine: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._network(stack)
            self._servers(stack)
            stack.callback(self.power_off)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stack.close()

    def inside(self, *argv: str) -> tuple[str, ...]:
        """Return the command that runs `argv` in the namespace."""
        return ("ip", "netns", "exec", self.name, *argv)

    def _network(self, stack: contextlib.ExitStack) -> None:
        sh("ip", "netns", "add", self.name)
        stack.callback(sh, "ip", "netns", "del", self.name)
        for line in (
            "link set lo up",
            "link add br0 type bridge",
            f"addr add {SERVER}/24 dev br0",
            "link set br0 up",
            "tuntap add tap0 mode tap",
            "link set tap0 master br0 up",
        ):
            sh("ip", "-n", self.name, *line.split())
        argv = ("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=br0",
                "--bind-interfaces", f"--dhcp-range={SERVER},static,255.255.255.0", f"--dhcp-host={MAC},{ADDRESS}",
                "--dhcp-authoritative", f"--dhcp-leasefile={self.folder}/leases", "--user=root",
                "--dhcp-option=option:router", f"--pid-file={self.folder}/dnsmasq.pid")  # fmt: skip
        with (self.folder / "dnsmasq.log").open("wb") as log:
            process = subprocess.Popen(self.inside(*argv), stderr=log)
        stack.callback(finish, process)

    def _servers(self, stack: contextlib.ExitStack) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.appliance.folder / "server.crt", self.appliance.folder / "server.key")
        handler = type("BoundHandler", (Handler,), {"appliance": self.appliance})
        for port, tls in ((8080, None), (8443, context)):
            server = self._bind(handler, port)
            if tls is not None:
                server.socket = tls.wrap_socket(
                    server.socket, server_side=True, do_handshake_on_connect=False
                )
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)

    def _bind(self, handler: type, port: int) -> Server:
        # A socket stays in the namespace of the thread that opened it; only that thread is moved.
        made: list[Server] = []

        def work() -> None:
            with Path(f"/run/netns/{self.name}").open() as namespace:
                assert ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) == 0
            made.append(Server((SERVER, port), handler))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return made[0]

    def power_on(
        self, disks: tuple[Disk, ...], console: str, *, live: bool = False, uefi: bool = False
    ) -> None:
        """Start the machine: the installer by kernel and initrd, or whatever its first disk boots."""
        self.power_off()
        argv = ["qemu-system-x86_64", *ACCEL, "-m", "2048", "-smp", "2", "-nographic", "-no-user-config", "-nodefaults",
                "-chardev", f"file,id=console,path={self.folder}/{console}", "-serial", "chardev:console",
                "-device", "virtio-rng-pci", "-netdev", "tap,id=net0,ifname=tap0,script=no,downscript=no",
                "-device", f"virtio-net-pci,netdev=net0,mac={MAC},romfile="]  # fmt: skip
        argv += self._live_argv() if live else []
        argv += self._firmware_argv() if uefi else []
        argv += disk_argv(disks)
        self.machine = subprocess.Popen(self.inside(*argv), stdin=subprocess.DEVNULL, start_new_session=True)

    def _live_argv(self) -> list[str]:
        manifest, cache = self.appliance.manifest, self.appliance.cache
        arguments = (
            f"boot=firstlight ip=dhcp BOOTIF=01-{MAC.replace(':', '-')} ignition.platform.id=metal "
            f"ignition.config.url=http://{SERVER}:8080/v1/ignition/{MAC.replace(':', '-')} "
            f"firstlight.arm={self.appliance.arm} console=tty0 console=ttyS0,115200 panic=30"
        )
        kernel = artifacts.artifact_path(cache, manifest.kernel.sha256)
        initrd = artifacts.artifact_path(cache, manifest.initrd.sha256)
        return ["-no-reboot", "-kernel", f"{kernel}", "-initrd", f"{initrd}", "-append", arguments]

    def _firmware_argv(self) -> list[str]:
        variables = self.folder / "vars.fd"
        shutil.copy("/usr/share/OVMF/OVMF_VARS_4M.fd", variables)
        return ["-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
                "-drive", f"if=pflash,format=raw,file={variables}"]  # fmt: skip

    def wait_off(self, seconds: float) -> None:
        """Wait until the machine has restarted, which ends a live run."""
        assert self.machine is not None
        self.machine.wait(timeout=seconds)

    def power_off(self) -> None:
        """Cut the power."""
        if self.machine is not None and self.machine.poll() is None:
            os.killpg(self.machine.pid, signal.SIGKILL)
        if self.machine is not None:
            self.machine.wait()

    def console(self, name: str) -> str:
        """Return what the machine has printed."""
        return (self.folder / name).read_text(errors="replace")

    def ssh(self, *command: str) -> str:
        """Run a command in the installed system."""
        options = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
                   "-o", "BatchMode=yes", "-o", "ConnectTimeout=20")  # fmt: skip
        key = str(self.appliance.folder / "id")
        return sh(*self.inside("ssh", *options, "-i", key, f"core@{ADDRESS}", *command))


def disk_argv(disks: tuple[Disk, ...]) -> list[str]:
    """Return QEMU's arguments for the disks."""
    argv: list[str] = []
    for number, disk in enumerate(disks):
        argv += ["-drive", f"if=none,id=d{number},format=raw,cache=unsafe,file={disk.path}"]
        kind = {"virtio": "virtio-blk-pci", "scsi": "scsi-hd", "nvme": "nvme"}[disk.bus]
        if disk.bus == "scsi":
            argv += ["-device", f"virtio-scsi-pci,id=scsi{number}"]
        bus = f",bus=scsi{number}.0" if disk.bus == "scsi" else ""
        argv += ["-device", f"{kind},drive=d{number},serial={disk.serial}{bus}"]
    return argv


def finish(process: subprocess.Popen[bytes]) -> None:
    """End a helper process."""
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def empty_disk(path: Path, size: int) -> Path:
    """Make a sparse disk of `size` bytes."""
    with path.open("wb") as disk:
        disk.truncate(size)
    return path


def waited(seconds: float) -> Iterator[None]:
    """Yield until `seconds` are over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.5)
